"""Where to cut a vector of scores without labels. Pure functions; higher scores are more anomalous."""

import numpy as np
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.4826  # makes the median absolute deviation of a Gaussian its standard deviation
NEAREST, LONE, FARTHEST = 2.0, 3.0, 4.0  # deviations: lowest line, line where nothing stands out, highest line
CHANCE = 0.5  # share of what is cut off that Gaussian good images may account for
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
    """Median + 4 deviations where a crowd lies beyond, + 6 where it may be a tail; returns the cut and 4 or 6.

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


def adaptive_mad(scores: NDArray[np.floating]) -> tuple[float, float]:
    """Median + k deviations with the k that the scores themselves support; returns the cut and k.

    k is 2, unless Gaussian good images alone would account for more than half of what lies beyond (the count that
    Benjamini and Hochberg compare): then it grows to where they do not, up to 3. Where the bad images lie far out, k
    moves to the geometric middle between 1 and their median, up to 4: there is room, and unusual good images live
    in it. On the development sets this keeps more of the best possible F1 than any fixed k (benchmarks/threshold.md).
    With a deviation of 0, nothing but standard deviations is left to cut by.
    """
    middle, deviation = median_and_deviation(scores)
    if deviation <= 0:
        return middle + LONE * float(np.std(scores)), LONE
    k = _supported((scores - middle) / deviation)
    beyond = (scores - middle) / deviation
    beyond = beyond[beyond > k]
    if len(beyond):
        k = min(max(k, float(np.sqrt(np.median(beyond)))), FARTHEST)
    return middle + k * deviation, k


def unexplained(deviations: NDArray[np.floating], beyond: float = 2.5) -> float:
    """The share of the images (N,) more than `beyond` deviations above the median that chance does not explain, 0..1.

    Chance is what Gaussian good images alone would put there.
    """
    from scipy.stats import norm

    return max(0.0, float((deviations > beyond).mean()) - float(norm.sf(beyond)))


def _supported(deviations: NDArray[np.floating]) -> float:
    from scipy.special import ndtr

    z = np.sort(deviations)[::-1]
    by_chance, found = len(z) * ndtr(-z), np.arange(1, len(z) + 1)
    supported = np.flatnonzero((by_chance <= CHANCE * found) & (z >= NEAREST))
    if not len(supported):
        return LONE
    last = int(supported[-1])
    if last + 1 == len(z) or z[last + 1] < NEAREST:
        return NEAREST
    return float(np.clip(z[last] - 1e-9, NEAREST, LONE))
