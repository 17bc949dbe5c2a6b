"""Boxes that a person drew around defects: `boxes.csv`, beside `labels.csv`, to which rows are only ever appended."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from blemish.images.labels import append_to_table, timestamp
from blemish.machine.errors import RequestError

BOXES = "boxes.csv"  # its name in a Run
COLUMNS = ("time", "path", "sha256", "x", "y", "width", "height", "type", "who")
REMOVED = "(removed)"  # the type of a row that takes the same box away again


@dataclass(frozen=True)
class DefectBox:
    """A box around a defect: pixels of the image as it was decoded, (x, y) the upper left corner."""

    path: str
    sha256: str
    x: int
    y: int
    width: int
    height: int
    type: str = ""
    who: str = ""
    time: str = ""

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """x, y, width, height: what tells the boxes of an image apart."""
        return self.x, self.y, self.width, self.height


def append(file: Path, boxes: Sequence[DefectBox]) -> None:
    """Add boxes, whole or not at all as far as the disk allows. Raises `JobError`."""
    now = timestamp()
    rows = [(box.time or now, box.path, box.sha256, *box.corners, box.type, box.who) for box in boxes]
    append_to_table(file, COLUMNS, rows)


def read(file: Path) -> tuple[list[DefectBox], list[str]]:
    """The rows in their order, and a sentence on those that could not be read. Raises `RequestError`."""
    try:
        text = file.read_bytes().decode("utf-8-sig", "replace")
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise RequestError(f"The boxes '{file}' cannot be read ({error.strerror}); name a {BOXES}.") from None
    found: list[DefectBox] = []
    broken: list[int] = []
    table = csv.reader(io.StringIO(text.replace("\0", "\ufffd"), newline=""))
    next(table, None)
    try:
        for cells in table:
            try:
                time, path, sha256, *corners, kind, who = cells[: len(COLUMNS)]
                x, y, width, height = (int(each) for each in corners)
                found.append(DefectBox(path, sha256, x, y, width, height, kind, who, time))
            except ValueError:
                broken.append(table.line_num)
    except csv.Error as error:
        raise RequestError(f"The boxes '{file}' are no CSV table ({error}); mend that row.") from None
    notes = []
    if broken:
        notes.append(
            f"{len(broken)} of the rows of '{file.name}' could not be read, such as row {broken[0]}, and are not used. "
            "Nothing was removed from the file."
        )
    return found, notes


def standing(boxes: Sequence[DefectBox]) -> dict[str, list[DefectBox]]:
    """By SHA-256 of the image, the boxes that were not removed again, in the order they were drawn."""
    found: dict[tuple[str, tuple[int, int, int, int]], DefectBox] = {}
    for box in boxes:
        found.pop((box.sha256, box.corners), None)
        if box.type != REMOVED:
            found[box.sha256, box.corners] = box
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
