"""The iteratively re-constructed memory bank: which images look normal now (spec/fun-ad.md section 3)."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemish.cuts import median_mad

Cut = Literal["minmax", "mad"]
TAU_BANK = 0.5  # FUN-AD Sec. 4.1: images whose min-max normalised score is below look normal
FAR_OUT = 3.0  # scaled median absolute deviations above the median, for the cut "mad"
SAMPLING = 0.5  # share of the normal-looking images the bank is built from, FUN-AD Sec. 4.1


def normal_looking(scores: NDArray[np.float32], cut: Cut) -> NDArray[np.bool_]:
    """Which images (N,) look normal by their scores (N,): the set C of the paper.

    "minmax" is the published rule; one extreme image squeezes all others below the threshold. "mad" does not
    depend on the largest score.
    """
    if cut == "mad":
        limit = median_mad(scores, FAR_OUT)
    else:
        limit = float(scores.min() + TAU_BANK * (scores.max() - scores.min()))
    return np.less_equal(scores, limit)


def sampled(looking: NDArray[np.bool_], rng: np.random.Generator, least: int) -> NDArray[np.int64]:
    """Rows of a random half of the normal-looking images, at least `least` of them where there are as many."""
    rows = np.flatnonzero(looking)
    count = max(min(least, len(rows)), round(SAMPLING * len(rows)))
    return np.sort(rng.choice(rows, count, replace=False))
