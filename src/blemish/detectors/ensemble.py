"""An ensemble of sparse memories, distilled into a small network that goes on learning from what it finds normal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from blemish.detectors.base import State
from blemish.detectors.initial_weights import drawn_anew
from blemish.detectors.memory_bank import empty_embedding
from blemish.detectors.one_class import Learned, OneClass, Part
from blemish.detectors.sampling import even_plan
from blemish.detectors.scoring import PatchScorer
from blemish.detectors.settings import check_least
from blemish.detectors.sparse_memories import SparseMemories
from blemish.detectors.student import Schedule, Student, taught
from blemish.detectors.views import View, ViewFeatures
from blemish.errors import RequestError
from blemish.runtime import runtime, side_by_side


@dataclass(kw_only=True)
class Ensemble(OneClass):
    """Averaged distances to sparse random memories, distilled, then sharpened on self-selected images.

    Attributes
    ----------
    entries : patches that the memories are made of, drawn evenly from the images.
    share : of the images that one memory holds.
    distil : whether a student learns the averaged distances and scores in their place; else they are the scores.
    patches : what the student learns from, drawn evenly from the images.
    width, bottleneck : of the student.
    steps, batch, learning_rate : of each of its two stages.
    rounds, cut : how often the images that look normal are chosen anew in the second stage, and how many scaled
        median absolute deviations above the median the last choice reaches.
    """

    entries: int = 12_000
    share: float = 0.1
    distil: bool = True
    patches: int = 40_000
    width: int = 256
    bottleneck: int = 16
    steps: int = 600
    batch: int = 1024
    learning_rate: float = 1e-3
    rounds: int = 4
    cut: float = 3.0

    name: ClassVar[str] = "ensemble"
    fast_settings: ClassVar[Mapping[str, Any]] = {"entries": 6000, "patches": 20_000, "steps": 300}
    summary: ClassVar[str] = "averaged distances to many sparse memories, distilled into a small network"
    source: ClassVar[str] = "MeDS (ICML 2026, arXiv 2605.26676), on patches of a frozen network"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, entries=10, patches=10, width=1, bottleneck=1, steps=1, batch=1, rounds=1, cut=0.0)
        if not 0 < self.share <= 1:
            raise RequestError(f"'share' must be above 0 and at most 1; got {self.share}.")

    def _plan(self, ids: Sequence[str]) -> Mapping[str, int]:
        return even_plan(ids, max(self.entries, self.patches if self.distil else 0), self.random_state)

    def _learn(self, parts: Sequence[Part], features: ViewFeatures) -> Sequence[Learned]:
        taken = [self._remembered(part, features.view) for part in parts]
        if not self.distil:
            return [Learned(memories, scores.clone, unseen=True) for memories, _, scores in taken]
        stage, done, progress = parts[0].stage, [0] * len(parts), runtime().progress
        students = [
            drawn_anew(Student(memories.embedding, embedded.shape[1], self.width, self.bottleneck), self.random_state)
            for memories, embedded, _ in taken
        ]
        schedule = Schedule(self.steps, self.batch, self.learning_rate, self.rounds, self.cut)

        def teach(number: int) -> Learned:
            def tell(step: int, steps: int) -> None:
                done[number] = step
                progress(stage, sum(done), len(done) * steps)

            student, (_, embedded, scores) = students[number], taken[number]
            with torch.enable_grad():
                taught(student, embedded, scores, parts[number].sample.owners, schedule, self.random_state, tell)
            student.requires_grad_(False)
            return Learned(student, lambda: student.errors(embedded), unseen=False)

        return side_by_side(teach, range(len(parts)))

    def _remembered(self, part: Part, view: View) -> tuple[SparseMemories, Tensor, Tensor]:
        """The memories of a part, its embedded patches (n, D), and their averaged distances (n,)."""
        values = part.sample.values
        embedding = empty_embedding(view, values.shape[1]).learn(values)
        embedded = embedding(values)
        memories, known = SparseMemories.of(
            embedding, embedded, part.groups, self.entries, self.share, self.random_state
        )
        return memories, embedded, memories.left_out(embedded, part.groups, known, self.share)

    def _empty(self, view: View, state: State) -> PatchScorer:
        embedding = empty_embedding(view, len(state["embedding.mean"]))
        if "entries" in state:
            return SparseMemories(embedding, torch.zeros_like(state["entries"]), torch.zeros_like(state["weights"]))
        bottleneck, width = state["encoder.2.weight"].shape
        return Student(embedding, len(state["embedding.mean"]), width, bottleneck)
