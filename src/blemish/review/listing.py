"""Which images the page shows, in which order; and the lists that leave it."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from blemish.machine.errors import RequestError
from blemish.review.gallery import Gallery

Show = Literal["all", "open", "flagged", "good", "bad", "skipped"]
SHOWN = ("all", "open", "flagged", "good", "bad", "skipped")
PAGE = 60


@dataclass(frozen=True)
class Filter:
    """What to show: by what was said, by folder (and those below it), by group of images that are alike."""

    show: str = "all"
    folder: str = ""
    group: int = -1

    def __post_init__(self) -> None:
        """Check what stands in an address. Raises `RequestError`."""
        if self.show not in SHOWN:
            raise RequestError(f"Images can be shown by {', '.join(SHOWN)}; got '{self.show}'.")

    def rows(
        self, gallery: Gallery, words: Mapping[int, str], threshold: float, groups: NDArray[np.int64]
    ) -> list[int]:
        """The rows to show, in the order of the ranking."""
        rows: Sequence[int] = range(len(gallery))
        if self.group >= 0:
            rows = np.flatnonzero(groups == self.group).tolist()
        if self.folder:
            start = f"{self.folder}/"
            rows = [row for row in rows if gallery.name(row).startswith(start)]
        if self.show == "flagged":
            line = np.float32(threshold)
            rows = [row for row in rows if gallery.scores.image[row] > line]
        elif self.show == "open":
            rows = [row for row in rows if row not in words]
        elif self.show != "all":
            rows = [row for row in rows if words.get(row) == self.show]
        return list(rows)


def rejected(gallery: Gallery, words: Mapping[int, str], threshold: float) -> list[bool]:
    """By row, whether an image is to be rejected: as a person said, else by the threshold."""
    flags = gallery.scores.image > np.float32(threshold)
    return [words[row] == "bad" if words.get(row) in ("good", "bad") else bool(flags[row]) for row in range(len(flags))]


def exported(which: str, gallery: Gallery, words: Mapping[int, str], threshold: float) -> str:
    """The kept or rejected images as CSV: `path,image,score,decided_by`; `path` is absolute, for any tool.

    Raises `RequestError` for another list.
    """
    if which not in ("kept", "rejected"):
        raise RequestError(f"The lists are 'kept' and 'rejected'; got '{which}'.")
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("path", "image", "score", "decided_by"))
    for row, bad in enumerate(rejected(gallery, words, threshold)):
        if bad == (which == "rejected"):
            name = gallery.name(row)
            by = "review" if words.get(row) in ("good", "bad") else "threshold"
            table.writerow((f"{gallery.root.as_posix()}/{name}", name, f"{gallery.scores.image[row]:.9g}", by))
    return text.getvalue()
