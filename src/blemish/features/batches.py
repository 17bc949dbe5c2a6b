"""Features of an ImageSet in slices, wherever they come from."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blemish.features.backbones import GIVEN_STAGE
from blemish.features.extract import FeatureSpec
from blemish.images import ImageSet
from blemish.images.feature_arrays import FeatureArray
from blemish.machine.errors import RequestError
from blemish.machine.runtime import intra_op_threads, runtime

SLICE = 32  # images read together
WHOLE = (0.0, 0.0, 1.0, 1.0)  # the box of an image that fills its grid


@dataclass(frozen=True)
class FeatureBatch:
    """Features of a few images.

    Attributes
    ----------
    ids : (B,) the images.
    globals : (B, G) float16, the pooled deepest stage or the class token; float32 if given.
    stages : by name, (B, h, w, C) float16, each at its own grid; float32 if given.
    boxes : (B, 4) float32, where each image is in its grid: left, top, right, bottom, each 0..1.
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
    """(B, h, w) bool from boxes (B, 4): the patches whose centre is inside."""
    rows = (torch.arange(grid[0], device=boxes.device) + 0.5) / grid[0]
    columns = (torch.arange(grid[1], device=boxes.device) + 0.5) / grid[1]
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    # An image as thin as a strip may hold no centre: then the patch nearest to its middle is taken.
    inside_rows = (rows > top) & (rows < bottom) | _nearest(rows, (top + bottom) / 2)
    inside_columns = (columns > left) & (columns < right) | _nearest(columns, (left + right) / 2)
    return inside_rows[:, :, None] & inside_columns[:, None, :]


def _nearest(centres: Tensor, middle: Tensor) -> Tensor:
    """(B, n) bool, which of the centres (n,) is nearest to each middle (B, 1)."""
    away = (centres - middle).abs()
    return away == away.amin(dim=1, keepdim=True)


@dataclass
class PatchFeatures(ABC):
    """Features of an ImageSet at one spec, in the order of its ids.

    Attributes
    ----------
    images : whose features these are; the skipped ones are still among them.
    spec : with its working size.
    skipped : images met so far that could not be decoded, with the reason.
    """

    images: ImageSet
    spec: FeatureSpec
    skipped: dict[str, str] = field(default_factory=dict)

    def batches(
        self, ids: Sequence[str] | None = None, *, size: int = SLICE, stage: str = ""
    ) -> Iterator[FeatureBatch]:
        """The features in slices of up to `size` images; memory does not grow with the number of images.

        Images that cannot be decoded are left out and noted in `skipped`. `stage` names the progress bar.
        """
        names = self.images.ids if ids is None else tuple(ids)
        size = self.spec.at_once(size)
        for start in range(0, len(names), size):
            with intra_op_threads(1):  # copies of some KB: threads would only wait for each other
                batch = self._read(names[start : start + size])
            if batch is not None:
                yield batch
            if stage:
                runtime().progress(stage, min(start + size, len(names)), len(names))

    @abstractmethod
    def make(self) -> int:
        """Make and keep whatever is missing; returns how many images passed the backbone."""

    @abstractmethod
    def _read(self, names: Sequence[str]) -> FeatureBatch | None:
        """The features of `names`, without the skipped ones; None if none is left."""


@dataclass
class ArrayFeatures(PatchFeatures):
    """The features of an ImageSet made of features alone, `arrays` by id; there is nothing to make or to keep."""

    arrays: dict[str, FeatureArray] = field(default_factory=dict)

    @classmethod
    def of(cls, images: ImageSet, spec: FeatureSpec) -> "ArrayFeatures":
        """Raises `RequestError` if `images` hold pixels, or features of another shape than `spec` says."""
        arrays = images.feature_arrays()
        for name, features in arrays.items():
            if (features.grid, features.widths) != (spec.size, spec.widths):
                raise RequestError(
                    f"The features of '{name}' are {_shape(features.grid, features.widths)}, those before them "
                    f"{_shape(spec.size, spec.widths)}; all, and those learned from, must be of one kind."
                )
        return cls(images, spec, arrays=arrays)

    def make(self) -> int:
        """See `PatchFeatures`."""
        return 0

    def _read(self, names: Sequence[str]) -> FeatureBatch | None:
        patches = torch.stack([_tensor(self.arrays[name].patches()) for name in names])
        wholes = torch.stack([_tensor(self.arrays[name].whole()) for name in names])
        return FeatureBatch(tuple(names), wholes, {GIVEN_STAGE: patches}, torch.tensor([WHOLE] * len(names)))


def _tensor(array: object) -> Tensor:
    return torch.tensor(array)  # a copy: what is mapped from disk may not be written to


def _shape(grid: tuple[int, int] | None, widths: tuple[int, int] | None) -> str:
    rows, columns = grid or (0, 0)
    whole, patch = widths or (0, 0)
    return f"{rows}x{columns} patches of width {patch} with a global vector of {whole}"
