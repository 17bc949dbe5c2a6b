"""Patch features made comparable: standardised, large values damped, strong directions toned down."""

from typing import Self

import torch
from torch import Tensor, nn

POWER = 0.35  # of the eigenvalues divided by: between none (0) and full whitening (0.5); benchmarks/LOG.md
SHRINK = 0.01  # of the mean eigenvalue, added to all: directions without data are not blown up
FEW = 30  # images: of so few the mean eigenvalue is added once, of n (30 / n) ** 2 times; see benchmarks/LOG.md
DIRECTIONS = 64  # of an embedding that has an order, the strongest, which tell what an image shows as a whole
SMALLEST = 1e-6  # standard deviation below which a channel is dead


class Standardised(nn.Module):
    """Channels with mean 0 and deviation 1 over a sample: no channel rules by its scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean: Tensor = nn.Buffer(torch.zeros(channels))
        self.deviation: Tensor = nn.Buffer(torch.ones(channels))

    def learn(self, patches: Tensor, images: int = 1000) -> Self:  # noqa: ARG002
        """Take mean and deviation of patches (n, D) of so many `images`."""
        self.mean = patches.mean(0)
        self.deviation = patches.std(0, correction=0).clamp_min(SMALLEST)
        return self

    def strongest(self, embedded: Tensor) -> Tensor:
        """Of embedded patches (..., D), what tells most of the image as a whole; here all of it."""
        return embedded

    def forward(self, patches: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return (patches - self.mean).div_(self.deviation)  # in place: samples are large


class Rooted(Standardised):
    """Channels standardised, square root taken with the sign kept, then whitened in part.

    The root damps the heavy tails of network activations, so that a distance is not made by one channel; whitening
    in part lets rare directions, in which defects show, count without raising noise to their level.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.centre: Tensor = nn.Buffer(torch.zeros(channels))
        self.rotation: Tensor = nn.Buffer(torch.eye(channels))

    def learn(self, patches: Tensor, images: int = 1000) -> Self:
        """Take mean, deviation and principal directions of patches (n, D) of so many `images`.

        The directions are those of these very patches, so an image that was not among them is farther from all: the
        fewer images, the more the directions are made alike.
        """
        super().learn(patches)
        rooted = self._rooted(patches)
        self.centre = rooted.mean(0)
        centred = (rooted - self.centre).double()
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
        values = values.clamp_min(0)
        least = (SHRINK + (FEW / images) ** 2) * values.mean() + SMALLEST
        self.rotation = (vectors * (values + least) ** -POWER).float()
        return self

    def strongest(self, embedded: Tensor) -> Tensor:
        """Of embedded patches (..., D), the strongest directions, which are the last."""
        return embedded[..., -DIRECTIONS:]

    def _rooted(self, patches: Tensor) -> Tensor:
        standard = super().forward(patches)
        return standard.sign() * standard.abs().sqrt()

    def forward(self, patches: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        return (self._rooted(patches) - self.centre) @ self.rotation
