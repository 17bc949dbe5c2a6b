"""Pseudo-labels of patches from their distance to what looks normal now (spec/fun-ad.md sections 4 and 5)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.detectors.funad.schedule import Scale

SURE = 0.999  # quantile of the normal-looking patches' distances that lies at MIDDLE
MIDDLE = 0.5  # where the published tau_normal stands


@dataclass(frozen=True)
class Labels:
    """Which patches (n,) are labelled anomalous, and which of those are not sure."""

    anomalous: Tensor
    unsure: Tensor


def normalised(distances: Tensor, scale: Scale, reference: Tensor | None = None) -> Tensor:
    """Distances (n,) brought to a scale on which the thresholds stand.

    "minmax" is the published rule: 0 and 1 are the least and largest of the minibatch, so that every minibatch
    holds an anomaly, in clean data too. "quantile" puts the distance that 99.9 % of the `reference` distances,
    those of patches of normal-looking images, stay below at 0.5: clean data has hardly any.
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
    return finite / torch.quantile(known, SURE).clamp_min(1e-12) * MIDDLE


def labels_of(distances: Tensor, tau_normal: float, tau_confident: float, given: Tensor | None = None) -> Labels:
    """Labels from normalised distances (n,); where `given` (n,) is 0 or 1 and not -1, it is taken and sure."""
    anomalous = distances > tau_normal
    unsure = anomalous & (distances < tau_confident)
    if given is not None:
        anomalous = torch.where(given < 0, anomalous, given > 0)
        unsure = unsure & (given < 0)
    return Labels(anomalous, unsure)
