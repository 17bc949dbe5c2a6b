"""The tail of good images, extrapolated from the low part of unlabelled scores."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST = 20  # scores; below, a tail cannot be told from noise
TRUSTED = 0.7  # share of the lowest scores, taken for good images
MISFIT = 1.63  # Kolmogorov's statistic times the root of the count, exceeded by 1 % of what does fit
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Tail:
    """The scores of good images as a Gumbel distribution, the limit law of a maximum of many.

    A score is about the highest of many patch scores, which is where the law comes from.

    Attributes
    ----------
    middle, scale : location and scale of the Gumbel distribution.
    good : estimated number of good images among all.
    trusted : the score up to which images were taken for good.
    """

    middle: float
    scale: float
    good: float
    trusted: float

    def expected(self, score: Array) -> Array:
        """How many good images score higher than each of `score`."""
        beyond: Array = -np.expm1(-np.exp(-(np.asarray(score, dtype=np.float64) - self.middle) / self.scale))
        return self.good * beyond

    def threshold(self, false_alarms: float) -> float:
        """The score that a share `false_alarms` of the good images exceeds."""
        return self.middle - self.scale * float(np.log(-np.log1p(-false_alarms)))


def low_tail(scores: Array) -> Tail | None:
    """The distribution of the good images among `scores` (N,); None where the low part does not look like it.

    Maximum likelihood on the lowest `TRUSTED` share of the scores, as a sample cut off on the right.
    """
    from scipy.optimize import minimize

    values = np.sort(np.asarray(scores, dtype=np.float64))
    if len(values) < FEWEST:
        return None
    cut = float(np.quantile(values, TRUSTED))
    low = values[values <= cut]
    spread = float(low.std())
    if spread <= 0:
        return None

    def surprise(at: Array) -> float:  # minus the log-likelihood
        scale = float(np.exp(at[1]))
        z = (low - at[0]) / scale
        end = np.exp(-(cut - at[0]) / scale)  # minus the log of the share of good images below the cut
        return float((z + np.exp(np.minimum(-z, 50.0))).sum() + len(low) * (at[1] - end))

    start = np.array([float(np.median(low)), np.log(spread)])
    middle, log_scale = minimize(surprise, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-4}).x
    scale = float(np.exp(log_scale))
    below = float(np.exp(-np.exp(-(cut - middle) / scale)))
    fitted = np.exp(-np.exp(np.minimum(-(low - middle) / scale, 50.0))) / below
    misfit = float(np.abs(fitted - np.arange(1, len(low) + 1) / len(low)).max())
    if misfit * len(low) ** 0.5 > MISFIT:
        return None
    return Tail(float(middle), scale, min(len(low) / below, float(len(values))), cut)
