"""The losses of FUN-AD (spec/fun-ad.md section 6)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.detectors.nearest import squared_distances


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log s over the patches labelled 1 plus mean of -log(1 - s) over those labelled 0.

    Logits and bool labels (n,); a class without patches adds nothing.
    """
    each = F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none")
    parts = [each[labels], each[~labels]]
    return torch.stack([part.mean() for part in parts if len(part)]).sum()


def mutual_pairs(adapted: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (i, j), i < j, of features (n, d) that are each other's nearest neighbour."""
    with torch.no_grad():
        squared = squared_distances(adapted, adapted).fill_diagonal_(torch.inf)
        nearest = squared.argmin(dim=1)
        rows = torch.arange(len(adapted), device=adapted.device)
        first = rows[(nearest[nearest] == rows) & (rows < nearest)]
        return first, nearest[first]


def mutual_smoothness(scores: Tensor, pairs: tuple[Tensor, Tensor]) -> Tensor:
    """Mean absolute difference of scores (n,) from the mean of their pair: half the mean |s_i - s_j|."""
    first, second = pairs
    if not len(first):
        return scores.new_zeros(())
    return (scores[first] - scores[second]).abs().mean() / 2
