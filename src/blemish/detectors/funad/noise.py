"""The spread of the noise that ambiguous patches are perturbed with (spec/fun-ad.md section 5)."""

import torch
from torch import Tensor


def spread_over_batch(patches: Tensor) -> Tensor:
    """The standard deviation of each channel over patches (n, D): the paper's noise. (D,)."""
    return patches.std(dim=0, correction=0)


def largest_spread_over_positions(patches: Tensor, positions: Tensor) -> Tensor:
    """Of each channel, the deviation among the patches at each grid position, then the largest. (D,).

    `positions` (n,) are the places in the grid. This is what the authors' script does; it is far larger than the
    paper's. Positions held by one patch alone tell nothing.
    """
    _, place, count = torch.unique(positions, return_inverse=True, return_counts=True)
    shape = (len(count), patches.shape[1])
    of_each = count[:, None].to(patches.dtype)
    mean = patches.new_zeros(shape).index_add_(0, place, patches) / of_each
    squares = patches.new_zeros(shape).index_add_(0, place, (patches - mean[place]).square())
    spread: Tensor = (squares / of_each).amax(dim=0).sqrt()
    return spread
