"""What every dataset becomes: categories of samples, each with its truth beside it, never inside an ImageSet."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import RequestError
from blemish.images import ANOMALOUS, NORMAL, ImageSet, Pixels

GOOD = "good"
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Sample:
    """One image of a dataset.

    Attributes
    ----------
    path : its id, a POSIX path below the root of its dataset.
    source : the file, or what gives its uint8 RGB pixels where the images lie in an archive.
    defect : the kind of defect, "good" for a normal image.
    mask : the file with its ground truth, above 0 where the defect is; None if there is none.
    """

    path: str
    source: Path | Callable[[], Pixels]
    defect: str = GOOD
    mask: Path | None = None

    @property
    def label(self) -> int:
        """`NORMAL` or `ANOMALOUS`."""
        return NORMAL if self.defect == GOOD else ANOMALOUS


@dataclass(frozen=True)
class Category:
    """One object or class of a dataset.

    Attributes
    ----------
    dataset, name : such as "mvtec" and "bottle".
    root : the folder that the paths are relative to.
    train : the training images; normal, but for splits that ship contaminated (FUIAD).
    normals, anomalies : the test images.
    problems : what is wrong with it, in plain words.
    semantic : whole images are of another class; there is nothing to draw a mask around.
    """

    dataset: str
    name: str
    root: Path
    train: tuple[Sample, ...]
    normals: tuple[Sample, ...]
    anomalies: tuple[Sample, ...]
    problems: tuple[str, ...] = ()
    semantic: bool = False

    def __str__(self) -> str:
        return f"{self.dataset}/{self.name}"

    @cached_property
    def samples(self) -> Mapping[str, Sample]:
        """Every image by its path."""
        return {each.path: each for each in (*self.train, *self.normals, *self.anomalies)}

    def truth(self, paths: Iterable[str]) -> NDArray[np.bool_]:
        """(N,) whether each of the images is anomalous."""
        return np.array([self.sample(path).label == ANOMALOUS for path in paths], dtype=bool)

    def sample(self, path: str) -> Sample:
        """The image at `path`. Raises `RequestError` if the category has none there."""
        try:
            return self.samples[path]
        except KeyError:
            raise RequestError(
                f"'{path}' is no image of {self}; paths are relative to '{self.root}', such as '{min(self.samples)}'."
            ) from None

    def mask(self, path: str, size: tuple[int, int]) -> Mask | None:
        """Where the image at `path` is defective, bool (height, width) for `size` (width, height).

        All False for normal images, None where the truth of an anomalous one is not known. A mask of another size
        is brought to `size`, nearest pixel.
        """
        sample = self.sample(path)
        if sample.label == NORMAL:
            return np.zeros(size[::-1], dtype=bool)
        return None if sample.mask is None else read_mask(sample.mask, size)

    def images(self, paths: Iterable[str]) -> ImageSet:
        """The images at `paths`, without labels: what a detector may see."""
        chosen = [self.sample(path) for path in paths]
        sources = {each.path: each.source if isinstance(each.source, Path) else each.source() for each in chosen}
        return ImageSet.named(sources, root=self.root)


def read_mask(path: Path, size: tuple[int, int]) -> Mask:
    """A mask file as bool (height, width) for `size` (width, height). Raises `RequestError` if it is unreadable."""
    try:
        with Image.open(path) as image:
            grey = image.convert("L")  # 1-bit and palette masks become 0 and 255 alike
            return np.asarray(grey if grey.size == size else grey.resize(size, Image.Resampling.NEAREST)) > 0
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise RequestError(f"The mask '{path}' cannot be read ({error}); mend it, or remove it.") from None
