"""PatchCore: the distance to the nearest patch of a coreset that covers all patches of the images learned from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.one_class import Learned, OneClass
from blemish.detectors.parts.coreset import Coreset, coreset
from blemish.detectors.parts.memory import Memory, empty_memory, on_grid
from blemish.detectors.parts.nearest import Bank
from blemish.detectors.parts.sampling import Part, even_plan
from blemish.detectors.parts.scoring import PatchScorer, State
from blemish.detectors.parts.views import View, ViewFeatures
from blemish.detectors.settings import check_least
from blemish.machine.errors import RequestError
from blemish.machine.runtime import runtime


@dataclass(kw_only=True)
class PatchCore(OneClass):
    """The distance of each patch to the nearest of a coreset of the patches of all images (Roth et al., CVPR 2022).

    Attributes
    ----------
    share : of the patches, how many the coreset has. With 1 %, which the paper has, too, the ranking of parts that vary
        much hangs on chance (benchmarks/detectors.md).
    entries : the most it may have.
    candidates : patches the coreset is chosen from, drawn evenly from the images; all where there are no more.
    coreset : "greedy" takes the farthest patch again and again; "approximate" does so among a tenfold random
        sample; "random" takes any.
    neighbours : b of the paper's re-weighting; 0 leaves it out.
    """

    share: float = 0.03
    entries: int = 10_000
    candidates: int = 250_000
    coreset: Coreset = "greedy"
    neighbours: int = 9

    name: ClassVar[str] = "patchcore"
    summary: ClassVar[str] = "distance to the nearest patch of a coreset of all images, taken for good"
    source: ClassVar[str] = "PatchCore (CVPR 2022, arXiv 2106.08265)"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, entries=10, candidates=1000, neighbours=0)
        if not 0 < self.share <= 1:
            raise RequestError(f"'share' must be above 0 and at most 1; got {self.share}.")

    def _plan(self, ids: Sequence[str]) -> Mapping[str, int]:
        return even_plan(ids, self.candidates, self.random_state)

    def _learn(self, parts: Sequence[Part], features: ViewFeatures) -> Sequence[Learned]:
        width = features.grid[1]
        return [self._learn_one(part, features.view, width) for part in parts]

    def _learn_one(self, part: Part, view: View, width: int) -> Learned:
        """The memory of a part, on a grid of `width` columns."""
        sample = part.sample
        embedding = view.embedding(sample.values.shape[1]).learn(sample.values)
        embedded, places = embedding(sample.values), sample.places
        del sample  # its values are as large as all that follows
        weights, step = self._nominal(embedded, part, width)
        pool = torch.nonzero(weights)[:, 0]
        if len(pool) > self.candidates:
            some = np.random.default_rng(self.random_state).permutation(len(pool))[: self.candidates]
            pool = pool[torch.from_numpy(np.sort(some))]
        if len(pool) < len(embedded):
            embedded = embedded[pool]
        if step:
            embedded = torch.cat([embedded, on_grid(places[pool], width) * step], dim=1)
        count, progress = max(1, min(self.entries, round(self.share * len(pool)))), runtime().progress
        picks = coreset(embedded, count, self.coreset, self.random_state, lambda *at: progress(part.stage, *at))
        chosen = pool[picks]
        bank = Bank(embedding, embedded[picks], 1 / weights[chosen])
        memory = Memory.of(bank, self.neighbours, step)
        return Learned(memory, lambda: memory.unseen(part, width, chosen, self.random_state), unseen=True)

    def _nominal(self, embedded: Tensor, part: Part, width: int) -> tuple[Tensor, float]:  # noqa: ARG002
        """What the distance to each patch of the part counts for, (n,), 0 keeping it out; and a step on the grid."""
        return torch.ones(len(embedded)), 0.0

    def _empty(self, view: View, state: State) -> PatchScorer:
        return empty_memory(view, state)
