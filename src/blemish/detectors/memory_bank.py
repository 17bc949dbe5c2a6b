"""Nearest neighbours in randomly sampled memory banks, cross-fitted so that no image vouches for itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from blemish.cuts import median_mad
from blemish.detectors.base import FeatureDetector, PatchScorer, State
from blemish.detectors.embedding import Rooted, Standardised
from blemish.detectors.fusion import Fusion
from blemish.detectors.nearest import ROWS, Bank
from blemish.detectors.sampling import draw_patches, even_plan, split_in_folds
from blemish.detectors.views import FAST_VIEWS, View, ViewFeatures
from blemish.errors import RequestError
from blemish.images import ANOMALOUS, NORMAL, ImageSet

EMBEDDING_PATCHES = 20_000  # enough for 328 means, deviations and 54,000 covariances
SUSPECT = 3.0  # deviations above the median from which an image gives nothing to the banks


class BankEnsemble(PatchScorer):
    """Banks that each saw only some of the images; the patch score is the mean over them.

    Averaging over random sparse banks is a low-pass filter on rare patterns: a defect that made it into one
    bank vouches for its like in that one only (after MeDS, arXiv 2605.26676).
    """

    def __init__(self, embedding: Standardised, banks: list[Bank]) -> None:
        super().__init__()
        self.embedding = embedding
        self.banks = nn.ModuleList(banks)

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002, ARG002
        """See `PatchScorer`."""
        return self.distances(patches.flatten(0, 2), range(len(self.banks))).view(patches.shape[:3])

    def distances(self, patches: Tensor, members: Sequence[int]) -> Tensor:
        """Distances (n,) of patches (n, D), averaged over the banks numbered `members`."""
        queries = self.embedding(patches)
        return torch.stack([self.banks[member](queries) for member in members]).mean(dim=0)


@dataclass(kw_only=True)
class MemoryBank(FeatureDetector):
    """The distance of each patch to the nearest of a random sample of patches from other images.

    The images are split at random into parts, several times over; a bank holds patches of all parts but one and
    scores that one. A first round shows which images stand far out; the banks of the second round are drawn from
    the rest. The cut is high on purpose: a low one mostly drops unusual normal images, which then lose their like
    and rank higher still, while the defects that remain vouch for each other (benchmarks/memory_bank.md).

    Attributes
    ----------
    entries : patches in one bank.
    folds : parts the images are split into.
    repeats : independent splits. A training image is scored by one bank of each split; so is a new image, by as
        many banks, so that both scores are of one kind.
    purify : whether there is a second round.
    """

    entries: int = 4000
    folds: int = 3
    repeats: int = 3
    purify: bool = True

    name: ClassVar[str] = "memory_bank"
    fast_settings: ClassVar[Mapping[str, Any]] = {"views": FAST_VIEWS}
    summary: ClassVar[str] = "distance to the nearest patch in random samples of the other images"
    source: ClassVar[str] = "PatchCore (arXiv 2106.08265) with random banks, averaged after MeDS (arXiv 2605.26676)"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        for setting, least in (("entries", 10), ("folds", 2), ("repeats", 1)):
            if getattr(self, setting) < least:
                raise RequestError(f"'{setting}' must be at least {least}; got {getattr(self, setting)}.")

    def _fit_views(self, features: list[ViewFeatures]) -> Sequence[tuple[PatchScorer, Tensor]]:
        return self._fit_all_banks(features)

    def _fit_all_banks(self, features: list[ViewFeatures]) -> list[tuple[BankEnsemble, Tensor]]:
        images = features[0].images
        trusted = tuple(name for name in images.ids if images.labels.get(name) != ANOMALOUS)
        if self.purify:
            ranking = [view for view in features if view.view.ranks]
            trusted = self._in_line(ranking, [self._fit_banks(view, trusted, 1)[1] for view in ranking])
        repeats = [self.repeats if view.view.ranks else 1 for view in features]
        return [self._fit_banks(view, trusted, times) for view, times in zip(features, repeats, strict=True)]

    def _fit_banks(self, features: ViewFeatures, trusted: Sequence[str], repeats: int) -> tuple[BankEnsemble, Tensor]:
        """Banks of trusted patches, and the maps (N, h, w) of all images by the banks without them."""
        images, seed = features.images, self.random_state
        splits = [split_in_folds(images, self.folds, seed + repeat) for repeat in range(repeats)]
        plans = [even_plan(trusted, EMBEDDING_PATCHES, seed)]
        for split in splits:
            for fold in range(self.folds):
                others = [name for name in trusted if split[name] != fold] or trusted
                plans.append(even_plan(others, self.entries, seed))
        stage = f"banks {features.view.pixels}"
        (sample, _), *drawn = draw_patches(features, plans, seed, stage=stage)
        kind = Rooted if features.view.rooted else Standardised
        embedding = kind(sample.shape[1]).learn(sample)
        groups = group_numbers(images)
        relative = features.view.relative
        banks = [Bank.of(embedding(patches), groups[owners], relative=relative) for patches, owners in drawn]
        maps = _cross_fitted(BankEnsemble(embedding, banks), features, splits, self.folds)
        kept = [banks[repeat * self.folds + repeat % self.folds] for repeat in range(repeats)]
        return BankEnsemble(embedding, kept), maps

    def _in_line(self, features: list[ViewFeatures], maps: list[Tensor]) -> tuple[str, ...]:
        """The images that do not stand far out by these maps, and those known to be good."""
        images, valid = features[0].images, [view.valid() for view in features]
        fusion = Fusion((True,) * len(maps), (True,) * len(maps)).learn(maps, valid)
        scores, _ = fusion(maps, valid)
        limit = median_mad(scores.numpy(), SUSPECT)
        suspect = {name for name, score in zip(images.ids, scores.tolist(), strict=True) if score > limit}
        return tuple(
            name for name in images.ids if images.labels.get(name, ANOMALOUS if name in suspect else NORMAL) == NORMAL
        )

    def _empty_scorer(self, view: View, state: State) -> PatchScorer:
        return empty_ensemble(view, state)


def empty_ensemble(view: View, state: State) -> BankEnsemble:
    """An ensemble of the shapes that `state` holds."""
    channels = len(state["embedding.mean"])
    sizes = [len(tensor) for key, tensor in state.items() if key.endswith(".spacing")]
    banks = [Bank(torch.zeros(size, channels), torch.ones(size)) for size in sizes]
    return BankEnsemble((Rooted if view.rooted else Standardised)(channels), banks)


def group_numbers(images: ImageSet) -> Tensor:
    """The number of each image's group, (N,) int64, in the order of the ids."""
    number = {group: index for index, group in enumerate(sorted({images.groups[name] for name in images.ids}))}
    return torch.tensor([number[images.groups[name]] for name in images.ids])


def _cross_fitted(ensemble: BankEnsemble, features: ViewFeatures, splits: list[dict[str, int]], folds: int) -> Tensor:
    """Every image's map by the banks that hold nothing of it, one of each split: (N, h, w)."""
    maps = []
    for batch in features.batches(stage=f"distances {features.view.pixels}"):
        for index, name in enumerate(batch.ids):
            members = [folds * repeat + split[name] for repeat, split in enumerate(splits)]
            patches = batch.patches[index]
            parts = [ensemble.distances(part, members) for part in torch.split(patches.flatten(0, 1), ROWS)]
            maps.append(torch.cat(parts).view(patches.shape[:2]))
    return torch.stack(maps)
