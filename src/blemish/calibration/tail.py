"""The tail of good images, extrapolated from the low part of unlabelled scores."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 20  # scores; below, a tail cannot be told from noise
TRUSTED = 0.75  # share of the lowest scores taken for good images at first
ROUNDS = 25
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Tail:
    """Good images beyond `start` are `good_beyond` in number and fall off exponentially.

    Attributes
    ----------
    start : the median score, from which the tail is modelled.
    rate : of the exponential, per unit of score.
    good : estimated number of good images, of all scores; `good_beyond` of them lie above `start`.
    trusted : the score up to which images were taken for good.
    """

    start: float
    rate: float
    good: float
    good_beyond: float
    trusted: float

    def expected(self, score: Array | float) -> Array:
        """How many good images score higher than `score`, for scores of `start` or more."""
        beyond: Array = self.good_beyond * np.exp(-self.rate * (np.asarray(score) - self.start))
        return beyond

    def threshold(self, false_alarms: float) -> float:
        """The score that a share `false_alarms` of the good images exceeds, at least `start`."""
        return self.start + max(0.0, float(np.log(self.good_beyond / (false_alarms * self.good))) / self.rate)


def low_tail(scores: Array) -> Tail | None:
    """The tail of the good images among `scores` (N,); None where the low part has no falling tail.

    Excesses over a high level become exponential for a wide class of distributions (the extreme-value limit with
    shape 0). The level is the median, which most good images lie below. Only excesses up to a trusted score are
    looked at, as a truncated sample; the trusted score starts at the 75 % quantile and moves to where one more good
    image is expected, until it stays.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if len(values) < FEWEST:
        return None
    start, trusted = float(np.median(values)), float(np.quantile(values, TRUSTED))
    below = int((values <= start).sum())
    found = None
    for _ in range(ROUNDS):
        inside = values[(values > start) & (values <= trusted)] - start
        rate = _truncated_rate(inside, trusted - start)
        if rate is None:
            return found
        beyond = len(inside) / -np.expm1(-rate * (trusted - start))
        beyond = min(beyond, len(values) - below)
        found = Tail(start, rate, below + beyond, beyond, trusted)
        further = min(start + float(np.log(max(beyond, 1.0))) / rate, float(values[-1]))
        if further <= trusted or (values <= further).sum() == (values <= trusted).sum():
            return found
        trusted = further
    return found


def _truncated_rate(excesses: Array, limit: float) -> float | None:
    """Maximum-likelihood rate of an exponential of which only excesses (n,) in (0, limit] are seen."""
    from scipy.optimize import brentq

    if len(excesses) < 3 or limit <= 0:
        return None
    mean = float(excesses.mean()) / limit
    if not 0 < mean < 0.49:  # as many high as low excesses: nothing falls off
        return None

    def too_slow(x: float) -> float:  # x = rate * limit; the mean of a truncated exponential, less the one seen
        return 1 / x - 1 / np.expm1(x) - mean

    return float(brentq(too_slow, 1e-6, 700.0)) / limit
