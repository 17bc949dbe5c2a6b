"""What FUN-AD scores patches with: a Local-Net, and beside it the distances that taught it."""

import torch
from torch import Tensor

from blemish.detectors.funad.local_net import LocalNet
from blemish.detectors.nearest_images import ImageNeighbours
from blemish.detectors.parts.embedding import Standardised
from blemish.detectors.parts.scoring import PatchScorer

SMALLEST = 1e-6


class DistanceAndNet(PatchScorer):
    """The weighted sum of distance and Local-Net logit, both standardised on normal-looking images.

    A logit knows no bounds: all around a defect that the net is sure of, it would drown the distances.
    So beside them only its inverse hyperbolic sine counts, which is the logit near 0 and its logarithm far away.
    Without distances the logit stands alone, as published.
    """

    def __init__(
        self, neighbours: ImageNeighbours | None, embedding: Standardised, net: LocalNet, weights: tuple[float, float]
    ) -> None:
        super().__init__()
        self.neighbours, self.net = neighbours, net
        self.embedding: Standardised = embedding
        width = net.of_global.in_features if net.of_global is not None else 0
        self.register_buffer("weights", torch.tensor(weights))  # of distance and net
        self.register_buffer("wholes_scale", torch.stack([torch.zeros(width), torch.ones(width)]))  # mean, deviation
        self.register_buffer("scales", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))  # distance, net: mean, deviation
        self.weights: Tensor
        self.wholes_scale: Tensor
        self.scales: Tensor

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002
        """Patches (B, h, w, D) and global vectors (B, G) to patch scores (B, h, w)."""
        embedded = self.embedding(patches).flatten(1, 2)
        logits = self.net.of_images(embedded, self.standardised(globals)).view(patches.shape[:3])
        logits = (logits - self.scales[1, 0]) / self.scales[1, 1]
        if self.neighbours is None:
            return self.weights[1] * logits
        distances = (self.neighbours(patches, globals) - self.scales[0, 0]) / self.scales[0, 1]
        return self.combined(distances, logits)

    def combined(self, distances: Tensor, logits: Tensor) -> Tensor:
        """One map of both, each in deviations."""
        return self.weights[0] * distances + self.weights[1] * logits.asinh()

    def standardised(self, wholes: Tensor) -> Tensor:
        """Global vectors (B, G) as the net takes them; (B, 0) for a net that takes none."""
        return (wholes[:, : self.wholes_scale.shape[1]] - self.wholes_scale[0]) / self.wholes_scale[1]


def scale_of(values: Tensor) -> Tensor:
    """Mean and deviation along the first axis, (2, ...); 0 and 1 of nothing."""
    if not values.numel():
        return torch.stack([torch.zeros(values.shape[1:]), torch.ones(values.shape[1:])])
    return torch.stack([values.mean(0), values.std(0, correction=0).clamp_min(SMALLEST)])
