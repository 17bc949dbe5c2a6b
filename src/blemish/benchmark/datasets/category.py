"""What every dataset becomes: categories of samples, each with its truth beside it, never inside an ImageSet."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.images import ANOMALOUS, NORMAL, ImageSet
from blemish.images.decoding import SUFFIXES, Pixels
from blemish.images.finding import identifier
from blemish.machine.errors import RequestError

GOOD = "good"
Mask = NDArray[np.bool_]
GOOD_NAMES = frozenset({GOOD, "ok", "normal"})  # folders of normal images, in any case
TEST_EVERY = 5  # where a dataset ships no split, every fifth normal image is for the test


@dataclass(frozen=True)
class Sample:
    """One image of a dataset.

    Attributes
    ----------
    path : its id, a POSIX path below the root of its dataset.
    source : the file, or what gives its uint8 RGB pixels where the images lie in an archive.
    defect : the kind of defect, "good" for a normal image.
    mask : the file with its ground truth, above 0 where the defect is, or a folder of such files, which add up; None if
        there is none.
    group : images that show one part, such as its views, share a group; by itself otherwise.
    """

    path: str
    source: Path | Callable[[], Pixels]
    defect: str = GOOD
    mask: Path | None = None
    group: str | None = None

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

    @cached_property
    def signature(self) -> str:
        """16 hex digits that differ if an image or mask comes, goes, changes its kind or its size in bytes."""
        about = [
            [each.path, each.defect, each.group, _bytes_of(each.source), _bytes_of(each.mask)]
            for part in (self.train, self.normals, self.anomalies)
            for each in part
        ]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]

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

    def limited(self, train: int | None, normals: int | None, anomalies: int | None, seed: int = 0) -> "Category":
        """At most so many images of each part, drawn by `seed`; None takes all. Kinds of defect keep their shares."""
        return replace(
            self,
            train=_drawn(self.train, train, seed),
            normals=_drawn(self.normals, normals, seed),
            anomalies=_drawn(self.anomalies, anomalies, seed),
        )

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
        images = ImageSet.named(sources, root=self.root)
        grouped = {each.path: each.group for each in chosen if each.group is not None and each.path in images.content}
        return replace(images, groups={**images.groups, **grouped}) if grouped else images


def plain_name(category: str) -> str:
    """The category's name as papers have it, such as "bottle" for mvtec_bottle."""
    return category.removeprefix("mvtec_")


def _drawn(samples: Sequence[Sample], most: int | None, seed: int) -> tuple[Sample, ...]:
    """Up to `most` of the samples, spread evenly over the kinds in the order they come in."""
    if most is None or len(samples) <= most:
        return tuple(samples)
    order = np.random.default_rng(seed).permutation(len(samples))
    by_kind = sorted(order, key=lambda at: samples[at].defect)  # stable: random within a kind
    chosen = {by_kind[at] for at in np.linspace(0, len(by_kind) - 1, most).round().astype(int)}
    return tuple(sample for at, sample in enumerate(samples) if at in chosen)


def _bytes_of(source: object) -> int | None:
    """The size of a file, or of the files in a folder; None for what is neither."""
    if not isinstance(source, Path):
        return None
    return sum(each.stat().st_size for each in source.iterdir()) if source.is_dir() else source.stat().st_size


def mask_files(path: Path) -> list[Path]:
    """The files of a mask: itself, or those in its folder."""
    if not path.is_dir():
        return [path]
    return sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES)


def read_mask(path: Path, size: tuple[int, int]) -> Mask:
    """A mask file, or all of a folder, as bool (height, width) for `size` (width, height).

    Raises `RequestError` if it is unreadable.
    """
    if path.is_dir():
        parts = [read_mask(each, size) for each in mask_files(path)]
        return np.logical_or.reduce(parts) if parts else np.zeros(size[::-1], dtype=bool)
    try:
        with Image.open(path) as image:
            grey = image.convert("L")  # 1-bit and palette masks become 0 and 255 alike
            return np.asarray(grey if grey.size == size else grey.resize(size, Image.Resampling.NEAREST)) > 0
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise RequestError(f"The mask '{path}' cannot be read ({error}); fix it, or remove it.") from None


@dataclass(frozen=True)
class Layout:
    """One way of laying out datasets.

    Attributes
    ----------
    name : of the family, such as "mvtec".
    looked_for : the layout in a line, for messages.
    read : the categories of a dataset whose root is the given folder; an empty list if it is not of this layout.
    signs : by what is looked for, whether the given folder has it.
    """

    name: str
    looked_for: str
    read: Callable[[Path], list[Category]]
    signs: Callable[[Path], Mapping[str, bool]]


def folders_in(root: Path) -> list[Path]:
    """The folders in `root`, sorted; hidden ones are left out."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def images_in(folder: Path) -> list[Path]:
    """The image files of one folder, sorted by name; hidden ones are left out. Empty if there is no such folder."""
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def samples_in(folder: Path, root: Path) -> list[Sample]:
    """The images of one folder as normal samples, named relative to `root`."""
    return [Sample(identifier(path, root), path) for path in images_in(folder)]


def inside(root: Path, name: str, source: Path) -> Path:
    """The file that the table `source` calls `name`. Raises `RequestError` if it would lie outside of `root`."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[:1]:
        raise RequestError(f"'{source}' names '{name}', which lies outside of '{root}'; fix that line.")
    return root.joinpath(*parts.parts)


def with_own_split(normals: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Training and test part of normal samples that ship without a split."""
    train = [sample for index, sample in enumerate(normals) if index % TEST_EVERY != TEST_EVERY - 1]
    return train, list(normals[TEST_EVERY - 1 :: TEST_EVERY])


def table_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The `columns` of a CSV table. Raises `RequestError` where it cannot be read, or lacks one."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if lacking := [name for name in columns if name not in (table.fieldnames or ())]:
                raise RequestError(f"'{path}' has no column '{lacking[0]}'; it needs {', '.join(columns)}.")
            return [{name: row[name] or "" for name in columns} for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"'{path}' cannot be read as a table ({error}); save it as UTF-8 CSV.") from None


def missing_note(what: str, missing: Iterable[Path]) -> tuple[str, ...]:
    """A problem that counts files which a table names and the disk does not hold; nothing if there are none."""
    gone = list(missing)
    return (f"{len(gone)} {what} are named but not there, such as '{gone[0]}'",) if gone else ()
