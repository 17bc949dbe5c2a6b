"""Why an image scores high: its most unusual places, and the places of other images that they were compared with."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blemish.detectors import Detector
from blemish.detectors.nearest_images import (
    ImageNeighbours,
    NearestImages,
    NearestPatches,
    layouts_of,
    relative_distances,
)
from blemish.detectors.parts.views import View, ViewFeatures
from blemish.features import features_of
from blemish.images import ImageSet
from blemish.machine.errors import RequestError, UnreadableImageError
from blemish.machine.runtime import use_runtime
from blemish.review.gallery import Gallery
from blemish.runs.run import load

COMPARED = 80  # images that look normal, where the detector does not compare images itself
PLACES, NEAREST = 2, 3  # places explained of an image, and images shown for each
APART = 0.15  # of the image's sides, between two places

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Place:
    """A patch of an image: its row, and (left, top, right, bottom) as shares of the image's sides."""

    row: int
    box: Box


@dataclass(frozen=True)
class Reason:
    """An unusual place, the most similar places of other images, and how far they are.

    `times` is the distance in units of what is usual at those places.
    """

    place: Place
    nearest: Sequence[Place]
    times: float


class Reasons:
    """Explains rows of a gallery by what its detector compared them with.

    A detector that compares no images, or other images than these, has a `NearestImages` of the lower half of the
    ranking stand in. It is fitted at the first question, and kept. Once `stopping`, which is asked after each image,
    questions end with a `RequestError`: nobody waits for that fit.
    """

    def __init__(self, gallery: Gallery, stopping: Callable[[], bool]) -> None:
        self.gallery, self.stopping = gallery, stopping
        self._lock = threading.Lock()
        self._ready = False

    def of(self, row: int) -> list[Reason]:
        """The most unusual places of the image in this row, and why. Raises `RequestError` if there are no patches."""
        with self._lock, torch.no_grad(), use_runtime(progress=self._go_on):
            self._go_on()
            if not self._ready:
                self._prepare()
            patches = self._patches(row)
            embedded = self.scorer.embedded(patches)
            layouts = layouts_of(self.scorer.embedding.strongest(embedded), patches.shape[1:3])
            near = self.scorer.nearest_images(layouts, self.scorer.own_group(layouts))
            compared = self.scorer.nearest_patches(embedded, near, *self.scorer.window)
            times = 2 * relative_distances(compared, self.scorer.spacing, self.scorer.typical[0])[0]
            size = (patches.shape[1], patches.shape[2])
            return [self._reason(row, at, size, compared, times) for at in self._peaks(row, size)]

    def _go_on(self, *_: object) -> None:
        if self.stopping():
            raise RequestError("The page is being stopped.")

    def _prepare(self) -> None:
        detector = load(self.gallery.model).detector
        if not detector.looks_at_patches:
            raise RequestError(f"{detector.name} does not compare patches, so there is no nearest one to show.")
        self.row_of = {content: row for row, content in enumerate(self.gallery.content)}
        for view, scorer in detector.patch_scorers():
            for part in scorer.modules():
                if isinstance(part, ImageNeighbours) and self._shown(part):
                    self._take(detector, view, part)
                    return
        view = next((v for v in detector.views if v.ranks and v.draws), detector.views[0])
        calm = range(
            min(len(self.gallery) // 2, max(0, len(self.gallery) - NearestImages.min_images)), len(self.gallery)
        )
        images = self._images(np.random.default_rng(0).permutation(calm)[:COMPARED].tolist())
        view = replace(view, ranks=True, draws=True)
        settings = detector.settings()
        of: dict[str, Any] = {name: settings[name] for name in ("backbone", "weights", "tile", "overlap")}
        stand_in = NearestImages(views=(view,), turned=0, **of).fit(images)
        self._take(stand_in, view, next(iter(stand_in.neighbours())))

    def _take(self, detector: Detector, view: View, scorer: ImageNeighbours) -> None:
        self.view, self.scorer, self._ready = view, scorer, True
        self.spec = next(spec for spec in detector.feature_specs() if spec.pixels == view.pixels)

    def _shown(self, scorer: ImageNeighbours) -> bool:
        """Whether the images that it compares with are among these."""
        return any(row.numpy().tobytes().hex() in self.row_of for row in scorer.content)

    def _images(self, rows: Sequence[int]) -> ImageSet:
        """The rows that can be read. Raises `RequestError` if none can."""
        files = {}
        for row in rows:
            with suppress(UnreadableImageError):
                files[self.gallery.name(row)] = self.gallery.file(row)
        if not files:
            raise RequestError("None of these images can be read any more.")
        return replace(ImageSet.named(files, root=self.gallery.root), decoding=self.gallery.decoding)

    def _patches(self, row: int) -> Tensor:
        """(1, h, w, D)."""
        images = self._images([row])
        (batch,) = ViewFeatures(self.view, features_of(images, self.spec)).batches()
        return batch.patches

    def _peaks(self, row: int, size: tuple[int, int]) -> list[tuple[int, int]]:
        """The places (y, x) of a grid of `size` (h, w) where the map is highest, apart from each other."""
        height, width = size
        levels = np.array(self.gallery.map(row, (width, height)))
        down, across = np.mgrid[0:height, 0:width]
        found: list[tuple[int, int]] = []
        for _ in range(PLACES):
            y, x = divmod(int(np.argmax(levels)), width)
            if not np.isfinite(levels[y, x]):
                break
            found.append((y, x))
            levels[(abs(down - y) <= APART * height) & (abs(across - x) <= APART * width)] = -np.inf
        return found

    def _reason(
        self, row: int, peak: tuple[int, int], size: tuple[int, int], compared: NearestPatches, times: Tensor
    ) -> Reason:
        # The map covers the image without its frame, the grid with it.
        y, x = self._in_grid(row, peak, size)
        at = y * size[1] + x
        nearest = []
        for entry in compared.entries[0, at].tolist():
            image, patch = divmod(entry, self.scorer.patches.shape[1])
            owner = self.row_of.get(self.scorer.content[image].numpy().tobytes().hex())
            if owner is not None:
                place = upright(
                    *divmod(int(self.scorer.where[patch]), size[1]), *size, int(self.scorer.quarters[image])
                )
                nearest.append(self._place(owner, *place, *size))
        return Reason(self._place(row, y, x, *size), nearest[:NEAREST], float(times[at]))

    def _in_grid(self, row: int, peak: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        left, top, right, bottom = self.gallery.scores.boxes[row].tolist()
        (y, x), (height, width) = peak, size
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


def upright(y: int, x: int, height: int, width: int, quarters: int) -> tuple[int, int]:
    """Where a place (y, x) of a grid turned by `quarters` against the clock was before; the grid is square if odd."""
    return {
        0: (y, x),
        1: (x, width - 1 - y),
        2: (height - 1 - y, width - 1 - x),
        3: (height - 1 - x, y),
    }[quarters]
