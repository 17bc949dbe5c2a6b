"""CIFAR-10 and STL-10 for the semantic protocol: one class is normal, all others are anomalies.

They are read as their archives come (binary; CIFAR's Python pickles are read without running them), or as folders or
zips of images, one folder a class, with `train` and `test` somewhere in the path.
"""

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from PIL import Image

from blemish.benchmark.datasets import official_archives
from blemish.benchmark.datasets.category import Category, Layout, Sample, folders_in, images_in, with_own_split
from blemish.images.decoding import SUFFIXES, Decoding, Pixels, to_rgb
from blemish.images.finding import identifier
from blemish.machine.errors import RequestError

CLASSES = {
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    "stl10": ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
}
PARTS = ("train", "test")
OWN_SPLIT = "there is no train and test part: every fifth image of a class is for the test"
MEMBER_BYTES = 64 * 2**20  # no image of these sets comes near; a bomb does


def categories(root: Path) -> list[Category]:
    """A category for each class of each set found at `root`."""
    found: dict[str, dict[str, dict[str | None, list[Sample]]]] = {}
    for name, known in CLASSES.items():
        by_class: dict[str, dict[str | None, list[Sample]]] = defaultdict(lambda: defaultdict(list))
        archive = official_archives.find(root, name)
        items = official_archives.samples(archive, root, known) if archive else _images(root, known)
        for part, kind, sample in items:
            by_class[kind][part].append(sample)
        if set(by_class) == set(known):  # the two sets share eight names: all ten must be there
            found[name] = by_class
    return [
        category
        for name, by_class in found.items()
        for category in _one_against_all(name, root, {kind: _split(parts) for kind, parts in by_class.items()})
    ]


def signs(root: Path) -> Mapping[str, bool]:
    """See `Layout`."""
    names = {part for folder in folders_in(root) for part in (folder.name, *(f.name for f in folders_in(folder)))}
    return {
        "an archive of CIFAR-10 or STL-10": any(official_archives.find(root, name) for name in CLASSES),
        "folders of classes, such as train/airplane": len(names & set(CLASSES["cifar10"])) > 1,
        "zips of such folders": any(root.glob("*.zip")),
    }


@dataclass(frozen=True)
class _Split:
    train: list[Sample]
    test: list[Sample]
    own: bool


def _split(parts: Mapping[str | None, list[Sample]]) -> _Split:
    if parts.get("train") and parts.get("test"):
        return _Split(parts["train"], parts["test"], own=False)
    train, test = with_own_split([sample for samples in parts.values() for sample in samples])
    return _Split(train, test, own=True)


def _one_against_all(name: str, root: Path, splits: Mapping[str, _Split]) -> Iterator[Category]:
    """Each class as normal, the test images of the others as anomalies whose defect is their class."""
    problems = (OWN_SPLIT,) if any(split.own for split in splits.values()) else ()
    for normal in sorted(splits):
        others = [replace(s, defect=kind) for kind in sorted(splits) if kind != normal for s in splits[kind].test]
        train, test = splits[normal].train, splits[normal].test
        yield Category(name, normal, root, tuple(train), tuple(test), tuple(others), problems, semantic=True)


def _images(root: Path, known: tuple[str, ...]) -> Iterator[tuple[str | None, str, Sample]]:
    """(part, class, sample) of image files in class folders, and of zips, in `root` and its train and test folders."""
    homes = [root, *(folder for folder in folders_in(root) if _part((folder.name, "")))]
    for folder in (inner for home in homes for inner in folders_in(home) if inner.name in known):
        for path in images_in(folder):
            name = identifier(path, root)
            yield _part(PurePosixPath(name).parts), folder.name, Sample(name, path)
    for archive in (path for home in homes for path in sorted(home.glob("*.zip"))):
        for member in _members(archive):
            name = f"{identifier(archive, root)}/{member}"
            parts = PurePosixPath(name.replace(".zip/", "/")).parts
            kind = next((part for part in reversed(parts[:-1]) if part in known), None)
            if kind:
                yield _part(parts), kind, Sample(name, _ZippedImage(archive, member))


def _part(parts: tuple[str, ...]) -> str | None:
    """Train or test, from the folders of a path and the name of its archive; None where they say neither."""
    words = [word for part in reversed(parts[:-1]) for word in re.split(r"[^a-z]+", part.lower())]
    return next((word for word in words if word in PARTS), None)


@dataclass(frozen=True)
class _ZippedImage:
    """An image in a zip, decoded when asked for."""

    archive: Path
    member: str

    def __call__(self) -> Pixels:
        """uint8 RGB (H, W, 3). Raises `RequestError` if it cannot be read."""
        try:
            with Image.open(io.BytesIO(_opened(self.archive).read(self.member))) as image:
                return to_rgb(image, Decoding())
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, Image.DecompressionBombError) as error:
            raise RequestError(f"'{self.member}' in '{self.archive}' cannot be read: {error}.") from None


@lru_cache(maxsize=32)
def _opened(archive: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(archive)


def _members(archive: Path) -> list[str]:
    try:
        inside = _opened(archive).infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise RequestError(f"'{archive}' cannot be read as a zip ({error}); fetch it again.") from None
    images = [each for each in inside if PurePosixPath(each.filename).suffix.lower() in SUFFIXES]
    return sorted(each.filename for each in images if each.file_size <= MEMBER_BYTES)


LAYOUT = Layout(
    "cifar10 and stl10",
    "the official archives, or train/CLASS and test/CLASS as folders or in zips",
    categories,
    signs,
)
