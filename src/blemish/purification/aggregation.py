"""From the scores of all sub-models to one score and one spread an image (spec/llbnad.md, stage 1)."""

import numpy as np
from numpy.typing import NDArray

from blemish.purification.settings import PurifySettings
from blemish.scores.cuts import median_and_deviation

Vector = NDArray[np.float64]


def aggregated(matrix: Vector, own: NDArray[np.bool_], settings: PurifySettings) -> tuple[Vector, Vector]:
    """Score and spread (N,) of the scores (M, N) by all sub-models; `own` (M, N) marks each one's own subset.

    What is not a number in the matrix does not count. With the scale "deviations" the result is in deviations, too:
    0 is an ordinary image.
    """
    in_deviations = settings.scale == "deviations"
    if in_deviations:
        scales = [_scale(row[~mine] if not mine.all() else row) for row, mine in zip(matrix, own, strict=True)]
        matrix = np.stack([(row - middle) / deviation for row, (middle, deviation) in zip(matrix, scales, strict=True)])
    counted = np.where(own, np.nan, matrix) if settings.own_subset == "exclude" else matrix
    spread = np.nanstd(counted, axis=0)
    combine = np.nanmean if settings.aggregate == "mean" else np.nanmax
    scores: Vector = combine(counted, axis=0)
    if settings.aggregate == "max_variance":
        scores = (scores - np.nanmin(counted)) * spread**2
    if in_deviations:
        middle, deviation = _scale(scores)
        return (scores - middle) / deviation, spread / deviation
    return scores, spread


def _scale(scores: Vector) -> tuple[float, float]:
    """Median and deviation; a deviation of 1 where all scores are one."""
    middle, deviation = median_and_deviation(scores)
    if deviation <= 1e-12 * max(1.0, abs(middle)):
        deviation = float(scores.std()) or 1.0
    return middle, deviation
