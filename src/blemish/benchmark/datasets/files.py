"""Files as datasets name them: images of a folder, and paths from tables that must stay inside the dataset."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from blemish.benchmark.datasets.category import GOOD, Sample
from blemish.images.decoding import SUFFIXES
from blemish.images.finding import identifier
from blemish.machine.errors import RequestError

GOOD_NAMES = frozenset({GOOD, "ok", "normal"})  # folders of normal images, in any case
TEST_EVERY = 5  # where a dataset ships no split, every fifth normal image is for the test


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


def missing_note(what: str, missing: Iterable[Path]) -> tuple[str, ...]:
    """A problem that counts files which a table names and the disk does not hold; nothing if there are none."""
    gone = list(missing)
    return (f"{len(gone)} {what} are named but not there, such as '{gone[0]}'",) if gone else ()
