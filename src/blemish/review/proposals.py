"""Active review: the images whose label would teach most."""

import numpy as np
from numpy.typing import NDArray

from blemish.images import UNKNOWN
from blemish.scores import Scores

CELLS = 8  # a map is described by the means of 8 x 8 parts
LEAST_NEW = 0.05  # so that of images that are all alike some are proposed, too
Array = NDArray[np.floating]


def propose(
    scores: Array,
    chance: Array | None,
    threshold: float,
    labels: NDArray[np.int64],
    described: Array,
    groups: NDArray[np.int64],
    count: int,
) -> list[int]:
    """Rows of up to `count` images without a label, the most instructive first.

    What an image teaches is how open its label is, times how new it is: unlike those that were reviewed or proposed
    before it. Open is a chance of being bad near a half, or a score near the threshold, where the next labels move the
    line. So neither the highest scores alone nor ten pictures of one defect are proposed.

    Parameters
    ----------
    scores : (N,); `chance` (N,) of being bad, if it is known.
    labels : (N,) `UNKNOWN` where there is none.
    described : (N, D) unit vectors, see `describe`.
    groups : (N,) images that are alike share a number; one of each is proposed.
    """
    deviation = float(np.median(np.abs(scores - np.median(scores)))) * 1.4826 or 1.0
    open_ = np.exp(-np.abs(scores - threshold) / deviation)
    if chance is not None:
        open_ = 4 * chance * (1 - chance) + 0.1 * open_
    known = labels != UNKNOWN
    left = ~known & ~np.isin(groups, groups[known])
    nearest = np.zeros(len(scores))
    for seen in np.flatnonzero(known):
        nearest = np.maximum(nearest, described @ described[seen])
    found: list[int] = []
    while len(found) < count and left.any():
        worth = np.where(left, open_ * np.maximum(1 - nearest, LEAST_NEW), -1.0)
        row = int(np.argmax(worth))
        found.append(row)
        left &= groups != groups[row]
        nearest = np.maximum(nearest, described @ described[row])
    return found


def describe(scores: Scores) -> Array:
    """Where and how strongly each map stands out, as unit vectors (N, 64 or fewer)."""
    maps = np.asarray(scores.maps, dtype=np.float32)
    rows = [np.array_split(np.arange(size), min(CELLS, size)) for size in maps.shape[1:]]
    parts = np.stack([maps[:, down][:, :, across].mean(axis=(1, 2)) for down in rows[0] for across in rows[1]], axis=1)
    parts = np.maximum(parts - np.median(parts, axis=0), 0)
    length = np.linalg.norm(parts, axis=1, keepdims=True)
    described: Array = np.divide(parts, length, out=np.zeros_like(parts), where=length > 0)
    return described
