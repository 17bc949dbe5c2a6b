"""From scores alone, or with a few labels, to a `Decision`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.decision import (
    CLEAN,
    DEFECTS,
    UNCLEAR,
    Chance,
    Decision,
    Labels,
    at_sensitivity,
    at_threshold,
    check,
    half_chance,
    judged,
    threshold_for,
)
from blemish.calibration.decision import at_contamination as by_share
from blemish.calibration.posterior import Stretch, TwoGroups, binned, thinned, two_groups
from blemish.calibration.reference import CONFIDENCE, images_for, promised, smallest_rate
from blemish.images import ANOMALOUS, NORMAL, UNKNOWN
from blemish.scores import above

QUANTILES = (0.05, 0.95)  # of the counts
MOST_SURE = 1e-4  # no chance comes nearer to 0 or 1
WIDE = 0.25  # share of the folder: where the count may be anything in a wider range, words take the place of chances
NO_SIGN = 0.5  # chance that no image is bad, from which on that is the answer
HALF_RIGHT = 0.5  # expected F1 of the flags; below, good and bad images overlap
Array = NDArray[np.floating]
ASSUMPTION = (
    "It assumes that fewer than half of the images are bad, that bad images score higher, and that the scores of the "
    "good ones follow one law."
)


def decide(
    scores: Array,
    *,
    labels: Labels | None = None,
    normals: Array | None = None,
    reference: Array | None = None,
    stricter: Array | None = None,
    sensitivity: float | None = None,
    false_alarms: float | None = None,
    threshold: float | None = None,
    contamination: float | None = None,
) -> Decision:
    """Decide which images of a folder are bad, from their scores.

    Parameters
    ----------
    scores : (N,) of the folder, each image scored without itself.
    labels : (N,) `NORMAL` or `ANOMALOUS` where a person reviewed an image, else `UNKNOWN`.
    normals : (M,) scores of images that are known to be good and not part of the folder.
    reference : (R,) scores that a promise of false alarms rests on: the scores of `normals` by default.
    stricter : (F,) scores of these images, or of some of them, by a stricter view; see `Detector.stricter_scores`. The
        folder is decided by both, and the one that finds more bad images counts.
    sensitivity : 0..1, how many images are flagged; see `Decision`. 0.5 by default.
    false_alarms : the share of the good images that may be flagged: a promise with a reference, an estimate without.
    threshold, contamination : set by hand, in place of it.

    Raises
    ------
    RequestError : for two of the last four, or one out of its range.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = decide(np.concatenate([rng.normal(0, 1, 95), [9, 10, 11, 12, 13]]))
    >>> round(100 * found.contamination), [round(100 * share) for share in found.contamination_interval]
    (5, [4, 6])
    """
    check(threshold, contamination, false_alarms, sensitivity)
    known = np.full(len(scores), UNKNOWN) if labels is None else np.asarray(labels)
    good = np.empty(0) if normals is None else np.asarray(normals)
    compared = good if reference is None else np.asarray(reference)
    if contamination is not None:
        return replace(by_share(scores, contamination), reference=_rising(compared))
    models: list[TwoGroups] = []
    if len(scores) < 2 or not np.ptp(scores):
        found = Decision(
            float(np.max(scores)), 0.0, "All images score the same, so no threshold parts them.", "None is needed.",
            UNCLEAR, "Add images that differ, or set the threshold.",
        )  # fmt: skip
    else:
        models.append(two_groups(scores, known, good))
        if stricter is not None and len(stricter) > 1 and np.ptp(stricter):
            models.append(two_groups(scores, known, good, Stretch.between(scores, stricter)))
        found = _found(scores, known, len(good), models, sensitivity)
    found = replace(found, reference=_rising(compared))
    if false_alarms is not None:
        return _at_false_alarms(scores, found, compared, false_alarms, models)
    return found if threshold is None else at_threshold(scores, threshold, found)


def folder_chances(model: TwoGroups, scores: Array) -> Chance:
    """The chance of being bad by score, as all draws have it on average, for a folder with scores (N,)."""
    knots = chance_knots(scores)
    return mean_chance(knots, model.each_chance(knots), model.weights)


def chance_knots(scores: Array) -> Array:
    """(K,) rising scores between which a folder's chances are interpolated."""
    values = thinned(np.unique(np.asarray(scores, dtype=np.float64)))
    span = values[-1] - values[0]
    return np.concatenate([values, values[-1] + span * np.linspace(0.02, 1, 50)])


def mean_chance(knots: Array, each: Array, weights: Array) -> Chance:
    """The mean of draws, by what `each` (S, K) has for `knots` (K,), with `weights` (S,), made to rise."""
    from scipy.optimize import isotonic_regression

    rising = isotonic_regression(weights @ each).x
    return Chance(tuple(knots.tolist()), tuple(np.clip(rising, MOST_SURE, 1 - MOST_SURE).tolist()))


