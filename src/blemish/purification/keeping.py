"""From purification scores to the images that are kept."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.purification.purify_settings import PurifySettings
from blemish.scores.cuts import far_out, median_and_deviation, median_mad, mixture

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """Which images are kept; see `Purification` for the parts."""

    kept: NDArray[np.bool_]
    limit: float
    rule: str
    notes: tuple[str, ...]


def chosen(
    scores: NDArray[np.float64],
    good: NDArray[np.bool_],
    bad: NDArray[np.bool_],
    settings: PurifySettings,
    least: int,
    groups: NDArray[np.int64],
) -> Choice:
    """Keep what scores low, (N,).

    Images in `good` (N,) are kept and those in `bad` (N,) are not, whatever they score. Images of at least `least`
    different `groups` (N,) are kept: fewer could not be learned from.
    """
    unknown = ~(good | bad)
    open_scores = scores[unknown]
    notes: list[str] = []
    if not len(open_scores):
        return Choice(good, float(scores.max()), "Every image is labelled; there was nothing to decide.", ())
    ordered = np.sort(open_scores)
    if settings.keep is not None:
        count = round(settings.keep * len(open_scores))
        rule = f"The {settings.keep:.1%} of the images that score lowest are kept."
        limit = float(ordered[count - 1] if count else np.nextafter(ordered[0], -np.inf))
    else:
        # copies of an image count once: many of them would be all that is ordinary
        limit, rule = cut(np.unique(np.stack([groups[unknown], open_scores]), axis=1)[1], settings)
        count = int((open_scores <= limit).sum())
    order = np.flatnonzero(unknown)[np.argsort(open_scores, kind="stable")]
    missing = _enough(groups[order], set(groups[good].tolist()), least)
    if count < missing:
        notes.append(
            f"The cut would have kept {count} of {len(open_scores)} images; the {missing} that score lowest were kept: "
            "fewer are too few to learn from."
        )
        count, limit = missing, float(ordered[missing - 1])
    lowest = np.zeros(len(scores), dtype=bool)
    lowest[order[:count]] = True
    if count == len(open_scores):
        notes.append(f"No image scored above the cut: all {count} were kept, nothing was set aside.")
    return Choice(good | lowest, limit, rule, tuple(notes))


def _enough(groups: NDArray[np.int64], held: set[int], least: int) -> int:
    """How many images, in the order of their `groups` (n,), bring the groups `held` up to `least`; all if none do."""
    for count, group in enumerate(groups.tolist()):
        if len(held) >= least:
            return count
        held = held | {group}
    return len(groups)


def cut(scores: NDArray[np.float64], settings: PurifySettings) -> tuple[float, str]:
    """The label-free limit for scores (N,), and the sentence about it."""
    if settings.cut == "mixture":
        rule = "two Gaussians are fitted to the scores, and images that belong to the upper one are set aside."
        return mixture(scores), f"Without labels: {rule}"
    limit, k = far_out(scores) if settings.cut == "far_out" else (median_mad(scores, settings.k), settings.k)
    rule = f"images above the median score plus {k:g} scaled median absolute deviations are set aside."
    if settings.cut == "mad" and k <= PurifySettings.k:
        rule += " This is strict on purpose: unusual good images go, too, so that few defects stay; `fit` flags fewer."
    return limit, f"Without labels: {rule}"


def aggregated(matrix: Vector, own: NDArray[np.bool_], settings: PurifySettings) -> tuple[Vector, Vector]:
    """Score and spread (N,) of the scores (M, N) by all sub-models; `own` (M, N) marks each one's own subset.

    What is not a number in the matrix does not count. With the scale "deviations" the result is in deviations, too:
    0 is an ordinary image.
    """
    in_deviations = settings.scale == "deviations"
    if in_deviations:
        scales = [_scale(row[~mine] if not mine.all() else row) for row, mine in zip(matrix, own, strict=True)]
        matrix = np.stack([(row - middle) / deviation for row, (middle, deviation) in zip(matrix, scales, strict=True)])
    counted = np.where(own, np.nan, matrix) if settings.own_subset == "exclude" else matrix
    spread = np.nanstd(counted, axis=0)
    combine = np.nanmean if settings.aggregate == "mean" else np.nanmax
    scores: Vector = combine(counted, axis=0)
    if settings.aggregate == "max_variance":
        scores = (scores - np.nanmin(counted)) * spread**2
    if in_deviations:
        middle, deviation = _scale(scores)
        return (scores - middle) / deviation, spread / deviation
    return scores, spread


def _scale(scores: Vector) -> tuple[float, float]:
    """Median and deviation; a deviation of 1 where all scores are one."""
    middle, deviation = median_and_deviation(scores)
    if deviation <= 1e-12 * max(1.0, abs(middle)):
        deviation = float(scores.std()) or 1.0
    return middle, deviation
