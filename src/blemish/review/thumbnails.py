"""Small pictures of all images, made once and kept in the Run; a thread makes those nobody has asked for yet."""

import hashlib
import io
import os
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.machine.errors import UnreadableImageError
from blemish.review.gallery import Gallery
from blemish.review.near_duplicates import SIDE, alike
from blemish.scores.heatmaps import layer, shown

LONGER = 288  # pixels of the longer side: sharp on a screen of double density at half that size
QUALITY = 80
CALM = 0.3  # seconds without a request after which thumbnails that nobody asked for are made
HEAT = 144  # pixels of the longer side of the coloured layer, which is smooth


class Thumbnails:
    """JPEGs by row. `fill` makes them all, then finds out which images are alike."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        kind = hashlib.sha256(repr((gallery.decoding, LONGER, QUALITY)).encode()).hexdigest()[:8]
        self.place = gallery.place() / f"thumbnails-{kind}"
        self.place.mkdir(exist_ok=True)
        self.groups: NDArray[np.int64] = np.arange(len(gallery))  # until they are known, each is alone
        self.done = 0
        self._asked = -CALM  # when a person last waited for an answer
        self._stop = threading.Event()

    def file(self, row: int) -> Path:
        """Where the thumbnail is kept: named by content, which is hexadecimal, never by the image's name."""
        digest = self.gallery.content[row]
        return self.place / digest[:2] / f"{digest}.jpg"

    def get(self, row: int) -> bytes:
        """The JPEG of an image, made now if it is not there. Raises `UnreadableImageError`."""
        file = self.file(row)
        with suppress(OSError):
            return file.read_bytes()
        data = io.BytesIO()
        shown(self.gallery.read(row), LONGER).save(data, "JPEG", quality=QUALITY)
        with suppress(OSError):  # a full or read-only disk makes the page slower, no more
            file.parent.mkdir(exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
            partial.write_bytes(data.getvalue())
            partial.replace(file)
        return data.getvalue()

    def take_over(self, other: "Thumbnails") -> None:
        """Copy what another Run of the same images has; what cannot be copied is made when it is asked for."""
        if other.place.name == self.place.name:
            with suppress(OSError):
                shutil.copytree(other.place, self.place, dirs_exist_ok=True)

    def heat(self, row: int) -> bytes:
        """The coloured layer of an image as PNG, see-through where nothing is unusual."""
        width, height = self.gallery.scores.sizes[row]
        factor = min(1.0, HEAT / max(width, height))
        size = max(1, round(width * factor)), max(1, round(height * factor))
        data = io.BytesIO()
        layer(self.gallery.map(row, size), self.gallery.scale, size).save(data, "PNG", compress_level=3)
        return data.getvalue()

    def give_way(self) -> None:
        """Let `fill` rest for a moment: a person waits for an answer."""
        self._asked = time.monotonic()

    def fill(self) -> None:
        """Make what is missing, in the order of the ranking; ends early once stopped."""
        prints = np.zeros((len(self.gallery), SIDE, SIDE), np.uint8)
        for row in range(len(self.gallery)):
            while time.monotonic() - self._asked < CALM and not self._stop.wait(CALM / 3):
                pass
            if self._stop.is_set():
                return
            with suppress(UnreadableImageError, OSError), Image.open(io.BytesIO(self.get(row))) as picture:
                picture.draft("L", (SIDE, SIDE))
                prints[row] = np.asarray(picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX))
            self.done = row + 1
        self.groups = alike(prints, self.gallery.content)

    def start(self) -> None:
        """Fill in a thread of its own."""
        threading.Thread(target=self.fill, name="thumbnails", daemon=True).start()

    def stop(self) -> None:
        """Let `fill` end at the next image."""
        self._stop.set()
