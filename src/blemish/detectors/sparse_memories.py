"""The mean distance to the nearest patch over all memories that hold a random few of the images."""

from math import lgamma

import torch
from torch import Tensor

from blemish.detectors.embedding import Standardised
from blemish.detectors.scoring import PatchScorer
from blemish.runtime import side_by_side

ROWS = 512  # patches at a time: 25 MB of distances to 12,000 entries
NEGLIGIBLE = 1e-3  # share of the memories that may be left out of the mean, those with nothing but distant images


class SparseMemories(PatchScorer):
    """The distance to the nearest patch in a memory of random images, averaged over all such memories.

    A rare pattern is in few of the memories and far from the others, so it cannot vouch for itself: the mean is a
    low-pass filter (MeDS, arXiv 2605.26676, Sec. 3, which draws 100 memories). The mean over all of them costs less:
    the nearest patch of a memory is that of its nearest image, so with the images in the order of their distance
    d_1 <= d_2 <= ... the i-th is it in those memories that hold it and none before it, a share of
    C(J - i, s - 1) / C(J, s) of all memories of s of J images.
    """

    def __init__(self, embedding: Standardised, entries: Tensor, weights: Tensor) -> None:
        super().__init__()
        self.embedding: Standardised = embedding
        self.register_buffer("entries", entries)  # (J, e, D), the patches of each image or group
        self.register_buffer("weights", weights)  # (K,), of the K nearest images
        self.entries: Tensor
        self.weights: Tensor

    @classmethod
    def of(
        cls, embedding: Standardised, embedded: Tensor, groups: Tensor, entries: int, share: float, seed: int
    ) -> tuple["SparseMemories", Tensor]:
        """Memories of a `share` of the groups, from at most `entries` of the patches (n, D) of `groups` (n,).

        Also gives the groups (J,) that have entries, in their order.
        """
        random = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(groups), generator=random)
        known = torch.unique(groups)
        if len(known) > entries:
            known = known[torch.randperm(len(known), generator=random)[:entries].sort().values]
        each = max(1, entries // len(known))
        kept = []
        for group in known:
            rows = order[groups[order] == group][:each]
            kept.append(embedded[rows[torch.arange(each) % len(rows)]])  # too few are taken more than once
        return cls(embedding, torch.stack(kept), mean_weights(len(known), _held(len(known), share))), known

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002, ARG002
        """See `PatchScorer`."""
        return self.means(self.embedding(patches.flatten(0, 2)), self.weights).view(patches.shape[:3])

    def means(self, queries: Tensor, weights: Tensor, barred: Tensor | None = None) -> Tensor:
        """Of embedded patches (n, D), (n,), without the images that are true in `barred` (n, J)."""
        images, each, channels = self.entries.shape
        entries = self.entries.view(images * each, channels)
        products = torch.addmm(entries.square().sum(1), queries, entries.T, alpha=-2)
        nearest = products.view(-1, images, each).amin(2)  # (n, J)
        if barred is not None:
            nearest = nearest.masked_fill(barred, torch.inf)
        squared = nearest.topk(len(weights), dim=1, largest=False).values + queries.square().sum(1, keepdim=True)
        return squared.clamp_min(0).sqrt() @ weights

    def left_out(self, embedded: Tensor, groups: Tensor, known: Tensor, share: float) -> Tensor:
        """Of patches (n, D), (n,), over the memories without their own group; `known` as `of` gives it."""
        weights = mean_weights(len(known) - 1, _held(len(known), share))

        def one(rows: Tensor) -> Tensor:
            return self.means(embedded[rows], weights, groups[rows][:, None] == known)

        return torch.cat(side_by_side(one, torch.split(torch.arange(len(groups)), ROWS)))


def mean_weights(images: int, held: int) -> Tensor:
    """The share of memories of `held` of J `images` whose nearest image is the i-th nearest of all, (K,), i = 1 .. K.

    The last, negligible ones are dropped, and the rest sum to 1.
    """
    held = min(held, images)

    def log_choose(n: int, k: int) -> float:
        return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)

    logs = [log_choose(images - i, held - 1) - log_choose(images, held) for i in range(1, images - held + 2)]
    weights = torch.tensor(logs, dtype=torch.float64).exp()
    kept = int((weights.cumsum(0) < 1 - NEGLIGIBLE).sum()) + 1
    weights = weights[:kept]
    return (weights / weights.sum()).float()


def _held(images: int, share: float) -> int:
    """How many of the images a memory holds."""
    return max(1, round(share * images))
