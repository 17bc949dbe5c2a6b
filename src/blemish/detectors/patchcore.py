"""PatchCore: the distance to the nearest patch of a coreset that covers all patches of the images learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.base import State
from blemish.detectors.coreset import Coreset, check_coreset, coreset
from blemish.detectors.memory_bank import empty_embedding
from blemish.detectors.nearest import Bank, squared_distances
from blemish.detectors.one_class import Learned, OneClass, Part, check_least
from blemish.detectors.sampling import PatchSample, even_plan
from blemish.detectors.scoring import PatchScorer
from blemish.detectors.views import View, ViewFeatures
from blemish.errors import RequestError
from blemish.runtime import runtime, side_by_side

UNSEEN = 16_000  # patches whose distances to the other images' entries tell what unseen patches would get
ROWS = 512  # of those at a time


class Memory(PatchScorer):
    """The distance to the nearest entry of a bank, re-weighted by how crowded the bank is there.

    A patch near an entry that has others around it is more likely to be normal than one equally near to a lone
    entry: with d the distance and d_1 .. d_b those to the b entries nearest to the nearest one, the score is
    (1 - exp d / sum exp d_i) d (PatchCore Eq. 7). The paper does so with the highest patch of an image; the image
    scores of blemish come from more than one patch, so here each is treated alike. The factor lies between 1 - 1/b
    and 1.
    """

    def __init__(self, bank: Bank, around: Tensor) -> None:
        super().__init__()
        self.bank: Bank = bank
        self.register_buffer("around", around)  # (M, b) int64, the entries nearest to each, itself first
        self.around: Tensor

    @classmethod
    def of(cls, bank: Bank, neighbours: int) -> "Memory":
        """Find the `neighbours` entries nearest to each; 0 leaves distances as they are."""
        count = min(neighbours, len(bank.entries))
        rows = [bank.entries[start : start + ROWS] for start in range(0, len(bank.entries), ROWS)]

        def nearest(queries: Tensor) -> Tensor:
            return squared_distances(queries, bank.entries).topk(count, dim=1, largest=False).indices

        return cls(bank, torch.cat(side_by_side(nearest, rows)))

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002, ARG002
        """See `PatchScorer`."""
        return self.distances(self.bank.embedding(patches.flatten(0, 2))).view(patches.shape[:3])

    def distances(self, queries: Tensor, barred: Tensor | None = None) -> Tensor:
        """Of embedded patches (n, D), (n,); see `Bank.measured` for `barred`."""
        distances, nearest, products = self.bank.measured(queries, barred)
        if self.around.shape[1] < 2:
            return distances
        squared = products.gather(1, self.around[nearest]) + queries.square().sum(1, keepdim=True)
        away = squared.clamp_min(0).sqrt()  # (n, b)
        plain = distances * self.bank.spacing[nearest]
        highest = torch.maximum(away.amax(1), plain)  # taken off before the exponentials, which overflow above 88
        share = (plain - highest).exp() / (away - highest[:, None]).exp().sum(1).clamp_min(1e-30)
        return distances * (1 - share.clamp_max(1 / away.shape[1]))

    def unseen(self, sample: PatchSample, groups: Tensor, entries: Tensor, seed: int) -> Tensor:
        """What patches of the sample (n) would get, had their groups no entries; `entries` are rows of the sample."""
        some = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))[:UNSEEN]
        owners = groups[entries]

        def one(rows: Tensor) -> Tensor:
            known = (groups[rows][:, None] != owners).any(1)  # not where all entries are the group's own
            rows = rows[known]
            barred = groups[rows][:, None] == owners
            return self.distances(self.bank.embedding(sample.values[rows]), barred)

        return torch.cat(side_by_side(one, torch.split(some, ROWS)))


@dataclass(kw_only=True)
class PatchCore(OneClass):
    """The distance of each patch to the nearest of a coreset of the patches of all images (Roth et al., CVPR 2022).

    Attributes
    ----------
    share : of the patches, how many the coreset has.
    entries : the most it may have.
    candidates : patches the coreset is chosen from, drawn evenly from the images; all where there are no more.
    coreset : "greedy" takes the farthest patch again and again; "approximate" does so among a tenfold random
        sample; "random" takes any.
    neighbours : b of the paper's re-weighting; 0 leaves it out.
    """

    share: float = 0.01
    entries: int = 10_000
    candidates: int = 250_000
    coreset: Coreset = "greedy"
    neighbours: int = 9

    name: ClassVar[str] = "patchcore"
    fast_settings: ClassVar[Mapping[str, Any]] = {"coreset": "approximate"}
    summary: ClassVar[str] = "distance to the nearest patch of a coreset of all images, taken for good"
    source: ClassVar[str] = "PatchCore (CVPR 2022, arXiv 2106.08265)"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, entries=10, candidates=1000, neighbours=0)
        check_coreset(self.coreset)
        if not 0 < self.share <= 1:
            raise RequestError(f"'share' must be above 0 and at most 1; got {self.share}.")

    def _plan(self, ids: Sequence[str]) -> Mapping[str, int]:
        return even_plan(ids, self.candidates, self.random_state)

    def _learn(self, parts: Sequence[Part], features: ViewFeatures) -> Sequence[Learned]:
        return [self._learn_one(part, features.view) for part in parts]

    def _learn_one(self, part: Part, view: View) -> Learned:
        sample, groups = part.sample, part.groups
        embedding = empty_embedding(view, sample.values.shape[1]).learn(sample.values)
        embedded = embedding(sample.values)
        weights = self._weights(embedded, sample, groups)
        pool = torch.nonzero(weights)[:, 0]
        if len(pool) > self.candidates:
            some = np.random.default_rng(self.random_state).permutation(len(pool))[: self.candidates]
            pool = pool[torch.from_numpy(np.sort(some))]
        if len(pool) < len(embedded):
            embedded = embedded[pool]
        count, progress = max(1, min(self.entries, round(self.share * len(pool)))), runtime().progress
        picks = coreset(embedded, count, self.coreset, self.random_state, lambda *at: progress(part.stage, *at))
        chosen = pool[picks]
        bank = Bank.of(embedding, sample.values[chosen], groups[chosen], relative=view.relative)
        bank.spacing /= weights[chosen]
        memory = Memory.of(bank, self.neighbours)
        return Learned(memory, lambda: memory.unseen(sample, groups, chosen, self.random_state), unseen=True)

    def _weights(self, embedded: Tensor, sample: PatchSample, groups: Tensor) -> Tensor:  # noqa: ARG002
        """What the distance to each patch of the sample (n) counts for, (n,); 0 keeps it out of the memory."""
        return torch.ones(len(embedded))

    def _empty(self, view: View, state: State) -> PatchScorer:
        return empty_memory(view, state)


def empty_memory(view: View, state: State) -> Memory:
    """A memory of the shapes that `state` holds."""
    entries = state["bank.entries"]
    bank = Bank(empty_embedding(view, entries.shape[1]), torch.zeros_like(entries), torch.ones(len(entries)))
    return Memory(bank, torch.zeros_like(state["around"]))
