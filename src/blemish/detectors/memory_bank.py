"""Nearest neighbours in randomly sampled memory banks, cross-fitted so that no image vouches for itself."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from blemish.detectors.base import FeatureDetector, ScoringHead, State, scores_of
from blemish.detectors.embedding import PatchEmbedding
from blemish.detectors.image_score import ImageScore
from blemish.detectors.nearest import ROWS, Bank
from blemish.detectors.sampling import draw_patches, even_plan, split_in_folds
from blemish.errors import RequestError
from blemish.features import FeatureBatch, PatchFeatures
from blemish.images import ImageSet
from blemish.scores import Scores

EMBEDDING_PATCHES = 20_000  # enough for 328 means, deviations and 54,000 covariances


class BankEnsemble(nn.Module):
    """Banks that each saw only some of the images; the patch score is the mean over them.

    Averaging over random sparse banks is a low-pass filter on rare patterns: a defect that made it into one
    bank vouches for its like in that one only (after MeDS, arXiv 2605.26676).
    """

    def __init__(self, embedding: PatchEmbedding, banks: list[Bank]) -> None:
        super().__init__()
        self.embedding = embedding
        self.banks = nn.ModuleList(banks)

    def forward(self, patches: Tensor, members: list[int] | None = None) -> Tensor:
        """Distances (n,) of patches (n, D), averaged over all banks or those of `members`."""
        queries = self.embedding(patches)
        chosen = range(len(self.banks)) if members is None else members
        total = torch.zeros(len(queries), device=queries.device)
        for member in chosen:
            total = total + self.banks[member](queries)
        return total / len(chosen)


class MemoryBankHead(ScoringHead):
    """Distances to the banks as a map, and their image score."""

    def __init__(self, ensemble: BankEnsemble, image_score: ImageScore) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.image_score = image_score

    def forward(self, globals: Tensor, patches: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:  # noqa: A002, ARG002
        """See `ScoringHead`."""
        distances = self.ensemble(patches.flatten(0, 2)).unflatten(0, patches.shape[:3])
        scores: tuple[Tensor, Tensor] = self.image_score(distances, valid)
        return scores


@dataclass(kw_only=True)
class MemoryBank(FeatureDetector):
    """The distance of each patch to the nearest of a random sample of patches from other images.

    Attributes
    ----------
    entries : patches in one bank.
    folds : parts the images are split into; a bank holds patches of all parts but one and scores that one.
    repeats : independent splits; there are `folds * repeats` banks.
    """

    entries: int = 4000
    folds: int = 3
    repeats: int = 2

    name: ClassVar[str] = "memory_bank"
    summary: ClassVar[str] = "distance to the nearest patch in random samples of the other images"
    source: ClassVar[str] = "PatchCore (arXiv 2106.08265) with random banks, averaged after MeDS (arXiv 2605.26676)"

    def __post_init__(self) -> None:
        """Check the settings."""
        for setting, least in (("entries", 10), ("folds", 2), ("repeats", 1)):
            if getattr(self, setting) < least:
                raise RequestError(f"'{setting}' must be at least {least}; got {getattr(self, setting)}.")

    def _fit_head(self, features: PatchFeatures) -> tuple[MemoryBankHead, Scores]:
        images = features.images
        splits = [split_in_folds(images, self.folds, self.random_state + r) for r in range(self.repeats)]
        head = MemoryBankHead(self._banks(features, splits), ImageScore())
        return head.eval(), cross_fitted(head, features, splits)

    def _banks(self, features: PatchFeatures, splits: list[dict[str, int]]) -> BankEnsemble:
        images = features.images
        everywhere = even_plan(images.ids, EMBEDDING_PATCHES, self.random_state)
        plans = [
            even_plan([name for name in images.ids if split[name] != fold], self.entries, self.random_state)
            for split in splits
            for fold in range(self.folds)
        ]
        (sample, _), *drawn = draw_patches(features, [everywhere, *plans], self.random_state, "sampling")
        embedding = PatchEmbedding.of(sample)
        groups = group_numbers(images)
        banks = [Bank.of(embedding(patches), groups[owners]) for patches, owners in drawn]
        return BankEnsemble(embedding, banks)

    def _empty_head(self, state: State) -> MemoryBankHead:
        return MemoryBankHead(empty_ensemble(state, "ensemble."), ImageScore())


def empty_ensemble(state: State, prefix: str) -> BankEnsemble:
    """An ensemble of the shapes that `state` holds under `prefix`."""
    channels = len(state[f"{prefix}embedding.mean"])
    sizes = [len(state[key]) for key in state if key.startswith(f"{prefix}banks.") and key.endswith("spacing")]
    banks = [Bank(torch.zeros(size, channels), torch.ones(size)) for size in sizes]
    return BankEnsemble(PatchEmbedding(channels), banks)


def group_numbers(images: ImageSet) -> Tensor:
    """The number of each image's group, (N,) int64, in the order of the ids."""
    number = {group: index for index, group in enumerate(sorted({images.groups[name] for name in images.ids}))}
    return torch.tensor([number[images.groups[name]] for name in images.ids])


def cross_fitted(head: MemoryBankHead, features: PatchFeatures, splits: list[dict[str, int]]) -> Scores:
    """Scores of every image by the banks that hold nothing of it, one of each split."""
    wholes, maps, ids, boxes = [], [], [], []
    for batch, grid in fold_distances(head.ensemble, features, splits):
        score, smooth = head.image_score(grid, batch.valid)
        wholes.append(score.numpy())
        maps.append(smooth.numpy())
        boxes.append(batch.boxes.numpy())
        ids += batch.ids
    return scores_of(features.images, ids, np.concatenate(wholes), np.concatenate(maps), np.concatenate(boxes))


def fold_distances(
    ensemble: BankEnsemble, features: PatchFeatures, splits: list[dict[str, int]]
) -> Iterator[tuple[FeatureBatch, Tensor]]:
    """Every batch of features with its patches' distances (B, h, w) to banks that hold nothing of their image."""
    folds = 1 + max(max(split.values()) for split in splits)
    for batch in features.batches(stage="distances"):
        grid = torch.zeros(batch.patches.shape[:3])
        for index, name in enumerate(batch.ids):
            members = [folds * repeat + split[name] for repeat, split in enumerate(splits)]
            patches = batch.patches[index].flatten(0, 1)
            parts = [ensemble(part, members) for part in patches.split(ROWS)]
            grid[index] = torch.cat(parts).view_as(grid[index])
        yield batch, grid
