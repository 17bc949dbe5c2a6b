"""Another Run of the same images, shown beside the first."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.machine.errors import RequestError, UnreadableImageError
from blemish.review.gallery import Gallery
from blemish.scores.regions import pixel_threshold

NOWHERE = -1


@dataclass(frozen=True)
class Beside:
    """The other Run, and which of its rows shows the same image.

    Attributes
    ----------
    gallery : of the other Run.
    rows : (N,) by row of the first Run, the row of the same content here; `NOWHERE` if there is none.
    """

    gallery: Gallery
    rows: NDArray[np.int64]

    @classmethod
    def of(cls, first: Gallery, folder: Path) -> "Beside":
        """The Run of `folder` beside the `first`. Raises `RequestError` if it shows none of its images."""
        other = Gallery.open(folder, first.root, follow_links=first.follow_links)
        row_of = {content: row for row, content in enumerate(other.content)}
        rows = np.array([row_of.get(content, NOWHERE) for content in first.content], dtype=np.int64)
        if (rows == NOWHERE).all():
            raise RequestError(
                f"'{folder}' holds none of the images of '{first.folder}'; name a Run of the same images in `beside`."
            )
        return cls(other, rows)

    @property
    def name(self) -> str:
        """What the page calls the other Run."""
        return self.gallery.folder.name

    @cached_property
    def level(self) -> float:
        """The level of its maps above which a place counts as defective."""
        stored = self.gallery.pixel_threshold
        return pixel_threshold(self.gallery.scores, self.gallery.decision.threshold) if stored is None else stored

    def row(self, row: int) -> int:
        """The row there of a row of the first Run. Raises `UnreadableImageError` if the image is not in it."""
        other = int(self.rows[row])
        if other == NOWHERE:
            raise UnreadableImageError(f"'{self.name}' does not hold this image")
        return other

    def places_apart(self) -> NDArray[np.int64]:
        """(N,) how many places of the ranking each image of the first Run is away there; 0 where it is not in it."""
        away = np.abs(self.rows - np.arange(len(self.rows)))
        return np.where(self.rows == NOWHERE, 0, away)
