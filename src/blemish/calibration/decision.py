"""What is decided of a folder: the threshold, how many are bad and how sure that is, what to do with each image."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.posterior import Curve, Stretch
from blemish.calibration.reference import Promise
from blemish.images import ANOMALOUS, NORMAL
from blemish.machine.errors import RequestError
from blemish.scores import above

LARGEST = 1e6  # scores are deviations; nothing real comes near
ALL_BUT = 0.95  # the chance from which on nobody has to look
SURE = 0.999  # the chance of an image that a person called bad: people err, too
DEFECTS, CLEAN, UNCLEAR = "defects", "none", "unclear"
Band = Literal["reject", "look", "pass"]
BAND_WORDS: dict[Band, str] = {"reject": "reject", "look": "look at it", "pass": "pass"}
Array = NDArray[np.floating]
Labels = NDArray[np.int64]
Interval = tuple[float, float]


class Chance(Curve):
    """The chance of being bad by score, above 0 and below 1.

    Examples
    --------
    >>> Chance((0.0, 4.0), (0.1, 0.9)).of([2.0, 9.0]).round(3).tolist()
    [0.5, 0.9]
    """


@dataclass(frozen=True)
class Decision:
    """The threshold, how many images are bad, and what follows for each image.

    Attributes
    ----------
    threshold : images with a higher score are flagged.
    contamination : estimated share of bad images in the folder, 0..1: the images' chances, added up.
    rule : how the threshold was found, one sentence.
    assumption : what has to be true for it to be right, one sentence.
    answer : "defects"; "none" where nothing stands out clearly; "unclear" where good and bad images overlap.
    advice : what would help, one sentence; empty where nothing has to.
    contamination_interval : the share that is bad is between these in nine of ten cases; None for one set by hand.
    look_between : above the second score an image is to be rejected, up to the first it passes, between them somebody
        should look at it; None where everything flagged is rejected.
    chance : of being bad, by score; None where the scores tell too little for numbers.
    sensitivity : 0 flags as many images as are bad at the least, 0.5 as many as expected, 1 as many as at the most;
        None for a threshold found in another way.
    reviewed : how many reviewed images had their say.
    promise : the share of good images that may be flagged, and how sure that is; needs known good images.
    reference : their scores, rising.
    stretch : what scores became before the model saw them; None for nothing else.
    """

    threshold: float
    contamination: float
    rule: str
    assumption: str
    answer: str = DEFECTS
    advice: str = ""
    contamination_interval: Interval | None = None
    look_between: Interval | None = None
    chance: Chance | None = None
    sensitivity: float | None = None
    reviewed: int = 0
    promise: Promise | None = None
    reference: tuple[float, ...] = ()
    stretch: Stretch | None = None

    def bands(self, scores: Array, labels: Labels | None = None) -> list[Band]:
        """What to do with images of scores (N,): reject, look or pass; what a person found (`labels`, (N,)) decides."""
        low, high = (np.float32(each) for each in self.look_between or (self.threshold, self.threshold))
        found: list[Band] = [
            "reject" if score > high else "look" if score > low else "pass" for score in np.asarray(scores, np.float32)
        ]
        if labels is None:
            return found
        judged: dict[int, Band] = {ANOMALOUS: "reject", NORMAL: "pass"}
        return [judged.get(int(label), band) for label, band in zip(labels, found, strict=True)]

    def unusual_above(self, scores: Array) -> float:
        """The threshold; where none of scores (N,) is above it, the score above which images are to be looked at."""
        if self.look_between and not above(scores, self.threshold).any():
            return self.look_between[0]
        return self.threshold

    def chances(self, scores: Array, labels: Labels | None = None) -> NDArray[np.float64] | None:
        """(N,) of being bad; nearly sure where `labels` (N,) hold what a person found. None without numbers."""
        if self.chance is None:
            return None
        return judged(self.chance.of(scores), labels)

    def to_json(self) -> dict[str, Any]:
        """For `config.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Decision":
        """What `to_json` gave; fields that an earlier version did not write have their defaults."""
        known = {each.name for each in fields(cls)}
        values: dict[str, Any] = {name: stored[name] for name in stored if name in known}
        for name in ("contamination_interval", "look_between"):
            values[name] = tuple(values[name]) if values.get(name) is not None else None
        curves: dict[str, type[Curve]] = {"chance": Chance, "stretch": Stretch}
        for name, kind in curves.items():
            if (curve := values.get(name)) is not None:
                values[name] = kind(tuple(curve["scores"]), tuple(curve["values"]))
        if (promise := values.get("promise")) is not None:
            values["promise"] = Promise(**promise)
        values["reference"] = tuple(values.get("reference", ()))
        return cls(**values)


def judged(chance: NDArray[np.float64], labels: Labels | None) -> NDArray[np.float64]:
    """`chance` (N,), `SURE` or its opposite where `labels` (N,) say what a person found."""
    if labels is None:
        return chance
    return np.where(labels == ANOMALOUS, SURE, np.where(labels == NORMAL, 1 - SURE, chance))


def check(
    threshold: float | None,
    contamination: float | None,
    false_alarms: float | None = None,
    sensitivity: float | None = None,
) -> None:
    """Refuse what a person cannot mean. Raises `RequestError`."""
    options = {
        "`threshold`": threshold, "`contamination`": contamination, "`false_alarms`": false_alarms,
        "`sensitivity`": sensitivity,
    }  # fmt: skip
    several = [name for name, value in options.items() if value is not None]
    if len(several) > 1:
        raise RequestError(f"{several[0]} and {several[1]} exclude each other; give one.")
    if threshold is not None and not abs(threshold) <= LARGEST:
        raise RequestError(f"`threshold` must be a number between -{LARGEST:.0e} and {LARGEST:.0e}; got {threshold}.")
    if contamination is not None and not 0 <= contamination < 1:
        raise RequestError(f"`contamination` is a share of the images, 0 up to less than 1; got {contamination}.")
    if false_alarms is not None and not 0 < false_alarms < 0.5:
        raise RequestError(
            f"`false_alarms` is the share of good images that may be flagged, above 0 and below 50%; got "
            f"{false_alarms:g}."
        )
    if sensitivity is not None and not 0 <= sensitivity <= 1:
        raise RequestError(
            f"`sensitivity` runs from 0, which flags few images, to 1, which flags many; got {sensitivity:g}."
        )


def at_threshold(scores: Array, threshold: float, found: Decision | None = None) -> Decision:
    """A threshold that a person chose: what is above it is to be rejected.

    What was `found` of the folder with scores (N,) stays: its count and chances, and from where on to look.
    """
    rule = "The threshold was set by hand."
    if found is None:
        share = float(above(scores, threshold).mean())
        return Decision(float(threshold), share, rule, "You know where the threshold should be.")
    look = found.look_between and (min(found.look_between[0], threshold), float(threshold))
    return replace(found, threshold=float(threshold), rule=rule, look_between=look, sensitivity=None, promise=None)


def at_contamination(scores: Array, contamination: float) -> Decision:
    """The threshold that flags a share of the images with scores (N,) that a person expects to be bad."""
    return Decision(
        threshold_for(scores, round(contamination * len(scores))),
        contamination,
        f"The threshold flags the share of images that you expect to be bad, {contamination:.1%}.",
        "That share is right, and the bad images score highest.",
    )


def at_sensitivity(scores: Array, sensitivity: float, found: Decision) -> Decision:
    """The same decision with more or fewer flags; `scores` (N,) are those it was found on."""
    if found.contamination_interval is None:
        raise RequestError("`sensitivity` moves between the fewest and the most bad images that there may be; this "
                           "Run has one number set by hand. Fit again without `contamination`.")  # fmt: skip
    low, high = (share * len(scores) for share in found.contamination_interval)
    expected = 0.0 if found.answer == CLEAN else found.contamination * len(scores)
    low, high = min(low, expected), max(high, expected)
    count = round(float(np.interp(sensitivity, (0, 0.5, 1), (low, expected, high))))
    beyond = half_chance(found.chance)
    threshold = threshold_for(scores, count, beyond)
    surely, perhaps = round(low), round(high)
    if found.chance is not None:  # nobody has to look at what is all but sure
        chances = found.chance.of(scores)
        surely, perhaps = max(surely, int((chances > ALL_BUT).sum())), min(perhaps, int((chances > 1 - ALL_BUT).sum()))
    look = threshold_for(scores, max(perhaps, count), beyond), threshold_for(scores, min(surely, count), beyond)
    rule = "The threshold flags as many images as are believed to be bad."
    if found.answer == CLEAN:
        rule = "Nothing stands out clearly, so the threshold is above all images."
    if sensitivity != 0.5:
        rule = f"The threshold flags {count} images, which the sensitivity {sensitivity:g} chooses between " \
               f"{round(low)} and {round(high)}."  # fmt: skip
    return replace(
        found, threshold=threshold, rule=rule, look_between=look, sensitivity=float(sensitivity), promise=None
    )


def moved(
    scores: Array,
    found: Decision,
    *,
    threshold: float | None = None,
    contamination: float | None = None,
    sensitivity: float | None = None,
) -> Decision:
    """The decision `found` on scores (N,), or with one of these in its place. Raises `RequestError`."""
    check(threshold, contamination, sensitivity=sensitivity)
    if threshold is not None:
        return at_threshold(scores, threshold, found)
    if contamination is not None:
        return at_contamination(scores, contamination)
    return found if sensitivity is None else at_sensitivity(scores, sensitivity, found)


def threshold_for(scores: Array, count: int, beyond: float | None = None) -> float:
    """The threshold that flags the `count` highest of scores (N,); fewer where equal scores would be parted.

    In the middle of the gap below them. With none to flag it is the highest score, or `beyond` if that is higher.
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float32))[::-1]
    count = min(count, len(ordered))
    if count == len(ordered):
        return float(np.nextafter(ordered[-1], np.float32(-np.inf)))
    while count > 0 and ordered[count - 1] == ordered[count]:
        count -= 1
    if count == 0:
        return max(float(ordered[0]), beyond if beyond is not None else -np.inf)
    middle = np.float32((float(ordered[count - 1]) + float(ordered[count])) / 2)
    return float(middle if middle < ordered[count - 1] else ordered[count])


def half_chance(chance: Chance | None) -> float | None:
    """The score from which on an image is more likely bad than good; None if there is none."""
    if chance is None:
        return None
    over = np.flatnonzero(np.array(chance.values) >= 0.5)
    return chance.scores[over[0]] if len(over) else None
