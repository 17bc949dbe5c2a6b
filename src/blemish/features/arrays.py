"""Features that were computed elsewhere, in the form that detectors read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blemish.features.backbones import GIVEN_STAGE
from blemish.features.batches import FeatureBatch, PatchFeatures
from blemish.features.extract import FeatureSpec
from blemish.images import ImageSet
from blemish.images.feature_arrays import FeatureArray
from blemish.machine.errors import RequestError

WHOLE = (0.0, 0.0, 1.0, 1.0)  # the box of an image that fills its grid


@dataclass
class ArrayFeatures(PatchFeatures):
    """The features of an ImageSet made of features alone, `arrays` by id; there is nothing to make or to keep."""

    arrays: dict[str, FeatureArray] = field(default_factory=dict)

    @classmethod
    def of(cls, images: ImageSet, spec: FeatureSpec) -> "ArrayFeatures":
        """Raises `RequestError` if `images` hold pixels, or features of another shape than those of `spec`."""
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
