"""Whether new images are unlike those learned from as a whole: a moved camera, other light, another product."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.machine.errors import RequestError
from blemish.scores import Scores
from blemish.scores.cuts import median_and_deviation

QUANTILES = 101
FEWEST = 8  # new images, to speak of them as a whole
CHANCE = 1e-3  # of a warning where nothing has changed
FAR = 1.0  # deviations the middle must have moved: many images make the least change significant


@dataclass(frozen=True)
class Usual:
    """How far the typical patch of an image is from normal, over the training images: `QUANTILES` even quantiles.

    The typical patch is the median of the map: a single defect hardly moves it, another camera or light moves it in
    every image.
    """

    quantiles: tuple[float, ...]
    count: int

    def __post_init__(self) -> None:
        """Check what a damaged file could hold."""
        if len(self.quantiles) < 2 or list(self.quantiles) != sorted(self.quantiles):
            raise RequestError("The quantiles of the training images must rise.")

    @classmethod
    def of(cls, scores: Scores) -> "Usual":
        """From the training scores."""
        levels = np.quantile(typical_levels(scores), np.linspace(0, 1, QUANTILES))
        return cls(tuple(levels.tolist()), len(scores))

    def to_json(self) -> dict[str, Any]:
        """For `config.json`."""
        return {"quantiles": list(self.quantiles), "count": self.count}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Usual":
        """What `to_json` gave."""
        return cls(tuple(stored["quantiles"]), int(stored["count"]))

    def warning(self, scores: Scores) -> str | None:
        """A sentence if the images of `scores` are unlike the training images as a whole, else None."""
        if len(scores) < FEWEST:
            return None
        from scipy.stats import ks_2samp

        known, new = np.array(self.quantiles), typical_levels(scores)
        middle, deviation = median_and_deviation(known)
        moved = (float(np.median(new)) - middle) / deviation if deviation > 0 else 0.0
        if abs(moved) < FAR or float(ks_2samp(new, known).pvalue) > CHANCE:
            return None
        return (
            f"These {len(scores)} images are unlike those learned from as a whole: the typical place of a typical "
            f"image is {moved:+.1f} deviations from where it was. A moved camera, other light or another product does "
            "that; a single defect does not. Compare some with the old images, and fit again if the change stays."
        )


def typical_levels(scores: Scores) -> NDArray[np.float64]:
    """The median of each image's map, padding left out, (N,)."""
    values = [scores.inside(row) for row in range(len(scores))]
    return np.array([np.median(each) if len(each) else 0.0 for each in values])
