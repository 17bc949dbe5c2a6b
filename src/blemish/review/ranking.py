"""Which images the page shows, in which order; and the lists that leave it."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import WORDS as BANDS
from blemish.images.labels import Row
from blemish.machine.errors import RequestError
from blemish.review.gallery import Gallery

SHOWN = ("all", "open", "flagged", "good", "bad", "skipped", "commented")
ORDERS = ("score", "rising", "name", "recent", "teach", "differ")
PAGE = 60


@dataclass(frozen=True)
class Labels:
    """What is known of the images of a gallery beside their scores, by row.

    Attributes
    ----------
    words : "good", "bad" or "skipped", where there is a label.
    rows : of `labels.csv`, with defect types and comments.
    threshold : above which an image is flagged.
    groups : (N,) images that are alike share a number.
    first : rows labelled bad when the Run was opened: they are ranked before what is flagged.
    apart : (N,) how many places away each image is in the ranking of the Run beside; None if there is none.
    """

    words: Mapping[int, str]
    rows: Mapping[int, Row]
    threshold: float
    groups: NDArray[np.int64]
    first: frozenset[int] = frozenset()
    apart: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Filter:
    """What to show, and in which order. Fields that are empty (or -1) do not filter.

    Attributes
    ----------
    show : one of `SHOWN`, by label.
    folder : and the folders below it.
    group : of images that are alike.
    band : reject, look or pass.
    type : of defect.
    text : part of the image's name or comment, upper and lower case alike.
    order : one of `ORDERS`.
    """

    show: str = "all"
    folder: str = ""
    group: int = -1
    band: str = ""
    type: str = ""
    text: str = ""
    order: str = "score"

    def __post_init__(self) -> None:
        """Check what stands in an address. Raises `RequestError`."""
        if self.show not in SHOWN:
            raise RequestError(f"`show` must be one of {', '.join(SHOWN)}; got '{self.show}'.")
        if self.order not in ORDERS:
            raise RequestError(f"`order` must be one of {', '.join(ORDERS)}; got '{self.order}'.")
        if self.band and self.band not in BANDS:
            raise RequestError(f"`band` must be one of {', '.join(BANDS)}; got '{self.band}'.")

    @property
    def query(self) -> str:
        """As the address has it."""
        return urlencode(vars(self))

    def rows(self, gallery: Gallery, labels: Labels) -> list[int]:
        """The rows to show, in their order."""
        rows: Sequence[int] = range(len(gallery))
        words, known = labels.words, labels.rows
        if self.group >= 0:
            rows = np.flatnonzero(labels.groups == self.group).tolist()
        if self.folder:
            start = f"{self.folder}/"
            rows = [row for row in rows if gallery.name(row).startswith(start)]
        if self.show == "flagged":
            line = np.float32(labels.threshold)
            rows = [row for row in rows if gallery.scores.image[row] > line]
        elif self.show == "open":
            rows = [row for row in rows if row not in words]
        elif self.show == "commented":
            rows = [row for row in rows if row in known and known[row].comment]
        elif self.show != "all":
            rows = [row for row in rows if words.get(row) == self.show]
        if self.band:
            bands = gallery.decision.bands(gallery.scores.image)
            rows = [row for row in rows if bands[row] == self.band]
        if self.type:
            rows = [row for row in rows if row in known and known[row].type == self.type]
        if self.text:
            text = self.text.casefold()
            rows = [
                row for row in rows
                if text in gallery.name(row).casefold() or (row in known and text in known[row].comment.casefold())
            ]  # fmt: skip
        return self._ordered(list(rows), gallery, labels)

    def _ordered(self, rows: list[int], gallery: Gallery, labels: Labels) -> list[int]:
        if self.order == "name":
            return sorted(rows, key=gallery.name)
        if self.order == "recent":
            times = {row: found.time for row, found in labels.rows.items()}
            return sorted(rows, key=lambda row: times.get(row, ""), reverse=True)
        if self.order == "rising":
            return rows[::-1]
        if self.order == "differ":
            if labels.apart is None:
                raise RequestError("One Run is shown alone; name another with `beside` to order by the difference.")
            apart = labels.apart
            return sorted(rows, key=lambda row: -int(apart[row]))
        # A refit may score an image that is known to be bad below the threshold; it stands before what is flagged.
        return sorted(rows, key=lambda row: row not in labels.first)


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
