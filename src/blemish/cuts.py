"""Where to cut a vector of scores without labels. Pure functions; higher scores are more anomalous."""

import numpy as np
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.4826  # makes the median absolute deviation of a Gaussian its standard deviation


def median_and_deviation(scores: NDArray[np.floating]) -> tuple[float, float]:
    """The median, and the median absolute deviation scaled to a Gaussian's standard deviation."""
    middle = float(np.median(scores))
    return middle, float(np.median(np.abs(scores - middle)) * MAD_TO_SIGMA)


def median_mad(scores: NDArray[np.floating], k: float) -> float:
    """Median + k scaled median absolute deviations. Assumes that fewer than half of the images are bad."""
    middle, deviation = median_and_deviation(scores)
    return middle + k * deviation
