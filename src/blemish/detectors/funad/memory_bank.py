"""The iteratively re-constructed memory bank: which images look normal now (spec/fun-ad.md section 3)."""

import numpy as np
from numpy.typing import NDArray

from blemish.detectors.funad.schedule import Cut
from blemish.scores.cuts import median_mad

FAR_OUT = 3.0  # scaled median absolute deviations above the median, for the cut "mad"
LEAST_IMAGES = 8  # fewer would let single images decide what is normal


def normal_looking(scores: NDArray[np.float32], cut: Cut, tau_bank: float = 0.5) -> NDArray[np.bool_]:
    """Which images (N,) look normal by their scores (N,): the set C of the paper.

    "minmax" is the published rule; one extreme image squeezes all others below the threshold. "mad" does not
    depend on the largest score.
    """
    if cut == "mad":
        return np.less_equal(scores, median_mad(scores, FAR_OUT))
    span = float(scores.max() - scores.min())
    return np.less(scores - scores.min(), tau_bank * span) if span > 0 else np.ones(len(scores), dtype=np.bool_)


def sampled(looking: NDArray[np.bool_], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of a random share of the normal-looking images, at least `LEAST_IMAGES` where there are as many."""
    rows = np.flatnonzero(looking)
    count = max(min(LEAST_IMAGES, len(rows)), round(share * len(rows)))
    return np.sort(rng.choice(rows, count, replace=False))
