"""Distances to the nearest entry of a bank, relative to how densely the bank is filled there."""

import torch
from torch import Tensor, nn

NEIGHBOURS = 9  # entries the local spacing of a bank is averaged over, as PatchCore's re-weighting has it
DENSITY = 0.5  # power of the spacing distances are divided by: 0 trusts distances, 1 trusts densities
CROWDED = 0.1  # of the median spacing: closer entries are copies, not a dense region
ROWS = 4096  # queries a matrix product: 4,096 x 4,000 distances are 64 MB


class Bank(nn.Module):
    """Patches that stand for what is normal.

    `forward` maps queries (n, D) to (n,): the Euclidean distance to the nearest entry, divided by the square
    root of that entry's own mean distance to its nearest entries from other images. What is common in a varied
    region of the product (print, threads) is not far; a small step away from a uniform surface is.
    """

    def __init__(self, entries: Tensor, spacing: Tensor) -> None:
        super().__init__()
        self.register_buffer("entries", entries)  # (M, D)
        self.register_buffer("spacing", spacing)  # (M,) already rooted
        self.entries: Tensor
        self.spacing: Tensor

    @classmethod
    def of(cls, entries: Tensor, owners: Tensor) -> "Bank":
        """A bank of `entries` (M, D) that come from the images or groups `owners` (M,)."""
        spacing = torch.cat([
            _mean_of_smallest(
                squared_distances(rows, entries).masked_fill_(mine[:, None] == owners[None, :], torch.inf)
            )
            for rows, mine in zip(entries.split(ROWS), owners.split(ROWS), strict=True)
        ])  # fmt: skip
        known = spacing[spacing.isfinite()]
        typical = known.median() if len(known) else spacing.new_tensor(0.0)
        if typical <= 0:  # nothing to compare, or nothing but copies: plain distances
            return cls(entries, torch.ones_like(spacing))
        spacing = torch.where(spacing.isfinite(), spacing, typical)
        return cls(entries, spacing.clamp_min(CROWDED * typical) ** DENSITY)

    def forward(self, queries: Tensor) -> Tensor:
        """See the class."""
        squared, nearest = squared_distances(queries, self.entries).min(dim=1)
        return squared.sqrt() / self.spacing[nearest]


def squared_distances(queries: Tensor, entries: Tensor) -> Tensor:
    """Squared Euclidean distances (n, M) as one matrix product."""
    dots = torch.addmm((entries * entries).sum(1), queries, entries.T, alpha=-2)
    return dots.add_((queries * queries).sum(1)[:, None]).clamp_min_(0)


def _mean_of_smallest(squared: Tensor) -> Tensor:
    smallest = squared.topk(min(NEIGHBOURS, squared.shape[1]), dim=1, largest=False).values.sqrt()
    finite = smallest.isfinite()
    mean = torch.where(finite, smallest, 0.0).sum(1) / finite.sum(1)  # 0 / 0 where there are no others
    return torch.where(finite.any(1), mean, torch.inf)
