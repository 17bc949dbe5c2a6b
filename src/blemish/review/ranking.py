"""Which images the page shows, in which order; and the lists that leave it."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import BAND_WORDS
from blemish.images import UNKNOWN
from blemish.images.labels import Row
from blemish.machine.errors import RequestError
from blemish.review.gallery import Gallery
from blemish.scores import Scores, above

SHOWN = ("all", "open", "flagged", "good", "bad", "skipped", "commented")
ORDERS = ("score", "rising", "name", "recent", "teach", "differ")
PAGE = 60
CELLS = 8  # a map is described by the means of 8 x 8 parts
LEAST_NEW = 0.05  # so that of images that are all alike some are proposed, too
Array = NDArray[np.floating]


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
        if self.band and self.band not in BAND_WORDS:
            raise RequestError(f"`band` must be one of {', '.join(BAND_WORDS)}; got '{self.band}'.")

    @property
    def query(self) -> str:
        """As the address has it."""
        return urlencode(vars(self))

    def rows(self, gallery: Gallery, labels: Labels) -> list[int]:
        """The rows to show, in their order."""
        rows: Sequence[int] = range(len(gallery))
        words, known, names = labels.words, labels.rows, gallery.scores.ids
        if self.group >= 0:
            rows = np.flatnonzero(labels.groups == self.group).tolist()
        if self.folder:
            start = f"{self.folder}/"
            rows = [row for row in rows if names[row].startswith(start)]
        if self.show == "flagged":
            flags = above(gallery.scores.image, labels.threshold)
            rows = [row for row in rows if flags[row]]
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
                if text in names[row].casefold() or (row in known and text in known[row].comment.casefold())
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
    flags = above(gallery.scores.image, threshold)
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


def propose(
    scores: Array,
    chance: Array | None,
    threshold: float,
    labels: NDArray[np.int64],
    described: Array,
    groups: NDArray[np.int64],
    count: int,
) -> list[int]:
    """Rows of up to `count` images without a label, the most instructive first.

    What an image teaches is how open its label is, times how new it is: unlike those that were reviewed or proposed
    before it. Open is a chance of being bad near a half, or a score near the threshold, where the next labels move the
    line. So neither the highest scores alone nor ten pictures of one defect are proposed.

    Parameters
    ----------
    scores : (N,); `chance` (N,) of being bad, if it is known.
    labels : (N,) `UNKNOWN` where there is none.
    described : (N, D) unit vectors, see `describe`.
    groups : (N,) images that are alike share a number; one of each is proposed.
    """
    deviation = float(np.median(np.abs(scores - np.median(scores)))) * 1.4826 or 1.0
    open_ = np.exp(-np.abs(scores - threshold) / deviation)
    if chance is not None:
        open_ = 4 * chance * (1 - chance) + 0.1 * open_
    known = labels != UNKNOWN
    left = ~known & ~np.isin(groups, groups[known])
    nearest = np.zeros(len(scores))
    for seen in np.flatnonzero(known):
        nearest = np.maximum(nearest, described @ described[seen])
    found: list[int] = []
    while len(found) < count and left.any():
        worth = np.where(left, open_ * np.maximum(1 - nearest, LEAST_NEW), -1.0)
        row = int(np.argmax(worth))
        found.append(row)
        left &= groups != groups[row]
        nearest = np.maximum(nearest, described @ described[row])
    return found


def describe(scores: Scores) -> Array:
    """Where and how strongly each map stands out, as unit vectors (N, 64 or fewer)."""
    maps = np.asarray(scores.maps, dtype=np.float32)
    rows = [np.array_split(np.arange(size), min(CELLS, size)) for size in maps.shape[1:]]
    parts = np.stack([maps[:, down][:, :, across].mean(axis=(1, 2)) for down in rows[0] for across in rows[1]], axis=1)
    parts = np.maximum(parts - np.median(parts, axis=0), 0)
    length = np.linalg.norm(parts, axis=1, keepdims=True)
    described: Array = np.divide(parts, length, out=np.zeros_like(parts), where=length > 0)
    return described
