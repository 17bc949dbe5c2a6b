"""The image score that LLBNAD publishes: the mean of the top 1 % of a smoothed map."""

import math

import numpy as np
from numpy.typing import NDArray

from blemish.machine.runtime import side_by_side
from blemish.scores import Scores

SIDE, SIGMA = 224, 4.0  # pixels: of a square of the map's area, and of the Gaussian (spec/llbnad.md, stage 1)
SHARE = 0.01


def map_scores(scores: Scores) -> NDArray[np.float64]:
    """(N,) from the maps of `scores`, each brought to the area of 224 x 224 pixels with its aspect kept."""
    return np.array(side_by_side(lambda name: _of_one(scores, name), scores.ids))


def _of_one(scores: Scores, name: str) -> float:
    from scipy.ndimage import gaussian_filter

    width, height = scores.sizes[scores.index(name)]
    root = math.sqrt(width / height)
    size = (max(1, round(SIDE * root)), max(1, round(SIDE / root)))
    smooth = gaussian_filter(scores.map(name, size), SIGMA).ravel()
    most = max(1, round(SHARE * len(smooth)))
    return float(np.partition(smooth, -most)[-most:].mean())
