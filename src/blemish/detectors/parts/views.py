"""Ways of looking at an image: which stages at which size, joined into patches that can be compared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.detectors.parts.embedding import Rooted, Standardised
from blemish.detectors.parts.regions_of_interest import drawn_masks, roi_masks, touched, within
from blemish.features import FeatureSpec, PatchFeatures
from blemish.features.backbones import GIVEN, GIVEN_STAGE, backbone, stride_of
from blemish.features.extract import box_in_grid
from blemish.features.store import GLOBALS, valid_patches
from blemish.images import ImageSet
from blemish.machine.errors import JobError, RequestError
from blemish.machine.runtime import side_by_side

R = TypeVar("R")


@dataclass(frozen=True)
class View:
    """Patches of one working size and some stages of the backbone.

    Attributes
    ----------
    pixels : side of the square whose area the working size has.
    stages : joined at the grid of the first one; `GLOBALS` alone takes the image as one patch, for classes instead
        of defects (the semantic variant of FUN-AD).
    pool : side of the square of patches each patch is averaged over; 1 leaves them as they are.
    rooted : whether the embedding takes roots and whitens, or only standardises.
    ranks : whether the view counts for the image score.
    draws : whether the view counts for the map.
    """

    pixels: int
    stages: tuple[str, ...]
    pool: int = 1
    rooted: bool = True
    ranks: bool = True
    draws: bool = True

    def __post_init__(self) -> None:
        """Check what cannot be joined. Raises `RequestError`."""
        if GLOBALS in self.stages and len(self.stages) > 1:
            raise RequestError(f"The stage '{GLOBALS}' is one vector per image and has to be alone; got {self.stages}.")

    @property
    def semantic(self) -> bool:
        """Whether an image is one patch."""
        return self.stages == (GLOBALS,)

    def embedding(self, channels: int) -> Standardised:
        """What makes patches (..., `channels`) comparable; it has not learned anything yet."""
        return (Rooted if self.rooted else Standardised)(channels)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(h, w) of the patches at a working size of (height, width)."""
        stride = stride_of(self.stages[0]) if not self.semantic else 0
        return (size[0] // stride, size[1] // stride) if stride else (1, 1)

    def joined(self, stages: Mapping[str, Tensor]) -> Tensor:
        """Stages (B, h, w, C) and `GLOBALS` (B, G) by name as patches (B, H, W, D) float32, at the view's grid."""
        if self.semantic:
            return stages[GLOBALS].float()[:, None, None, :]
        first = stages[self.stages[0]].float()
        grid = (first.shape[1], first.shape[2])
        parts = [first.permute(0, 3, 1, 2)]
        for name in self.stages[1:]:
            other = stages[name].float().permute(0, 3, 1, 2)
            parts.append(other if other.shape[2:] == grid else F.interpolate(other, size=grid, mode="bilinear"))
        patches = torch.cat(parts, dim=1)
        if self.pool > 1:
            patches = F.avg_pool2d(patches, self.pool, 1, self.pool // 2, count_include_pad=False)
        return patches.permute(0, 2, 3, 1)


DEEP_VIEWS = (View(256, ("16", "32")),)  # what was tried beside it: benchmarks/LOG.md
SEMANTIC_VIEWS = (View(128, (GLOBALS,), rooted=False),)
MIDDLE = ("8", "16")  # PatchCore (arXiv 2106.08265, Sec. 3.1) joins the second and third stage of a wide ResNet
PLAIN_VIEWS = (View(256, MIDDLE, pool=3, rooted=False),)
PAPER_VIEWS = (View(224, ("8",), rooted=False),)  # FUN-AD's, of a transformer with patches of 8


def views_for(name: str, views: Sequence[View]) -> tuple[View, ...]:
    """`views`, or, for the presets above, what takes their place with another backbone than an embedded one.

    A plain transformer has one view, the last layer's patches, and so have given features. A pyramid's is that of
    PatchCore. None of these was tuned.
    """
    if name == GIVEN:  # they have one stage and no size: whatever a detector looks at by default, it looks at them
        alone = all(view.stages == (GIVEN_STAGE,) for view in views)
        return tuple(views) if alone else (View(1, (GIVEN_STAGE,), rooted=False),)
    if tuple(views) not in (DEEP_VIEWS, PLAIN_VIEWS, PAPER_VIEWS):
        return tuple(views)
    entry = backbone(name)
    if entry.package or (tuple(views) == PAPER_VIEWS and PAPER_VIEWS[0].stages[0] in entry.stages):
        return tuple(views)
    if entry.transformer:
        return (View(entry.pixels, (str(entry.align),), rooted=False),)
    stages = tuple(stage for stage in MIDDLE if stage in entry.stages) or tuple(entry.stages)[-1:]
    return (View(entry.pixels, stages, pool=3, rooted=False),)


def specs_of(
    views: Sequence[View], backbone: str, weights: str = "", tile: int = 0, overlap: int = 0
) -> list[FeatureSpec]:
    """One spec for each working size, with every stage that a view of that size looks at."""
    if not any(view.ranks for view in views) or not any(view.draws for view in views):
        raise RequestError("At least one view must rank and one must draw.")
    if len({view.pixels for view in views if view.draws}) > 1:
        raise RequestError("The views that draw must share one size, since their maps are laid over each other.")
    specs = []
    for pixels in dict.fromkeys(view.pixels for view in views):
        wanted = [DEEP_VIEWS[0] if view.semantic else view for view in views if view.pixels == pixels]
        stages = dict.fromkeys(stage for view in wanted for stage in view.stages)
        specs.append(FeatureSpec(backbone, pixels, tuple(stages), weights=weights, tile=tile, overlap=overlap))
    return specs


@dataclass(frozen=True)
class PatchBatch:
    """Patches of a few images.

    Attributes
    ----------
    ids : (B,) the images.
    patches : (B, h, w, D) float32.
    valid : (B, h, w) bool, False in the padding.
    globals : (B, G) float32.
    boxes : (B, 4) left, top, right, bottom of each image in its grid, 0..1.
    """

    ids: tuple[str, ...]
    patches: Tensor
    valid: Tensor
    globals: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class ViewFeatures:
    """The features of an ImageSet as one view sees them."""

    view: View
    features: PatchFeatures

    @property
    def images(self) -> ImageSet:
        """Whose features these are."""
        return self.features.images

    def boxes(self) -> Tensor:
        """(N, 4) left, top, right, bottom of each image in its grid, 0..1."""
        size = self.features.spec.size or (1, 1)
        return torch.tensor([box_in_grid(self.images.sizes[name], size) for name in self.images.ids])

    def valid(self) -> Tensor:
        """(N, h, w) bool, False in the padding."""
        return self._valid(self.images.ids, self.boxes(), self.grid)

    def drawn(self) -> Tensor:
        """(N, h, w) bool, the patches on which a person drew a defect."""
        found = torch.zeros(len(self.images), *self.grid, dtype=torch.bool)
        rows = [row for row, name in enumerate(self.images.ids) if name in self.images.defects]
        if rows:
            masks = drawn_masks(self.images, [self.images.ids[row] for row in rows])
            found[rows] = touched(masks, self.boxes()[rows], self.grid) & self.valid()[rows]
        return found

    def _valid(self, ids: Sequence[str], boxes: Tensor, grid: tuple[int, int]) -> Tensor:
        masks = roi_masks(self.images, ids)
        return valid_patches(boxes, grid) if masks is None else within(masks, boxes, grid)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a map."""
        return self.view.grid(self.features.spec.size or (1, 1))

    def batches(self, ids: Sequence[str] | None = None, stage: str = "") -> Iterator[PatchBatch]:
        """The patches of some images, all by default, a few images at a time."""
        for batch in self.features.batches(ids, stage=stage):
            patches = self.view.joined({**batch.stages, GLOBALS: batch.globals})
            _check_finite(batch.ids, patches)
            valid = self._valid(batch.ids, batch.boxes, (patches.shape[1], patches.shape[2]))
            yield PatchBatch(batch.ids, patches, valid, batch.globals.float(), batch.boxes)

    def each(
        self, function: Callable[[PatchBatch, int], R], stage: str, ids: Sequence[str] | None = None
    ) -> Iterator[R]:
        """What `function` makes of some images, all by default, given the batch and row there, in the order of `ids`.

        Images are worked on side by side.
        """
        for batch in self.batches(ids, stage=stage):
            yield from side_by_side(partial(function, batch), range(len(batch.ids)))

    def maps(self, score: Callable[[PatchBatch, int], Tensor], stage: str) -> Tensor:
        """The map (h, w) that `score` makes of every image, (N, h, w), given its batch and row.

        Each map is put where it stays: they are not there twice. NaN is what no image was put to, which `Scores`
        refuses.
        """
        maps = torch.full((len(self.images), *self.grid), torch.nan)
        for done, scored in enumerate(self.each(score, stage)):
            maps[done] = scored
        return maps


def _check_finite(ids: Sequence[str], patches: Tensor) -> None:
    broken = ~patches.flatten(1).isfinite().all(dim=1)
    if broken.any():
        name = ids[int(broken.nonzero()[0, 0])]
        raise JobError(f"The features of '{name}' are not all finite numbers; leave it out, or take another backbone.")
