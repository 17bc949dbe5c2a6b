"""Why an image scores high: its most unusual places, and the nearest places of images that look normal."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from blemish.detectors import FeatureDetector
from blemish.detectors.memory_bank import empty_embedding
from blemish.detectors.nearest import squared_distances
from blemish.detectors.views import ViewFeatures
from blemish.errors import RequestError, UnreadableImageError
from blemish.images import ImageSet
from blemish.review.gallery import Gallery
from blemish.run import load

COMPARED = 80  # images that look normal, drawn from the lower half of the ranking
ENTRIES = 20_000  # of their patches
PLACES, NEAREST = 2, 3  # places explained of an image, and images shown for each
APART = 0.15  # of the image's sides, between two places
USUAL = 400  # patches that tell what distance is usual

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Place:
    """A patch of an image: its row, and (left, top, right, bottom) as shares of the image's sides."""

    row: int
    box: Box


@dataclass(frozen=True)
class Reason:
    """An unusual place, the most similar places of normal-looking images, and how far they are.

    `times` is the distance to the nearest in units of what is usual between normal-looking images.
    """

    place: Place
    nearest: Sequence[Place]
    times: float


class Reasons:
    """Explains rows of a gallery. The normal-looking patches are gathered at the first question, and kept."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._lock = threading.Lock()
        self._ready = False

    def of(self, row: int) -> list[Reason]:
        """The reasons for one image. Raises `RequestError` where the detector has no patches to compare."""
        with self._lock, torch.no_grad():
            if not self._ready:
                self._gather()
            patches, width = self._patches([row])[row]
            return [self._reason(row, at, patches, width) for at in self._peaks(row, patches, width)]

    def _gather(self) -> None:
        detector = load(self.gallery.model).detector
        if not isinstance(detector, FeatureDetector):
            raise RequestError(f"{detector.name} does not compare patches, so there is no nearest one to show.")
        self.view = next((v for v in detector.views if v.ranks and v.draws), detector.views[0])
        self.spec = next(spec for spec in detector.feature_specs() if spec.pixels == self.view.pixels)
        count = len(self.gallery)
        calm = np.arange(count // 2, count)
        rows = np.sort(np.random.default_rng(0).permutation(calm)[:COMPARED]).tolist()
        found = self._patches(rows)
        if not found:
            raise RequestError("None of the normal-looking images can be read any more.")
        values, owners, places = [], [], []
        each = max(1, ENTRIES // len(found))
        random = torch.Generator().manual_seed(0)
        for row, (patches, width) in found.items():
            at = torch.randperm(len(patches), generator=random)[:each]
            values.append(patches[at])
            owners.append(torch.full((len(at),), row))
            places.append(torch.stack([at // width, at % width, torch.full_like(at, len(patches) // width),
                                       torch.full_like(at, width)], dim=1))  # fmt: skip
        joined = torch.cat(values)
        self.embedding = empty_embedding(self.view, joined.shape[1]).learn(joined)
        self.entries, self.owners, self.places = self.embedding(joined), torch.cat(owners), torch.cat(places)
        some = torch.randperm(len(self.entries), generator=random)[:USUAL]
        away = squared_distances(self.entries[some], self.entries)
        away = away.masked_fill(self.owners[some][:, None] == self.owners, torch.inf).amin(1).sqrt()
        usual = away[away.isfinite()]
        self.usual = float(usual.median()) if len(usual) else 1.0
        self._ready = True

    def _patches(self, rows: Sequence[int]) -> dict[int, tuple[Tensor, int]]:
        """By row, the patches (h * w, D) and the width of the grid; rows that cannot be read are left out."""
        files = {}
        for row in rows:
            try:
                files[self.gallery.name(row)] = (row, self.gallery.file(row))
            except UnreadableImageError:
                continue
        if not files:
            return {}
        images = ImageSet.named({name: path for name, (_, path) in files.items()}, root=self.gallery.root)
        images = replace(images, decoding=self.gallery.decoding)
        seen = ViewFeatures(self.view, images.features(self.spec))
        found = {}
        for batch in seen.batches():
            for index, name in enumerate(batch.ids):
                grid = batch.patches[index]
                found[files[name][0]] = (grid.flatten(0, 1), grid.shape[1])
        return found

    def _peaks(self, row: int, patches: Tensor, width: int) -> list[int]:
        """The patches at the highest places of the map, apart from each other."""
        height = len(patches) // width
        levels = np.array(self.gallery.map(row, (width, height)))
        down, across = np.mgrid[0:height, 0:width]
        found: list[int] = []
        for _ in range(PLACES):
            at = int(np.argmax(levels))
            if not np.isfinite(levels.flat[at]):
                break
            found.append(at)
            y, x = divmod(at, width)
            levels[(abs(down - y) <= APART * height) & (abs(across - x) <= APART * width)] = -np.inf
        return found

    def _reason(self, row: int, at: int, patches: Tensor, width: int) -> Reason:
        height = len(patches) // width
        # The map covers the image without its frame, the grid with it.
        y, x = self._in_grid(row, at, height, width)
        query = self.embedding(patches[y * width + x][None])
        away = squared_distances(query, self.entries)[0].masked_fill(self.owners == row, torch.inf)
        nearest: dict[int, Place] = {}
        for entry in away.argsort().tolist():
            owner = int(self.owners[entry])
            if owner not in nearest and owner != row:
                nearest[owner] = self._place(owner, *self.places[entry].tolist())
            if len(nearest) == NEAREST:
                break
        times = float(away.min().sqrt()) / max(self.usual, 1e-9)
        return Reason(self._place(row, y, x, height, width), list(nearest.values()), times)

    def _in_grid(self, row: int, at: int, height: int, width: int) -> tuple[int, int]:
        left, top, right, bottom = self.gallery.scores.boxes[row].tolist()
        y, x = divmod(at, width)
        down = (top + (y + 0.5) / height * (bottom - top)) * height
        across = (left + (x + 0.5) / width * (right - left)) * width
        return min(int(down), height - 1), min(int(across), width - 1)

    def _place(self, row: int, y: int, x: int, height: int, width: int) -> Place:
        left, top, right, bottom = self.gallery.scores.boxes[row].tolist()

        def share(cell: float, low: float, high: float) -> float:
            return min(1.0, max(0.0, (cell - low) / max(high - low, 1e-9)))

        return Place(row, (
            share(x / width, left, right), share(y / height, top, bottom),
            share((x + 1) / width, left, right), share((y + 1) / height, top, bottom),
        ))  # fmt: skip
