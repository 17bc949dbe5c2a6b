"""What a few reviewed images say about where good ends and bad begins."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.images import ANOMALOUS, NORMAL

STEEP = 0.5  # deviations over which the chance of being bad falls from 0.73 to 0.5, before anything was reviewed
SURE = 1.5  # the factor within which two of three counts without labels are right (benchmarks/threshold.md)
TINY = 1e-12  # no boundary has a count of 0, whose logarithm there is not
Array = NDArray[np.floating]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Boundary:
    """The chance of being bad is logistic in the score: a half at `middle`, over a range of `width`."""

    middle: float
    width: float

    def probability(self, scores: Array) -> Array:
        """Of scores (N,), (N,), 0..1."""
        from scipy.special import expit

        chance: Array = expit((np.asarray(scores, dtype=np.float64) - self.middle) / self.width)
        return chance


def boundary(scores: Array, labels: Labels, line: float, spread: float, deviation: float) -> Boundary:
    """The likeliest boundary given the reviewed images among `scores` (N,) and a label-free `line`.

    `labels` (N,) hold `NORMAL` or `ANOMALOUS` where an image was reviewed. Which images are reviewed may depend on
    their scores, as in a ranking: the chance of being bad is modelled given the score. Before any label the boundary
    lies at `line`, give or take `spread`, its width is `STEEP` `deviation`s, give or take a factor of e, and as many
    images are bad as lie above `line`, give or take a factor of `SURE`; so one label moves it a little, and thirty
    decide. Without the count, labels that overlap widen the boundary until it reaches into the bulk of the good images.
    """
    from scipy.optimize import minimize
    from scipy.special import log_expit

    known = (labels == NORMAL) | (labels == ANOMALOUS)
    values = np.asarray(scores, dtype=np.float64)
    sign = np.where(labels[known] == ANOMALOUS, 1.0, -1.0)
    above = (values > line).mean()  # 0 says nothing of how many are bad

    def at(moved: Array) -> Boundary:
        return Boundary(line + float(moved[0]) * spread, STEEP * deviation * float(np.exp(moved[1])))

    def surprise(moved: Array) -> float:  # minus the log of the posterior, but for a constant
        found = at(moved)
        told = -log_expit(sign * (values[known] - found.middle) / found.width).sum() + (moved**2).sum() / 2
        factor = np.maximum(found.probability(values).mean(), TINY) / above if above else 1.0
        return float(told + (np.log(factor) / np.log(SURE)) ** 2 / 2)

    return at(minimize(surprise, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6}).x)


def best_expected(scores: Array, chance: Array) -> float:
    """The threshold whose flags are expected to have the highest F1, given each image's chance of being bad."""
    order = np.argsort(-scores, kind="stable")
    ranked, found = np.asarray(scores, dtype=np.float64)[order], np.cumsum(chance[order])
    flagged = np.arange(1, len(ranked) + 1)
    cuts = np.flatnonzero(np.append(ranked[1:] < ranked[:-1], True))  # equal scores are flagged together
    if found[-1] < 0.5:
        return float(ranked[0])
    at = cuts[np.argmax((found / (flagged + found[-1]))[cuts])]
    return float((ranked[at] + ranked[at + 1]) / 2) if at + 1 < len(ranked) else float(ranked[-1] - 1e-6)


def known_chance(chance: Array, labels: Labels) -> Array:
    """`chance` (N,), 0 or 1 where an image was reviewed."""
    return np.where(labels == ANOMALOUS, 1.0, np.where(labels == NORMAL, 0.0, chance))
