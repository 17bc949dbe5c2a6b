"""From the scores of all sub-models to one score and one spread an image (spec/llbnad.md, stage 1)."""

import numpy as np
from numpy.typing import NDArray

from blemish.cuts import median_and_deviation
from blemish.purification.settings import PurifySettings


def aggregated(
    matrix: NDArray[np.float64], own: NDArray[np.bool_], settings: PurifySettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score and spread (N,) of the scores (M, N) by all sub-models; `own` (M, N) marks each one's own subset."""
    used = np.ones_like(own) if settings.own_subset == "include" else ~own
    if settings.scale == "deviations":
        matrix = np.stack([_in_deviations(row, ~mine) for row, mine in zip(matrix, own, strict=True)])
    counted = np.where(used, matrix, np.nan)
    spread = np.nanstd(counted, axis=0)
    if settings.aggregate == "mean":
        return np.nanmean(counted, axis=0), spread
    highest = np.nanmax(counted, axis=0)
    return (highest if settings.aggregate == "max" else (highest - np.nanmin(counted)) * spread**2), spread


def _in_deviations(scores: NDArray[np.float64], strange: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Scores (N,) in deviations from the median of the images that the sub-model did not learn from."""
    reference = scores[strange] if strange.any() else scores
    middle, deviation = median_and_deviation(reference)
    if deviation <= 1e-12 * max(1.0, abs(middle)):
        deviation = float(reference.std()) or 1.0
    return (scores - middle) / deviation
