"""Where in an image the map is above a level: masks, and the connected regions in them."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.machine.errors import RequestError, writing_to
from blemish.machine.runtime import runtime
from blemish.scores import Scores
from blemish.scores.heatmaps import heatmap_path

REGIONS, MASKS = "regions.csv", "masks"
COLUMNS = ("path", "region", "left", "top", "right", "bottom", "area", "peak")
CALM_SHARE = 0.95  # of the images that are not flagged, whose hottest place is below the level
MOST_REGIONS = 100  # of an image; the rest is noise of a level that was set too low
OUTLINE_TOLERANCE = 0.3  # pixels of the map that a line may be off, so that it has fewer corners


@dataclass(frozen=True)
class Region:
    """A connected place of an image where the map is above a level.

    Attributes
    ----------
    left, top, right, bottom : its box in pixels; `right` and `bottom` are outside of it.
    area : its pixels.
    peak : the highest value of the map in it.
    mask : (bottom - top, right - left) bool, its pixels in the box; None where a format has boxes only.
    type : of the defect, as a person named it; empty if nobody did.
    drawn : whether a person drew it; if not, it was found.
    """

    left: int
    top: int
    right: int
    bottom: int
    area: int
    peak: float
    mask: NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)
    type: str = ""
    drawn: bool = False

    @property
    def width(self) -> int:
        """Of the box, in pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Of the box, in pixels."""
        return self.bottom - self.top


def pixel_threshold(scores: Scores, threshold: float) -> float:
    """The level above which a place counts as defective, from the maps alone.

    It is what the hottest places of `CALM_SHARE` of the images that are not flagged stay below; of all images where
    more than half are flagged. Raises `RequestError` without images.
    """
    if not len(scores):
        raise RequestError("There is no map to find a pixel threshold in.")
    calm = scores.image <= threshold
    rows = np.flatnonzero(calm) if calm.mean() >= 0.5 else np.arange(len(scores))
    peaks = np.array([scores.inside(int(row)).max(initial=0.0) for row in rows])
    return float(np.quantile(peaks, CALM_SHARE))


def regions_of(mask: NDArray[np.bool_], levels: NDArray[np.float32]) -> list[Region]:
    """The 8-connected regions of a mask (H, W), the highest peak first; `levels` (H, W) is the map."""
    from skimage.measure import label, regionprops

    found = [
        Region(left, top, right, bottom, int(each.area), float(levels[each.slice][each.image].max()), each.image)
        for each in regionprops(label(mask, connectivity=2))
        for top, left, bottom, right in (each.bbox,)
    ]
    return sorted(found, key=lambda region: (-region.peak, region.top, region.left))


def outlines(levels: NDArray[np.float32], level: float) -> list[NDArray[np.float64]]:
    """The lines around what is above `level`, each (K, 2) of (x, y), closed; pixels of `levels` (H, W)."""
    from skimage.measure import approximate_polygon, find_contours

    framed = np.pad(np.nan_to_num(levels, nan=-np.inf), 1, constant_values=-np.inf)
    lowest = min(float(levels[np.isfinite(levels)].min(initial=level)), level) - 1.0  # the frame is below, not far off
    found = find_contours(np.maximum(framed, lowest), level)
    return [approximate_polygon(line, OUTLINE_TOLERANCE)[:, ::-1] - 0.5 for line in found]


def write_regions(scores: Scores, ids: Iterable[str], level: float, folder: Path, *, masks: bool) -> None:
    """Leave `regions.csv` of the images `ids`; with `masks`, PNGs that are 255 above `level`, too."""
    names = list(ids)
    with writing_to(folder), (folder / REGIONS).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        if masks:
            (folder / MASKS).mkdir()
        for done, name in enumerate(names, start=1):
            levels = scores.map(name)
            mask = levels > level
            for number, each in enumerate(regions_of(mask, levels)[:MOST_REGIONS], start=1):
                box = (each.left, each.top, each.right, each.bottom)
                table.writerow((name, number, *box, each.area, f"{each.peak:.6g}"))
            if masks:
                target = heatmap_path(folder / MASKS, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask.astype(np.uint8) * 255).save(target, "PNG")
            runtime().progress("regions", done, len(names))
