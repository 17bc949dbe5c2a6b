"""The archives that CIFAR-10 and STL-10 are published as, packed or unpacked. Nothing in them is ever run."""

import pickletools
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from blemish.benchmark.datasets.category import Sample
from blemish.images.decoding import Pixels
from blemish.images.finding import identifier
from blemish.machine.errors import RequestError

# By set, what it is published as: an archive, or the folder that it unpacks to.
FORMS = {
    "cifar10": ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"),
    "stl10": ("stl10_binary", "stl10_binary.tar.gz"),
}
CIFAR_SIDE, STL_SIDE, CLASSES = 32, 96, 10
CIFAR_PIXELS = 3 * CIFAR_SIDE**2
CIFAR_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))


@dataclass(frozen=True)
class _Part:
    """Images (N, H, W, 3) uint8, or (N, 3, W, H) as stored by STL-10, and their labels (N,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    transposed: bool = False

    def read(self, row: int) -> Pixels:
        image = self.pixels[row]
        return np.ascontiguousarray(image.transpose(2, 1, 0) if self.transposed else image)


@dataclass(frozen=True)
class _ArchivedImage:
    """An image of an archive, taken out when asked for."""

    archive: Path
    part: str
    row: int

    def __call__(self) -> Pixels:
        """uint8 RGB (H, W, 3)."""
        return _parts(self.archive)[self.part].read(self.row)


def find(root: Path, name: str) -> Path | None:
    """The archive of the set `name` in `root`, or its folder, which may be `root` itself."""
    if root.name in FORMS[name]:
        return root
    return next((root / form for form in FORMS[name] if (root / form).exists()), None)


def samples(archive: Path, root: Path, classes: Sequence[str]) -> Iterator[tuple[str, str, Sample]]:
    """(part, class, sample) of every image. Raises `RequestError` if the archive is damaged."""
    home = identifier(archive, root) if archive != root else archive.name
    for part, held in _parts(archive).items():
        for row, label in enumerate(held.labels):
            kind = classes[int(label)]
            yield part, kind, Sample(f"{home}/{part}/{kind}/{row:05d}", _ArchivedImage(archive, part, row))


@lru_cache(maxsize=2)
def _parts(archive: Path) -> dict[str, _Part]:
    """The training and test part of an archive."""
    try:
        if archive.name.startswith("stl10"):
            return {part: _stl(archive, part) for part in ("train", "test")}
        binary = "bin" in archive.name
        named = {"train": CIFAR_TRAIN, "test": ("test_batch",)}
        read = _cifar_binary if binary else _cifar_python
        files = _files(archive, [f"{n}.bin" if binary else n for names in named.values() for n in names])
        return {
            part: _joined([read(files[f"{name}.bin" if binary else name]) for name in names])
            for part, names in named.items()
        }
    except (OSError, ValueError, KeyError, EOFError, tarfile.TarError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"'{archive}' is damaged ({type(error).__name__}: {error}); fetch it again.") from None


def _files(archive: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The contents of the files `names` of a folder or a tar archive, by name. Raises `KeyError` for one that lacks."""
    if archive.is_dir():
        return {name: (archive / name).read_bytes() for name in names}
    found: dict[str, bytes] = {}
    with tarfile.open(archive) as packed:
        for member in packed:  # in the order of the file: a compressed one can only be read forwards
            name = PurePosixPath(member.name).name
            stream = packed.extractfile(member) if name in names and member.isfile() else None
            if stream:
                found[name] = stream.read()
            if len(found) == len(names):
                break
    return {name: found[name] for name in names}


def _joined(parts: Sequence[_Part]) -> _Part:
    return _Part(np.concatenate([p.pixels for p in parts]), np.concatenate([p.labels for p in parts]))


def _cifar_images(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rows of 3072 levels, one colour after the other, as (N, 32, 32, 3)."""
    return data.reshape(-1, 3, CIFAR_SIDE, CIFAR_SIDE).transpose(0, 2, 3, 1)


def _cifar_binary(data: bytes) -> _Part:
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + CIFAR_PIXELS)
    return _checked(_Part(_cifar_images(rows[:, 1:]), rows[:, 0]))


def _cifar_python(data: bytes) -> _Part:
    """A pickled batch, read as a list of instructions of which none is carried out.

    A batch is a dictionary of bytes: the levels are its longest string, the labels the numbers after the word `labels`.
    """
    levels, labels, listing = b"", [], False
    for opcode, argument, _ in pickletools.genops(data):
        if isinstance(argument, (bytes, str)) and opcode.name not in ("GLOBAL", "PUT", "GET"):
            text = argument.encode("latin-1") if isinstance(argument, str) else argument
            listing = text == b"labels" if len(text) < 64 else listing
            levels = text if len(text) > len(levels) else levels
        elif listing and isinstance(argument, int) and opcode.name in ("BININT1", "BININT", "BININT2", "INT", "LONG1"):
            labels.append(argument)
    pixels = _cifar_images(np.frombuffer(levels, np.uint8))
    return _checked(_Part(pixels, np.array(labels, dtype=np.uint8)))


def _stl(archive: Path, part: str) -> _Part:
    pixels, labels = f"{part}_X.bin", f"{part}_y.bin"
    if archive.is_dir():
        data: NDArray[np.uint8] = np.memmap(archive / pixels, np.uint8, "r")
        numbers = np.frombuffer((archive / labels).read_bytes(), np.uint8)
    else:
        files = _files(archive, [pixels, labels])
        data, numbers = np.frombuffer(files[pixels], np.uint8), np.frombuffer(files[labels], np.uint8)
    return _checked(_Part(data.reshape(-1, 3, STL_SIDE, STL_SIDE), numbers - 1, transposed=True))


def _checked(part: _Part) -> _Part:
    if len(part.pixels) != len(part.labels) or not len(part.labels):
        raise ValueError(f"{len(part.pixels)} images, {len(part.labels)} labels")
    if part.labels.max() >= CLASSES:
        raise ValueError(f"label {part.labels.max()} is outside 0 to {CLASSES - 1}")
    return part
