"""FUN-AD*: images with synthetic defects, made from the contaminated folder itself (spec/fun-ad.md section 8)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from blemish.detectors.funad.pool import Pool, pool_of
from blemish.detectors.parts.sampling import group_numbers
from blemish.detectors.parts.views import ViewFeatures
from blemish.features import FeatureSpec, features_of
from blemish.features.extract import box_in_grid
from blemish.images import ANOMALOUS, UNKNOWN, ImageSet
from blemish.images.synthesis import perlin_anomaly

DEFECT_SHARE = 0.1  # of a patch's area, from which on the patch counts as part of the defect


@dataclass(frozen=True)
class SyntheticImages:
    """Images of the folder with a synthetic defect.

    Attributes
    ----------
    images : in the order they were made.
    sources : (M,) row of the image of the folder each was made from; it is in the fold and group of that one.
    masks : where the defects are, bool (H, W) each.
    """

    images: ImageSet
    sources: Tensor
    masks: Sequence[NDArray[np.bool_]]

    def pool(self, view: ViewFeatures, spec: FeatureSpec, patches: int, seed: int, labels: str) -> Pool:
        """Patches of these images as `view` sees them; `labels` "mask" gives their labels, "pseudo" does not."""
        features = ViewFeatures(view.view, features_of(self.images, spec))
        pool = pool_of(features, patches, seed)
        groups = group_numbers(view.images)[self.sources]
        if labels == "pseudo":
            return replace(pool, groups=groups)
        height, width = features.valid().shape[1:]
        shares = torch.stack([
            _in_grid(mask, box_in_grid((mask.shape[1], mask.shape[0]), spec.size or (1, 1)), (height, width))
            for mask in self.masks
        ])  # fmt: skip
        inside = shares.flatten(1)[pool.owners, pool.positions]
        # beyond the synthetic defect the image is one of the folder, and may have a true one
        return replace(pool, groups=groups, known_labels=torch.where(inside > DEFECT_SHARE, ANOMALOUS, UNKNOWN))


def with_synthetic_defects(images: ImageSet, count: int, seed: int) -> SyntheticImages:
    """`count` images made from those of the folder, half with a texture that is another image of it."""
    rng = np.random.default_rng([seed, 8])
    names = images.ids
    row = {name: index for index, name in enumerate(names)}
    chosen = [names[at] for at in rng.choice(len(names), count, replace=count > len(names))]
    pixels, masks = [], []
    for name in chosen:
        other = images.read(names[int(rng.integers(len(names)))]) if rng.random() < 0.5 else None
        changed, mask = perlin_anomaly(images.read(name), rng, other)
        pixels.append(changed)
        masks.append(mask)
    made = ImageSet.of(pixels)
    if images.roi is not None:
        made = replace(made, roi=images.roi.renamed(dict(zip(made.ids, chosen, strict=True))))
    lost = {new: images.lost[old] for new, old in zip(made.ids, chosen, strict=True) if old in images.lost}
    made = replace(made, lost=lost)
    return SyntheticImages(made, torch.tensor([row[name] for name in chosen]), masks)


def _in_grid(mask: NDArray[np.bool_], box: tuple[float, float, float, float], grid: tuple[int, int]) -> Tensor:
    """The share of each patch that is in a mask, (h, w), for an image at `box` in the grid."""
    left, top, right, bottom = (round(at * side) for at, side in zip(box, (grid[1], grid[0]) * 2, strict=True))
    size = (max(1, bottom - top), max(1, right - left))
    shares = F.interpolate(torch.from_numpy(mask)[None, None].float(), size=size, mode="area")[0, 0]
    placed = torch.zeros(grid)
    placed[top : top + size[0], left : left + size[1]] = shares[: grid[0] - top, : grid[1] - left]
    return placed