def _found(
    scores: Array, labels: Labels, normals: int, models: Sequence[TwoGroups], sensitivity: float | None
) -> Decision:
    """By the model that expects most bad images; the count is between the least and the most that any of them has."""
    reviewed = np.isin(labels, (NORMAL, ANOMALOUS))
    curves = [folder_chances(model, scores) for model in models]
    totals = [float(judged(curve.of(scores), labels).sum()) for curve in curves]
    chosen = int(np.argmax(totals))
    chance, expected = curves[chosen], totals[chosen]
    chances = judged(chance.of(scores), labels)
    counts = [_counts(model, scores, labels) for model in models]
    none = counts[chosen][2]
    least = min(int(expected), *(low for low, _, _ in counts))
    most = max(int(np.ceil(expected)), *(high for _, high, _ in counts))
    answer = DEFECTS if none < NO_SIGN else CLEAN if most <= WIDE * len(scores) else UNCLEAR
    shown = chance if most - least <= WIDE * len(scores) else None
    shares = least / len(scores), most / len(scores)
    found = Decision(
        0.0, expected / len(scores), "", ASSUMPTION, answer, contamination_interval=shares, chance=chance,
        reviewed=int(reviewed.sum()), stretch=models[chosen].stretch,
    )  # fmt: skip
    found = at_sensitivity(scores, 0.5 if sensitivity is None else sensitivity, found)
    if reviewed.any() and answer != CLEAN:
        found = _among_unreviewed(found, scores, chances, reviewed)
    flagged = above(scores, found.threshold)
    right = 2 * float(chances[flagged].sum()) / (float(flagged.sum()) + expected)
    if answer == DEFECTS and right < HALF_RIGHT:
        answer = UNCLEAR
    advice = _advice(answer, int(sum(band == "look" for band in found.bands(scores))), normals)
    return replace(found, answer=answer, advice=advice, chance=shown)


def _among_unreviewed(found: Decision, scores: Array, chances: Array, reviewed: NDArray[np.bool_]) -> Decision:
    """The threshold that flags as many of the images nobody reviewed as their chances add up to.

    A sensitivity other than the default has no say in that: it chose the number of all.
    """
    if reviewed.all() or found.sensitivity != 0.5:
        return found
    rest = np.asarray(scores)[~reviewed]
    threshold = threshold_for(rest, round(float(chances[~reviewed].sum())), half_chance(found.chance))
    low, high = found.look_between or (threshold, threshold)
    rule = "The threshold flags as many of the images that nobody reviewed as are believed to be bad."
    return replace(found, threshold=threshold, rule=rule, look_between=(min(low, threshold), max(high, threshold)))


def _counts(model: TwoGroups, scores: Array, labels: Labels) -> tuple[int, int, float]:
    """At least and at most so many of the images are bad in nine of ten cases, and the chance that none is."""
    values, weights = binned(np.asarray(scores, dtype=np.float64)[~np.isin(labels, (NORMAL, ANOMALOUS))])
    known = int((labels == ANOMALOUS).sum())
    chance = model.each_chance(values)
    counts = known + np.random.default_rng(0).binomial(weights.astype(int), chance).sum(1)
    order = np.argsort(counts)
    total = np.cumsum(model.weights[order])
    least, most = (counts[order][min(np.searchsorted(total, share), len(order) - 1)] for share in QUANTILES)
    none = 0.0 if known else float(model.weights @ np.exp(np.log1p(-np.minimum(chance, 1 - 1e-12)) @ weights))
    return int(least), int(most), none


def _at_false_alarms(
    scores: Array, found: Decision, reference: Array, wanted: float, models: Sequence[TwoGroups]
) -> Decision:
    if not len(reference):
        if not models:
            return found
        model = next(each for each in models if each.stretch is found.stretch)
        low, high = float(np.min(scores)), float(np.max(scores))
        grid = np.linspace(low, high + (high - low), 4000)
        threshold = float(grid[np.searchsorted(-model.good_beyond(grid), -wanted).clip(0, len(grid) - 1)])
        rule = (
            f"The threshold is the score that {wanted:.2%} of the good images are expected to exceed: an estimate. "
            f"With {images_for(wanted):,} known good images it would be a promise."
        )
        return replace(at_threshold(scores, threshold, found), rule=rule)
    threshold, promise = promised(reference, wanted)
    rule = (
        f"The threshold flags at most {promise.rate:.1%} of good images, {promise.expected:.1%} on average: so "
        f"{promise.images:,} known good images promise with a confidence of {CONFIDENCE:.1%}."
    )
    if not promise.kept:
        rule += f" {wanted:.2%} would need {images_for(wanted):,} of them."
    return replace(at_threshold(scores, threshold, found), rule=rule, promise=promise)


def _advice(answer: str, look: int, normals: int) -> str:
    if answer == DEFECTS:
        return ""
    good = f"{images_for(0.05)} images that you know to be good (`normals`) would bound the false alarms to 5 %"
    if normals:
        good = f"your {normals:,} known good images can bound the false alarms to {smallest_rate(normals):.1%}"
    if answer == CLEAN:
        which = f"If there are defects, they are probably among the {look:,} to look at; " if look else ""
        return f"{which}{good}."
    return (
        f"Good and bad images overlap: review {min(max(look, 10), 30)} of those to look at with `blemish review`, "
        f"which moves the threshold most; {good}."
    )


def _rising(reference: Array) -> tuple[float, ...]:
    return tuple(float(f"{each:.9g}") for each in np.sort(reference))
