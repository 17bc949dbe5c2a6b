"""What is written of an image, whatever the format; and what is read from one."""

from dataclasses import dataclass
from pathlib import Path

from blemish.images import ANOMALOUS, NORMAL
from blemish.images.labels import MEANINGS
from blemish.scores.regions import Region

GOOD, BAD, DEFECT = "good", "bad", "defect"  # the labels of images, and the category of boxes


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
