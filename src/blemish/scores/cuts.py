"""Where to cut a vector of scores without labels. Pure functions; higher scores are more anomalous."""

import numpy as np
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.4826  # makes the median absolute deviation of a Gaussian its standard deviation
FAR, FARTHER = 4.0, 6.0  # deviations: where a crowd is cut off, and where a tail is


def median_and_deviation(scores: NDArray[np.floating]) -> tuple[float, float]:
    """The median, and the median absolute deviation scaled to a Gaussian's standard deviation."""
    middle = float(np.median(scores))
    return middle, float(np.median(np.abs(scores - middle)) * MAD_TO_SIGMA)


def median_mad(scores: NDArray[np.floating], k: float) -> float:
    """Median + k scaled median absolute deviations. Assumes that fewer than half of the images are bad."""
    middle, deviation = median_and_deviation(scores)
    return middle + k * deviation


def far_out(scores: NDArray[np.floating]) -> tuple[float, float]:
    """Median + 4 deviations where a crowd is beyond, + 6 where it may be a tail; returns the cut and 4 or 6.

    A crowd is more of the images (N,) than the heaviest tail explains: a Cauchy distribution has 5.3 % beyond 4 of its
    deviations. Clean folders have up to 5 % there, and up to 1 % beyond 6 (benchmarks/purification.md).
    """
    from scipy.stats import cauchy

    k = FAR if (scores > median_mad(scores, FAR)).mean() > cauchy.sf(FAR * MAD_TO_SIGMA) else FARTHER
    return median_mad(scores, k), k


def mixture(scores: NDArray[np.floating]) -> float:
    """Where the upper of two Gaussians fitted to the scores (N,) becomes the likelier one.

    Assumes two kinds of images whose scores are Gaussian, each in numbers. The highest score where no such place is
    found between the two means.
    """
    from sklearn.mixture import GaussianMixture

    if not np.ptp(scores):
        return float(np.max(scores))
    model = GaussianMixture(2, n_init=3, random_state=0).fit(np.asarray(scores, dtype=np.float64)[:, None])
    lower, upper = np.argsort(model.means_[:, 0])
    between = np.linspace(model.means_[lower, 0], model.means_[upper, 0], 1000)
    likelier = np.flatnonzero(model.predict_proba(between[:, None])[:, upper] > 0.5)
    return float(between[likelier[0]]) if len(likelier) else float(np.max(scores))


def unexplained(deviations: NDArray[np.floating], beyond: float = 2.5) -> float:
    """The share of the images (N,) more than `beyond` deviations above the median that chance does not explain, 0..1.

    Chance is what Gaussian good images alone would put there.
    """
    from scipy.stats import norm

    return max(0.0, float((deviations > beyond).mean()) - float(norm.sf(beyond)))
