"""How likely each image is bad, and whether such numbers keep what they promise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.anchoring import Labels, boundary
from blemish.calibration.decision import Decision
from blemish.calibration.tail import low_tail
from blemish.images import ANOMALOUS, NORMAL, UNKNOWN
from blemish.machine.errors import RequestError
from blemish.scores.cuts import median_and_deviation

KNOTS = 64
FOLDS = 5
FEWEST_REVIEWED = 10  # to say anything about reliability
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Probability:
    """The chance of being bad by score: straight lines between knots, constant beyond; it never falls.

    Attributes
    ----------
    scores : (K,) rising.
    values : (K,) 0..1.
    assumption : what has to be true for it to be right, one sentence.
    """

    scores: tuple[float, ...]
    values: tuple[float, ...]
    assumption: str

    def __post_init__(self) -> None:
        """Check what a damaged file could hold."""
        if len(self.scores) != len(self.values) or not self.scores or list(self.scores) != sorted(self.scores):
            raise RequestError("The knots of a probability must be rising scores with a value each.")

    def of(self, scores: Array) -> Array:
        """Of scores (N,), (N,), 0..1."""
        chance: Array = np.interp(np.asarray(scores, dtype=np.float64), self.scores, self.values)
        return chance

    def to_json(self) -> dict[str, Any]:
        """As it stands in `config.json`."""
        return {"scores": list(self.scores), "values": list(self.values), "assumption": self.assumption}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Probability":
        """What `to_json` gave."""
        return cls(tuple(stored["scores"]), tuple(stored["values"]), str(stored["assumption"]))


def probability(scores: Array, decision: Decision, labels: Labels | None = None) -> Probability | None:
    """The chance of being bad by score, from training scores (N,) and labels (N,) where a person gave some.

    Without labels it is one less the local false discovery rate: how many good images the tail of the low part leads
    one to expect around a score, against how many images there are. None where the scores have no such tail.
    """
    if labels is not None and np.isin(labels, (NORMAL, ANOMALOUS)).any():
        return _from_labels(scores, labels, decision)
    return _from_tail(scores)


def _from_tail(scores: Array) -> Probability | None:
    from sklearn.isotonic import IsotonicRegression

    tail = low_tail(scores)
    if tail is None:
        return None
    above = np.sort(np.asarray(scores, dtype=np.float64)[scores > tail.middle])[::-1]
    if not len(above):
        return None
    expected = np.diff(tail.expected(above), prepend=0.0)  # good images down to each score
    rate = IsotonicRegression(increasing=False).fit(above[::-1], expected[::-1]).predict(above[::-1])
    knots, values = _thinned(above[::-1], 1 - np.clip(rate, 0, 1))
    return Probability(
        (tail.middle, *knots), (0.0, *values), "Good images follow the law that their low part shows (Gumbel)."
    )


def _from_labels(scores: Array, labels: Labels, decision: Decision) -> Probability:
    deviation = median_and_deviation(scores)[1] or float(np.std(scores)) or 1.0
    found = boundary(scores, labels, decision.threshold, deviation, deviation)
    knots = np.linspace(float(np.min(scores)), float(np.max(scores)), KNOTS)
    knots = np.unique(np.concatenate([knots, found.middle + found.width * np.linspace(-6, 6, KNOTS)]))
    values = found.probability(knots)
    return Probability(tuple(knots.tolist()), tuple(values.tolist()), "Unreviewed images are like reviewed ones.")


def _thinned(knots: Array, values: Array) -> tuple[list[float], list[float]]:
    """The ends of each run of equal values, which are all that straight lines need."""
    kept = np.ones(len(values), dtype=bool)
    kept[1:-1] = (values[1:-1] != values[:-2]) | (values[1:-1] != values[2:])
    return knots[kept].tolist(), values[kept].tolist()


@dataclass(frozen=True)
class ReliabilityBin:
    """Reviewed images of about one probability: the mean that was promised, the share that was bad, how many."""

    promised: float
    bad: float
    count: int


def reliability(scores: Array, labels: Labels, decision: Decision, bins: int = 5) -> list[ReliabilityBin]:
    """Whether the probabilities hold on reviewed images that had no part in them; empty with too few of those.

    The reviewed images are split in `FOLDS` parts; each is judged by the labels of the others.
    """
    known = np.flatnonzero(np.isin(labels, (NORMAL, ANOMALOUS)))
    if len(known) < FEWEST_REVIEWED:
        return []
    promised = np.empty(len(known))
    parts = np.random.default_rng(0).permutation(len(known)) % FOLDS
    for part in range(FOLDS):
        others = np.array(labels)
        others[known[parts == part]] = UNKNOWN
        found = probability(scores, decision, others)
        promised[parts == part] = found.of(scores[known[parts == part]]) if found else 0.0
    bad = labels[known] == ANOMALOUS
    order = np.argsort(promised, kind="stable")
    return [
        ReliabilityBin(float(promised[rows].mean()), float(bad[rows].mean()), len(rows))
        for rows in np.array_split(order, min(bins, len(known) // 2))
    ]
