"""Where the line is drawn, how sure that is, and what a person may ask for instead."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.machine.errors import RequestError

LARGEST = 1e6  # scores are deviations; nothing real comes near
Interval = tuple[float, float]


@dataclass(frozen=True)
class Decision:
    """Where the line is drawn and what it assumes.

    Attributes
    ----------
    threshold : images with a higher score are flagged.
    contamination : estimated share of bad images among those learned from, 0..1.
    rule : how the threshold was found, one sentence.
    assumption : what has to be true for it to be right, one sentence.
    supported : whether the scores support a threshold at all. Where they do not, it is the highest score, so that
        nothing is flagged, and `rule` says why.
    name : of the rule, as `rule` takes it; "by hand" where a person set the line.
    threshold_interval, contamination_interval : where nine of ten bootstrap samples of the scores put them; None
        where there is nothing to estimate.
    reviewed : how many reviewed images the line was anchored on.
    """

    threshold: float
    contamination: float
    rule: str
    assumption: str
    supported: bool = True
    name: str = "adaptive"
    threshold_interval: Interval | None = None
    contamination_interval: Interval | None = None
    reviewed: int = 0

    def to_json(self) -> dict[str, Any]:
        """As it stands in `config.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Decision":
        """What `to_json` gave; fields that an earlier version did not write have their defaults."""
        known = {each.name for each in fields(cls)}
        values: dict[str, Any] = {name: stored[name] for name in stored if name in known}
        for name in ("threshold_interval", "contamination_interval"):
            values[name] = tuple(values[name]) if values.get(name) is not None else None
        return cls(**values)


def check(threshold: float | None, contamination: float | None, false_alarms: float | None = None) -> None:
    """Refuse what a person cannot mean. Raises `RequestError`."""
    given = {"`threshold`": threshold, "`contamination`": contamination, "`false_alarms`": false_alarms}
    several = [name for name, value in given.items() if value is not None]
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


def at_threshold(scores: NDArray[np.float32], threshold: float) -> Decision:
    """A threshold a person chose, and the contamination that it implies."""
    share = float((scores > threshold).mean())
    told = "The threshold was set by hand.", "You know where your line lies."
    return Decision(float(threshold), share, *told, name="by hand")


def at_contamination(scores: NDArray[np.float32], contamination: float) -> Decision:
    """The threshold that flags a share of the training images that a person expects to be bad."""
    ordered = np.sort(scores)
    kept = len(ordered) - round(contamination * len(ordered))
    threshold = float(ordered[-1]) if kept >= len(ordered) else float((ordered[kept - 1] + ordered[kept]) / 2)
    rule = f"The threshold flags the share of images said to be bad, {contamination:.1%}."
    told = rule, "That share is right, and the bad images score highest."
    return Decision(threshold, contamination, *told, name="by hand")
