"""The images of a Run as the page shows them, by row of the ranking; nothing else on the disk can be named."""

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Decision
from blemish.images.decoding import Decoding, Pixels, decode
from blemish.images.urls import is_url
from blemish.machine.errors import RequestError, UnreadableImageError, sha256_of
from blemish.runs.artifact import check_scored, read_config
from blemish.runs.stored_scores import read_scores
from blemish.scores import Scores
from blemish.scores.heatmaps import MapScale
from blemish.scores.regions import pixel_threshold

MOST_FOLDERS = 300  # to choose from; deeper trees are shown by their upper folders
NOWHERE = -1


@dataclass(frozen=True)
class Gallery:
    """A Run, or the scores of new images, with the folder its images are in.

    Attributes
    ----------
    folder : what `fit` or `score` left.
    root : of the images.
    scores, content : in the order of the ranking, most anomalous first; the SHA-256 of each image as it was scored.
    follow_links : whether links in the image folder may lead out of it.
    """

    folder: Path
    root: Path
    scores: Scores
    content: tuple[str, ...]
    decision: Decision
    scale: MapScale
    decoding: Decoding
    model: Path
    follow_links: bool = False

    @classmethod
    def open(cls, folder: Path, images: Path | None = None, *, follow_links: bool = False) -> "Gallery":
        """Read what a job left. `images` is where its images are now, if they moved. Raises `RequestError`."""
        folder = folder.expanduser()
        config = read_config(folder)
        check_scored(folder, config)
        stored = read_scores(folder)
        if images is None and not config.get("image_root"):
            raise RequestError(
                f"The images of '{folder}' were not read from a folder, so they cannot be shown; fit a folder."
            )
        if images is None and is_url(config["image_root"]):
            raise RequestError(
                f"The images of '{folder}' lie at {config['image_root']}, and the page shows files; copy them, and "
                "name their folder with `images`."
            )
        root = Path(images or config["image_root"]).expanduser()
        if not root.is_dir():
            raise RequestError(
                f"The images are no longer in '{root}'; say where they are now with `images`. Labels are kept."
            )
        try:
            return cls(
                folder.resolve(),
                root.resolve(),
                stored.scores,
                stored.content,
                Decision.from_json(config["decision"]),
                MapScale(**config["map_scale"]),
                Decoding.from_json(config["decoding"]),
                Path(config.get("model") or folder),
                follow_links,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RequestError(f"'{folder}' is damaged ({type(error).__name__}: {error}); fit again.") from None

    def __len__(self) -> int:
        return len(self.scores)

    def name(self, row: int) -> str:
        """The id of an image."""
        return self.scores.ids[row]

    def file(self, row: int) -> Path:
        """Where an image lies. Raises `UnreadableImageError` if that is not below the image folder, or is gone."""
        name = self.name(row)
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name:
            raise UnreadableImageError("its name points outside the image folder")
        path = self.root / name
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError):
            raise UnreadableImageError("it is no longer where it was; give its folder with `images`") from None
        if not self.follow_links and not real.is_relative_to(self.root):
            raise UnreadableImageError("it is a link that points outside the folder; allow that with `follow_links`")
        if not real.is_file():
            raise UnreadableImageError("it is not a file")
        return real

    def read(self, row: int, longer: int | None = None) -> Pixels:
        """The image as uint8 RGB (H, W, 3), see `decode`. Raises `UnreadableImageError`."""
        return decode(self.file(row), self.decoding, longer=longer)

    def changed(self, row: int) -> bool:
        """Whether the file is another one than was scored."""
        try:
            return sha256_of(self.file(row)) != self.content[row]
        except (OSError, UnreadableImageError):
            return False  # that it cannot be read is said where it would be shown

    def map(self, row: int, size: tuple[int, int]) -> NDArray[np.float32]:
        """The anomaly map at `size` (width, height)."""
        return self.scores.map(self.name(row), size)

    @cached_property
    def pixel_threshold(self) -> float:
        """The level of the maps above which a place counts as defective: the detector's, else found in these maps."""
        with suppress(RequestError):  # the Run that scored is gone
            if (stored := read_config(self.model).get("pixel_threshold")) is not None:
                return float(stored)
        return pixel_threshold(self.scores, self.decision.threshold)

    @cached_property
    def folders(self) -> list[str]:
        """The folders images lie in, below the root; upper ones only where there are very many."""
        parents = {PurePosixPath(each) for each in {name.rpartition("/")[0] for name in self.scores.ids}}
        while len(parents) > MOST_FOLDERS and any(len(each.parts) > 1 for each in parents):
            deepest = max(len(each.parts) for each in parents)
            parents = {each.parent if len(each.parts) == deepest else each for each in parents}
        return sorted(str(each) for each in parents if str(each) != ".")

    def place(self) -> Path:
        """The folder of the page's own files, in the Run. Raises `RequestError` if a link leads it elsewhere."""
        place = self.folder / "review"
        place.mkdir(exist_ok=True)
        if not Path(os.path.realpath(place)).is_relative_to(self.folder):
            raise RequestError(f"'{place}' points outside '{self.folder}'; remove that link.")
        return place


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
