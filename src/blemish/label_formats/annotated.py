"""What is written of an image, whatever the format; and what is read from one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.images import ANOMALOUS, NORMAL
from blemish.images.defect_boxes import Mask
from blemish.images.labels import MEANINGS
from blemish.scores.regions import Region

GOOD, BAD, DEFECT = "good", "bad", "defect"  # the labels of images, and the category of boxes
TOLERANCE = 0.5  # pixels by which a polygon may leave the edge of its region


@dataclass(frozen=True)
class Annotated:
    """An image with what is known of it.

    Attributes
    ----------
    name : its path below the folder of the images, with slashes.
    file : its path.
    width, height : in pixels, with the orientation of its EXIF data applied.
    sha256 : of the file.
    score : higher is more anomalous.
    predicted : good or bad, by the threshold.
    label : good or bad, as a person found; empty where nobody looked.
    band : pass, look or reject.
    chance : of being bad, 0..1; None where it was not estimated.
    regions : the places above the pixel threshold, of a bad image only.
    """

    name: str
    file: Path
    width: int
    height: int
    sha256: str
    score: float
    predicted: str
    label: str = ""
    band: str = ""
    chance: float | None = None
    regions: tuple[Region, ...] = ()

    @property
    def verdict(self) -> str:
        """Good or bad: as a person found, else by the threshold."""
        return self.label or self.predicted


@dataclass(frozen=True)
class Read:
    """What a file says of one image; `size` is (width, height) where it says that.

    `words` are good or bad, one for each person that says something; none for an image with no annotation.
    """

    path: str
    words: tuple[str, ...] = ()
    size: tuple[int, int] | None = None


def category(region: Region) -> str:
    """What a defect is called."""
    return region.type or DEFECT


def word_of(category: str) -> str:
    """What a category says of an image: good for one of the words for that, else bad, as the name of a defect is."""
    return GOOD if MEANINGS.get(category.strip().lower(), ANOMALOUS) == NORMAL else BAD


def whole(region: Region, size: tuple[int, int]) -> Mask:
    """The mask of a region in its image; `size` is (height, width)."""
    mask = np.zeros(size, dtype=bool)
    mask[region.top : region.bottom, region.left : region.right] = _own(region)
    return mask


def _own(region: Region) -> Mask:
    return np.ones((region.height, region.width), dtype=bool) if region.mask is None else region.mask


def outline(region: Region) -> list[tuple[float, float]]:
    """The outer edge of a region as points (x, y) in pixels of its image, holes filled; 0 is the edge of the image."""
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import approximate_polygon, find_contours

    # Twice as large, so that the contour, which runs between the centres of pixels, hardly cuts corners off.
    filled = np.pad(binary_fill_holes(_own(region), np.ones((3, 3))).repeat(2, 0).repeat(2, 1), 1)
    longest = max(find_contours(filled.astype(np.float32), 0.5, fully_connected="high"), key=len)
    points = approximate_polygon(longest, 2 * TOLERANCE)[:-1]
    if len(points) < 3:
        corners = ((region.left, region.top), (region.right, region.top))
        return [*corners, *((x, region.bottom) for x, _ in reversed(corners))]
    limits = (region.width, region.height)
    return [
        (region.left + min(max((x - 0.5) / 2, 0.0), limits[0]), region.top + min(max((y - 0.5) / 2, 0.0), limits[1]))
        for y, x in points.tolist()
    ]
