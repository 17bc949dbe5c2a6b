"""What is written of an image, whatever the format; and what is read from one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.images import ANOMALOUS, NORMAL
from blemish.images.labels import MEANINGS

GOOD, BAD, DEFECT = "good", "bad", "defect"  # the labels of images, and the category of boxes


@dataclass(frozen=True)
class Shape:
    """A place of an image that shows a defect.

    Attributes
    ----------
    left, top, right, bottom : its box in pixels; `right` and `bottom` lie outside of it.
    area : its pixels.
    peak : the highest value of the map in it.
    type : of the defect, as a person named it; empty if nobody did.
    drawn : whether a person drew it; if not, it was found.
    mask : (bottom - top, right - left), its pixels in the box; None where the format has boxes only.
    """

    left: int
    top: int
    right: int
    bottom: int
    area: int
    peak: float
    mask: NDArray[np.bool_] | None = None
    type: str = ""
    drawn: bool = False

    @property
    def category(self) -> str:
        """What the defect is called."""
        return self.type or DEFECT

    @property
    def width(self) -> int:
        """Of the box, in pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Of the box, in pixels."""
        return self.bottom - self.top


@dataclass(frozen=True)
class Annotated:
    """An image with what is known of it.

    Attributes
    ----------
    name : its path below the folder of the images, with slashes.
    file : where it lies.
    width, height : in pixels, with the orientation of its EXIF data applied.
    sha256 : of the file.
    score : higher is more anomalous.
    predicted : good or bad, by the threshold.
    label : good or bad, as a person found; empty where nobody looked.
    band : pass, look or reject.
    chance : of being bad, 0..1; None where it was not estimated.
    shapes : the places above the pixel threshold, of a bad image only.
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
    shapes: tuple[Shape, ...] = ()

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


def word_of(category: str) -> str:
    """What a category says of an image: good for one of the words for that, else bad, as the name of a defect is."""
    return GOOD if MEANINGS.get(category.strip().lower(), ANOMALOUS) == NORMAL else BAD
