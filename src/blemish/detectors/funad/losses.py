"""The losses of FUN-AD (spec/fun-ad.md section 6)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.detectors.funad.schedule import SmoothnessForm
from blemish.detectors.parts.nearest import nearest_of_others

SMALLEST = 1e-7  # a mean score of exactly 0 or 1 would have an infinite slope


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log s over the patches labelled 1 plus mean of -log(1 - s) over those labelled 0.

    Logits and bool labels (n,); a class without patches adds nothing.
    """
    each = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
    parts = [each[labels], each[~labels]]
    return torch.stack([part.mean() for part in parts if len(part)]).sum()


def mutual_pairs(adapted: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (m,), (m,) of adapted features (n, d) that are each other's nearest, the lower row first."""
    with torch.no_grad():
        rows = torch.arange(len(adapted), device=adapted.device)
        if len(adapted) < 2:
            return rows[:0], rows[:0]
        _, closest = nearest_of_others(adapted, adapted, mine=rows, owners=rows)
        first = rows[(closest[closest] == rows) & (rows < closest)]
        return first, closest[first]


def mutual_smoothness(logits: Tensor, pairs: tuple[Tensor, Tensor], form: SmoothnessForm = "mae") -> Tensor:
    """How far the scores of mutual neighbours are apart; 0 without pairs. Logits (n,).

    With s the scores and m the mean of a pair: "mae" is the mean of half (|s_i - m| + |s_j - m|); "mse" of half
    ((s_i - m)^2 + (s_j - m)^2); "kl" of half (KL(m, s_i) + KL(m, s_j)) of the Bernoulli distributions, both classes,
    where the authors' script leaves out the normal one.
    """
    first, second = pairs
    if not len(first):
        return logits.new_zeros(())
    one, other = logits[first].float(), logits[second].float()
    if form == "kl":
        return (_divergence(one, other) + _divergence(other, one)).mean() / 2
    apart = (one.sigmoid() - other.sigmoid()).abs() / 2
    return (apart if form == "mae" else apart.square()).mean()


def _divergence(logits: Tensor, others: Tensor) -> Tensor:
    """KL(m, s) of Bernoulli distributions, m the mean of both scores; finite for scores at 0 or 1."""
    mean = ((logits.sigmoid() + others.sigmoid()) / 2).clamp(SMALLEST, 1 - SMALLEST)
    own = torch.special.entr(mean) + torch.special.entr(1 - mean)
    divergence: Tensor = -own - mean * F.logsigmoid(logits) - (1 - mean) * F.logsigmoid(-logits)
    return divergence
