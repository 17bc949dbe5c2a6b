"""Pseudo-labels of patches from their distance to what looks normal now (spec/fun-ad.md sections 4 and 5)."""

from typing import Literal

import torch
from torch import Tensor

from blemish.detectors.nearest import squared_distances

Scale = Literal["minmax", "quantile"]
TAU_NORMAL = 0.5  # FUN-AD Sec. 4: a patch whose normalised distance is above is labelled an anomaly
TAU_CONFIDENT = 0.9  # ... and above this confidently so: it is not perturbed
SURE = 0.999  # quantile of the normal-looking patches' distances that lies at TAU_NORMAL


def nearest_distances(adapted: Tensor, groups: Tensor, bank: Tensor, bank_groups: Tensor) -> Tensor:
    """Squared distance (n,) of adapted features (n, d) to the nearest bank entry (M, d) of another group.

    The whole group (copies of an image, several shots of a part) is left out, not only the patch itself: a copied
    defect would vouch for itself. Infinite where the bank holds nothing else.
    """
    squared = squared_distances(adapted, bank)
    return squared.masked_fill(groups[:, None] == bank_groups[None, :], torch.inf).amin(dim=1)


def normalised(distances: Tensor, scale: Scale, reference: Tensor | None = None) -> Tensor:
    """Distances (n,) brought to a scale on which the thresholds stand.

    "minmax" is the published rule: 0 and 1 are the least and largest of the minibatch, so that every minibatch
    holds an anomaly, in clean data too. "quantile" puts the distance that 99.9 % of the `reference` distances,
    those of patches of normal-looking images, stay below at TAU_NORMAL: clean data has hardly any.
    """
    if not distances.isfinite().any():
        return torch.zeros_like(distances)  # nothing to compare with: nothing is labelled
    finite = torch.where(distances.isfinite(), distances, distances[distances.isfinite()].amax())
    if scale == "minmax":
        low, high = finite.amin(), finite.amax()
        return (finite - low) / (high - low).clamp_min(1e-12)
    known = distances if reference is None else reference
    known = known[known.isfinite()]
    if not len(known):
        return torch.zeros_like(distances)
    return finite / torch.quantile(known, SURE).clamp_min(1e-12) * TAU_NORMAL


def labels_of(distances: Tensor) -> tuple[Tensor, Tensor]:
    """From normalised distances (n,), which patches are labelled anomalous, and which of those are not sure."""
    anomalous = distances > TAU_NORMAL
    return anomalous, anomalous & (distances < TAU_CONFIDENT)
