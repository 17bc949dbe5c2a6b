"""Boxes and brush strokes that a person drew on defects: `boxes.csv`, beside `labels.csv`, which only ever grows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.images.labels import append_to_table, table_of, timestamp, unread

Mask = NDArray[np.bool_]
OFFSET = 48  # of the first character, "0"
BOXES = "boxes.csv"  # its name in a Run
COLUMNS = ("time", "path", "sha256", "x", "y", "width", "height", "type", "who", "mask")
REMOVED = "(removed)"  # the type of a row that takes the same box away again


def run_lengths(mask: Mask) -> list[int]:
    """How many pixels of a mask (H, W) are off, then on, then off, ..., column after column from the top left."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def mask_of(lengths: Sequence[int], size: tuple[int, int]) -> Mask:
    """The mask that `run_lengths` was made of; `size` is (height, width). Raises `ValueError` for others."""
    if sum(lengths) != size[0] * size[1] or min(lengths) < 0:
        raise ValueError("The run lengths are not those of a mask of this size.")
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return values.reshape(size, order="F")


def as_text(lengths: Sequence[int]) -> str:
    """Run lengths in COCO's compressed form.

    From the fourth on, a length is kept as the difference to the one two before. Five bits a character, the lowest
    first; the sixth bit says that more follow, and the highest kept bit is the sign.
    """
    text = []
    for at, length in enumerate(lengths):
        value = length - lengths[at - 2] if at > 2 else length
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(OFFSET + bits + 32 * more))
            if not more:
                break
    return "".join(text)


def of_text(text: str) -> list[int]:
    """The run lengths that `as_text` was made of."""
    lengths: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - OFFSET
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value, shift = 0, 0
    return lengths


@dataclass(frozen=True)
class DefectBox:
    """A place of a defect: pixels of the image as it was decoded, (x, y) the upper left corner of its box.

    Attributes
    ----------
    mask : what a brush painted of the box, as COCO's compressed run lengths; empty for all of it.
    """

    path: str
    sha256: str
    x: int
    y: int
    width: int
    height: int
    type: str = ""
    who: str = ""
    time: str = ""
    mask: str = ""

    def __post_init__(self) -> None:
        """Check the numbers. Raises `ValueError` for numbers of no box, and for a mask of another size."""
        if min(self.x, self.y) < 0 or min(self.width, self.height) < 1:
            raise ValueError("A box has a corner inside the image, and a width and a height.")
        if self.mask:
            self.pixels()

    @classmethod
    def painted(cls, path: str, sha256: str, mask: Mask, kind: str = "", who: str = "") -> "DefectBox":
        """What is true in a mask (H, W) of the image, with the smallest box around it."""
        down, across = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        top, left = int(down[0]), int(across[0])
        own = mask[top : down[-1] + 1, left : across[-1] + 1]
        return cls(path, sha256, left, top, own.shape[1], own.shape[0], kind, who, mask=as_text(run_lengths(own)))

    def pixels(self) -> Mask:
        """(height, width) bool, what of the box shows the defect."""
        size = self.height, self.width
        return mask_of(of_text(self.mask), size) if self.mask else np.ones(size, dtype=np.bool_)

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """x, y, width, height: with the mask, what tells the places of an image apart."""
        return self.x, self.y, self.width, self.height


def append(file: Path, boxes: Sequence[DefectBox]) -> None:
    """Add boxes, whole or not at all as far as the disk allows. Raises `JobError`."""
    now = timestamp()
    rows = [(box.time or now, box.path, box.sha256, *box.corners, box.type, box.who, box.mask) for box in boxes]
    append_to_table(file, COLUMNS, rows)


def read(file: Path) -> tuple[list[DefectBox], list[str]]:
    """The rows in their order, and a sentence on those that could not be read. Raises `RequestError`."""
    found: list[DefectBox] = []
    broken: list[int] = []
    table = table_of(file, "boxes") if file.exists() else []
    if not table or tuple(table[0]) != COLUMNS:  # a table of the same name from elsewhere, or none yet
        return [], []
    for number, cells in enumerate(table[1:], start=2):
        try:
            time, path, sha256, *corners, kind, who, mask = cells
            x, y, width, height = (int(each) for each in corners)
            found.append(DefectBox(path, sha256, x, y, width, height, kind, who, time, mask))
        except ValueError:
            broken.append(number)
    return found, unread(broken, file)


def standing(boxes: Sequence[DefectBox]) -> dict[str, list[DefectBox]]:
    """By SHA-256 of the image, the boxes that were not removed again, in the order they were drawn."""
    found: dict[tuple[str, tuple[int, int, int, int], str], DefectBox] = {}
    for box in boxes:
        found.pop((box.sha256, box.corners, box.mask), None)
        if box.type != REMOVED:
            found[box.sha256, box.corners, box.mask] = box
    by_image: dict[str, list[DefectBox]] = {}
    for box in found.values():
        by_image.setdefault(box.sha256, []).append(box)
    return by_image


def carry(source: Path, target: Path) -> None:
    """Add the rows of one file to another that has not got them yet; nothing is removed. Raises as they do."""
    known = set(read(target)[0])
    known |= {replace(box, time="") for box in known}
    missing = [box for box in read(source)[0] if box not in known]
    if missing:
        append(target, missing)
