"""Small pictures of all images, made once and kept in the Run, and which images show the same thing again."""

import hashlib
import io
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.machine.errors import UnreadableImageError, replacing
from blemish.review.gallery import Gallery
from blemish.scores.heatmaps import layer, shown

LONGER = 288  # pixels of the longer side: sharp on a screen of double density at half that size
QUALITY = 80
CALM = 0.3  # seconds without a request after which thumbnails that nobody asked for are made
HEAT = 144  # pixels of the longer side of the coloured layer, which is smooth
SIDE = 32  # pixels of a print
ALIKE = 0.97  # cosine of what two prints have that the average print of the folder has not
ROWS = 512  # prints compared with all others at a time


class Thumbnails:
    """JPEGs by row, and the coloured layers over them. `fill` makes them all, then finds out which images are alike."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        kind = hashlib.sha256(repr((gallery.decoding, LONGER, QUALITY)).encode()).hexdigest()[:8]
        self.place = gallery.place() / f"thumbnails-{kind}"
        self.place.mkdir(exist_ok=True)
        self.groups: NDArray[np.int64] = np.arange(len(gallery))  # until they are known, each is alone
        self._soon: Sequence[int] = ()
        self._heats: dict[int, bytes] = {}
        self._asked = -CALM  # when a person last waited for an answer
        self._stop = threading.Event()

    def file(self, row: int) -> Path:
        """Where the thumbnail is kept: named by content, which is hexadecimal, never by the image's name."""
        digest = self.gallery.content[row]
        return self.place / digest[:2] / f"{digest}.jpg"

    def kept(self, row: int) -> bytes | None:
        """The JPEG of an image if it was made before."""
        with suppress(OSError):
            return self.file(row).read_bytes()
        return None

    def get(self, row: int) -> bytes:
        """The JPEG of an image, made now if it is not there. Raises `UnreadableImageError`."""
        if kept := self.kept(row):
            return kept
        file, data = self.file(row), io.BytesIO()
        shown(self.gallery.read(row, LONGER), LONGER).save(data, "JPEG", quality=QUALITY)
        with suppress(OSError):  # a full or read-only disk makes the page slower, no more
            file.parent.mkdir(exist_ok=True)
            with replacing(file) as partial:
                partial.write_bytes(data.getvalue())
        return data.getvalue()

    def heat(self, row: int) -> bytes:
        """The coloured layer of an image as PNG; empty where nothing has a colour, as in most images."""
        if row not in self._heats:
            coloured = self.gallery.scale.colours(self.gallery.scores.maps[row])
            self._heats[row] = heat(self.gallery, row) if coloured else b""
        return self._heats[row]

    def make(self, rows: Sequence[int], patience: float) -> None:
        """Make what is missing of these, in their order, until that has taken `patience` seconds."""
        end = time.monotonic() + patience
        for row in rows:
            if time.monotonic() > end:
                return
            if not self.file(row).exists():
                with suppress(UnreadableImageError):
                    self.get(row)

    def soon(self, rows: Sequence[int]) -> None:
        """Let `fill` make these before the others: they will be looked at next."""
        self._soon = rows

    def take_over(self, other: "Thumbnails") -> None:
        """Copy what another Run of the same images has; what cannot be copied is made when it is asked for."""
        if other.place.name == self.place.name:
            with suppress(OSError):
                shutil.copytree(other.place, self.place, dirs_exist_ok=True)

    def give_way(self) -> None:
        """Let `fill` rest for a moment: a person waits for an answer."""
        self._asked = time.monotonic()

    def fill(self) -> None:
        """Make what is missing; ends early once stopped."""
        prints = np.zeros((len(self.gallery), SIDE, SIDE), np.uint8)
        for row in self._order():
            while time.monotonic() - self._asked < CALM and not self._stop.wait(CALM / 3):
                pass
            if self._stop.is_set():
                return
            with suppress(UnreadableImageError, OSError), Image.open(io.BytesIO(self.get(row))) as picture:
                picture.draft("L", (SIDE, SIDE))
                prints[row] = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
            self.heat(row)
        self.groups = alike(prints, self.gallery.content)

    def _order(self) -> Iterator[int]:
        """Every row once: those that will be looked at next, else in the order of the ranking."""
        seen: set[int] = set()
        for row in range(len(self.gallery)):
            while (first := next((each for each in self._soon if each not in seen), row)) not in seen:
                seen.add(first)
                yield first

    def start(self) -> None:
        """Fill in a separate thread."""
        threading.Thread(target=self.fill, name="thumbnails", daemon=True).start()

    def stop(self) -> None:
        """Let `fill` end at the next image."""
        self._stop.set()


def heat(gallery: Gallery, row: int) -> bytes:
    """The coloured layer of an image as PNG, see-through where nothing is unusual."""
    width, height = gallery.scores.sizes[row]
    factor = min(1.0, HEAT / max(width, height))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    data = io.BytesIO()
    layer(gallery.map(row, size), gallery.scale, size).save(data, "PNG", compress_level=1)
    return data.getvalue()


def alike(prints: NDArray[np.uint8], content: Sequence[str]) -> NDArray[np.int64]:
    """The group (N,) of each image: the row of its first member. `prints` (N, SIDE, SIDE) are small grey pictures.

    Images of one product from one camera all look alike; what tells a part from the next is how it departs from their
    average. Images are of one group if these departures have nearly one direction, whatever the brightness, or if the
    content is equal; and so are the friends of friends.
    """
    count = len(prints)
    flat = prints.reshape(count, -1).astype(np.float32)
    flat -= flat.mean(axis=0)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
    _, groups = np.unique(np.array(content), return_inverse=True)
    for start in range(0, count, ROWS):
        rows, others = np.nonzero(flat[start : start + ROWS] @ flat[start:].T > ALIKE)
        groups = _joined(groups, start + rows, start + others)
    _, first, which = np.unique(groups, return_index=True, return_inverse=True)
    return first[which]


def _joined(groups: NDArray[np.int64], rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups (N,) as numbers from 0, those that a row and the `others` beside it are of made one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    shape = (len(groups), len(groups))
    links = coo_array((np.ones(len(rows)), (groups[rows], groups[others])), shape)
    return np.asarray(connected_components(links, directed=False)[1][groups], dtype=np.int64)
