"""Features of an ImageSet: made where they are missing, kept, and read in slices."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blemish.errors import UnreadableImageError
from blemish.features.cache import IN_USE_SECONDS, prune
from blemish.features.extract import FeatureSpec, box_in_grid, extractor
from blemish.features.shards import GLOBALS, Features, FeatureStore
from blemish.images import ImageSet
from blemish.runtime import in_threads, intra_op_threads, runtime

__all__ = ["GLOBALS", "FeatureBatch", "FeatureStore", "PatchFeatures", "valid_patches"]

SHARD_IMAGES = 32  # at most this many images are lost when an extraction is killed


@dataclass(frozen=True)
class FeatureBatch:
    """Features of a few images.

    Attributes
    ----------
    ids : (B,) the images.
    globals : (B, G) float16, the pooled deepest stage.
    stages : by name, (B, h, w, C) float16, each at its own grid.
    boxes : (B, 4) float32, where each image lies in its grid: left, top, right, bottom, each 0..1.
    """

    ids: tuple[str, ...]
    globals: Tensor
    stages: Mapping[str, Tensor]
    boxes: Tensor

    def subset(self, ids: Sequence[str]) -> "FeatureBatch":
        """The features of `ids`, in that order."""
        if tuple(ids) == self.ids:
            return self
        rows = torch.tensor([self.ids.index(name) for name in ids])
        stages = {name: stage[rows] for name, stage in self.stages.items()}
        return FeatureBatch(tuple(ids), self.globals[rows], stages, self.boxes[rows])


def valid_patches(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h, w) bool from boxes (B, 4): the patches whose centre lies inside."""
    rows = (torch.arange(grid[0], device=boxes.device) + 0.5) / grid[0]
    columns = (torch.arange(grid[1], device=boxes.device) + 0.5) / grid[1]
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    # An image as thin as a strip may hold no centre: then the patch nearest to its middle stands for it.
    inside_rows = (rows > top) & (rows < bottom) | _nearest(rows, (top + bottom) / 2)
    inside_columns = (columns > left) & (columns < right) | _nearest(columns, (left + right) / 2)
    return inside_rows[:, :, None] & inside_columns[:, None, :]


def _nearest(centres: Tensor, middle: Tensor) -> Tensor:
    """(B, n) bool, which of the centres (n,) is nearest to each middle (B, 1)."""
    away = (centres - middle).abs()
    return away == away.amin(dim=1, keepdim=True)


@dataclass
class PatchFeatures:
    """Features of an ImageSet at one spec, in the order of its ids; each made at most once.

    Attributes
    ----------
    images : whose features these are; unreadable ones are still among them.
    spec : with its working size.
    unreadable : images met so far that could not be decoded, with the reason.
    """

    images: ImageSet
    spec: FeatureSpec
    store: FeatureStore
    unreadable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, images: ImageSet, spec: FeatureSpec) -> "PatchFeatures":
        """Features of `images` through the cache of the runtime."""
        return cls(images, spec, FeatureStore.at(runtime().cache, spec, images))

    def batches(
        self, ids: Sequence[str] | None = None, *, size: int = SHARD_IMAGES, stage: str = ""
    ) -> Iterator[FeatureBatch]:
        """The features in slices of up to `size` images; memory does not grow with the number of images.

        Unreadable images are left out and noted in `unreadable`. `stage` names the progress bar.
        """
        names = self.images.ids if ids is None else tuple(ids)
        for start in range(0, len(names), size):
            batch = self._read(names[start : start + size])
            if batch is not None:
                yield batch
            if stage:
                runtime().progress(stage, min(start + size, len(names)), len(names))

    def make(self) -> int:
        """Make and keep whatever is missing; returns how many images were handed to the backbone."""
        names = self._one_each(
            self.images.ids, self.store.missing(self.images.content[name] for name in self.images.ids)
        )
        if names:
            prune(runtime().cache, runtime().cache_bytes, unused_for=IN_USE_SECONDS)
            runtime().progress("features", 0, len(names))
        for start in range(0, len(names), SHARD_IMAGES):
            part = names[start : start + SHARD_IMAGES]
            self._compute(part, keep=True)
            runtime().progress("features", start + len(part), len(names))
        self._spread_reasons(self.images.ids)
        return len(names)

    def _read(self, names: Sequence[str]) -> FeatureBatch | None:
        content = self.images.content
        names = [name for name in names if name not in self.unreadable]
        found = self.store.read(content[name] for name in names)
        if missing := self._one_each(names, {content[name] for name in names}.difference(found)):
            found |= self._compute(missing, keep=runtime().keep_features)
            self._spread_reasons(names)
            names = [name for name in names if name not in self.unreadable]
        if not names:
            return None
        parts = [found[content[name]] for name in names]
        boxes = [box_in_grid(self.images.sizes[name], self.spec.size or (1, 1)) for name in names]
        return FeatureBatch(
            tuple(names),
            torch.stack([part[GLOBALS] for part in parts]),
            {stage: torch.stack([part[stage] for part in parts]) for stage in self.spec.stages},
            torch.tensor(boxes, dtype=torch.float32),
        )

    def _compute(self, names: Sequence[str], *, keep: bool) -> dict[str, Features]:
        """Decode and pass the backbone, one image a thread; returns the features by content.

        One image at a time a core is the fastest on a CPU (its activations stay in the cache), and makes an
        image's features independent of the company it came in and of the number of threads. What was made
        before an interruption is kept.
        """
        network, device = extractor(self.spec, runtime().device), runtime().device

        def one(name: str) -> Features | str:
            try:
                rgb = torch.from_numpy(self.images.read(name))
            except UnreadableImageError as error:
                return str(error)
            with torch.inference_mode():
                whole, stages = network(rgb.permute(2, 0, 1)[None].to(device))
            named = {GLOBALS: whole, **dict(zip(self.spec.stages, stages, strict=True))}
            return {name: tensor[0].half().cpu() for name, tensor in named.items()}

        made: dict[str, Features] = {}
        try:
            with intra_op_threads(1), closing(in_threads(one, names, runtime().threads)) as results:
                for name, result in zip(names, results, strict=True):
                    if isinstance(result, str):
                        self.unreadable[name] = result
                    else:
                        made[name] = result
        finally:
            if keep:
                self.store.add(made, self.images)
        return {self.images.content[name]: features for name, features in made.items()}

    def _one_each(self, names: Sequence[str], contents: set[str]) -> list[str]:
        """One of `names` for each of `contents`, so that copies pass the backbone once."""
        first = {self.images.content[name]: name for name in reversed(names)}
        return sorted(first[content] for content in contents)

    def _spread_reasons(self, names: Sequence[str]) -> None:
        """What is wrong with an image is wrong with its copies."""
        content = self.images.content
        reasons = {content[name]: reason for name, reason in self.unreadable.items()}
        self.unreadable.update({name: reasons[content[name]] for name in names if content[name] in reasons})
