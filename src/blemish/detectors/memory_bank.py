"""Nearest neighbours in sampled memory banks, cross-fitted so that no image vouches for itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from blemish.cuts import median_mad
from blemish.detectors.base import Detector, State
from blemish.detectors.coreset import coreset
from blemish.detectors.embedding import Rooted, Standardised
from blemish.detectors.feature_detector import FeatureDetector
from blemish.detectors.fusion import Fusion
from blemish.detectors.nearest import Bank
from blemish.detectors.sampling import PatchSample, draw_patches, even_plan, group_numbers, split_in_folds
from blemish.detectors.scoring import PatchScorer
from blemish.detectors.settings import check_least
from blemish.detectors.views import FAST_VIEWS, PatchBatch, View, ViewFeatures
from blemish.errors import RequestError
from blemish.images import ANOMALOUS, NORMAL, SUSPECTED
from blemish.runtime import side_by_side

EMBEDDING_PATCHES = 12_000  # enough for 328 means and deviations and 54,000 covariances
BUDGET = 2  # times the entries for the one bank of a sub-model, which has no others beside it
SUSPECT = 3.0  # deviations above the median from which an image gives nothing to the banks
RARE = 0.02  # of the patches, the farthest in the first round: a cover would take them before any other


class BankEnsemble(PatchScorer):
    """Banks that each saw only some of the images; the patch score is the mean over them.

    Averaging over random sparse banks is a low-pass filter on rare patterns: a defect that made it into one
    bank vouches for its like in that one only (after MeDS, arXiv 2605.26676).
    """

    def __init__(self, banks: Sequence[Bank]) -> None:
        super().__init__()
        self.banks = nn.ModuleList(banks)

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002, ARG002
        """See `PatchScorer`."""
        flat = patches.flatten(0, 2)
        return torch.stack([bank(flat) for bank in self.banks]).mean(dim=0).view(patches.shape[:3])


@dataclass(frozen=True)
class FittedBanks:
    """The banks of one view: `banks[repeat][fold]` holds nothing of the images that `splits[repeat]` puts in `fold`.

    `maps` (N, h, w) are the cross-fitted distances of all images, averaged over the repeats.
    """

    banks: Sequence[Sequence[Bank]]
    splits: Sequence[dict[str, int]]
    maps: Tensor

    def ensemble(self) -> BankEnsemble:
        """As many banks as a training image was scored by, one of each split."""
        return BankEnsemble([banks[repeat % len(banks)] for repeat, banks in enumerate(self.banks)])

    def distances(self, patches: Tensor, owners: Tensor, sources: Sequence[str]) -> Tensor:
        """(n,) of patches (n, D) to the banks without the image of the pile they come from, a mean as in `maps`.

        Patch i belongs to image `sources[owners[i]]`.
        """
        found = patches.new_zeros(len(patches))
        for of, split in zip(self.banks, self.splits, strict=True):
            fold = torch.tensor([split[name] for name in sources])[owners]
            for number, bank in enumerate(of):
                found[fold == number] += bank(patches[fold == number])
        return found / len(self.banks)


@dataclass(kw_only=True)
class MemoryBank(FeatureDetector):
    """The distance of each patch to the nearest of a sample of patches from other images.

    The images are split at random into parts, several times over; a bank holds patches of all parts but one and
    scores that one. A first round, with random entries, shows which images stand far out; the banks of the second
    round are drawn from the rest, and cover it: what is rare among good images has its entries, too, but for the
    farthest patches, which a defect in the pile would be among. The cut is high on purpose: a low one mostly drops
    unusual normal images, which then lose their like and rank higher still, while the defects that remain vouch for
    each other (benchmarks/memory_bank.md).

    Attributes
    ----------
    entries : patches in one bank.
    folds : parts the images are split into. With 0 there is one bank of all images; a training image is then scored
        without its own patches, but in an embedding that saw them, so its score is a little low. That is meant for
        parts of a larger job, which need `score` alone.
    repeats : independent splits. A training image is scored by one bank of each split; so is a new image, by as
        many banks, so that both scores are of one kind.
    purify : whether there is a second round.
    cover : whether the entries of the second round, in the views that rank, are a greedy cover of the patches drawn,
        without the farthest of the first round, in place of random ones.
    """

    entries: int = 4000
    folds: int = 3
    repeats: int = 3
    purify: bool = True
    cover: bool = True

    name: ClassVar[str] = "memory_bank"
    fast_settings: ClassVar[Mapping[str, Any]] = {"views": FAST_VIEWS}
    budget_settings: ClassVar[Mapping[str, Any]] = {"folds": 0, "repeats": 1, "purify": False}
    summary: ClassVar[str] = "distance to the nearest patch in samples of the other images"
    source: ClassVar[str] = "PatchCore (arXiv 2106.08265) with sampled banks, averaged after MeDS (arXiv 2605.26676)"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, entries=10, folds=0, repeats=1)
        if self.folds == 1:
            raise RequestError("'folds' must be 0 or at least 2; got 1.")

    def budget(self) -> Detector:
        """See `Detector`. One bank, of more entries: they matter more than repeats (benchmarks/purification.md)."""
        return super().budget().clone(entries=BUDGET * self.entries)

    def _fit_views(self, features: list[ViewFeatures]) -> Sequence[tuple[PatchScorer, Tensor]]:
        return [(fitted.ensemble(), fitted.maps) for fitted in self._fit_banks(features)]

    def _fit_banks(self, features: list[ViewFeatures]) -> list[FittedBanks]:
        """Both rounds, all views."""
        images = features[0].images
        trusted = tuple(name for name in images.ids if images.labels.get(name) not in (ANOMALOUS, SUSPECTED))
        first: dict[View, Tensor] = {}
        if self.purify:
            ranking = [view for view in features if view.view.ranks]
            first = {view.view: self._fit_round(view, trusted, 1).maps for view in ranking}
            trusted = self._in_line(ranking, list(first.values()))
        covered = first if self.cover else {}
        return [
            self._fit_round(view, trusted, self.repeats if view.view.ranks else 1, covered.get(view.view))
            for view in features
        ]

    def _fit_round(
        self, features: ViewFeatures, trusted: Sequence[str], repeats: int, first: Tensor | None = None
    ) -> FittedBanks:
        """Banks of patches of trusted images, and the maps of all images by the banks without them.

        With the maps (N, h, w) of the first round, the banks cover what these find ordinary.
        """
        images = features.images
        parts = max(1, self.folds)
        splits = [split_in_folds(images, parts, self.random_state + repeat) for repeat in range(repeats)]
        fitted = [self._fit_split(features, trusted, split, repeat, first) for repeat, split in enumerate(splits)]
        banks = [[bank for bank, _ in each] for each in fitted]
        maps, valid = _by_split(fitted, features, splits), features.valid()
        for repeat, split in enumerate(splits):
            fold_of = torch.tensor([split[name] for name in images.ids])
            for fold, bank in enumerate(banks[repeat]):
                held_out = fold_of == fold
                unit = _typical(maps[repeat][held_out][valid[held_out]])
                bank.spacing *= unit
                maps[repeat, held_out] /= unit
        return FittedBanks(banks, splits, maps.mean(dim=0))

    def _fit_split(
        self,
        features: ViewFeatures,
        trusted: Sequence[str],
        split: dict[str, int],
        repeat: int,
        first: Tensor | None,
    ) -> list[tuple[Bank, Tensor]]:
        """The banks of a split, each with the numbers of the groups (M,) that its entries are from."""
        seed, patches = self.random_state + repeat, max(self.entries, EMBEDDING_PATCHES)
        plans = []
        for fold in range(max(1, self.folds)):
            others = [name for name in features.images.ids if split[name] != fold or not self.folds]
            in_line = [name for name in trusted if split[name] != fold or not self.folds]
            plans.append(even_plan(in_line or others, patches, seed))
        groups = group_numbers(features.images)

        def bank(sample: PatchSample) -> tuple[Bank, Tensor]:
            embedding = empty_embedding(features.view, sample.values.shape[1]).learn(sample.values)
            if first is not None:
                far = first.flatten(1)[sample.owners, sample.places]
                sample = sample.rows(far <= far.quantile(1 - RARE))
            embedded = embedding(sample.values)
            rows = coreset(embedded, self.entries, "random" if first is None else "greedy", seed)
            whose = groups[sample.owners[rows]]
            return Bank.of_embedded(embedding, embedded[rows], whose, relative=features.view.relative), whose

        return side_by_side(bank, draw_patches(features, plans, seed, f"banks {features.view.pixels}"))

    def _in_line(self, features: list[ViewFeatures], maps: list[Tensor]) -> tuple[str, ...]:
        """The images that do not stand far out by these maps, and those known to be good."""
        images, valid = features[0].images, [view.valid() for view in features]
        fusion = Fusion((True,) * len(maps), (True,) * len(maps)).learn(maps, valid)
        scores, _ = fusion.of_many(maps, valid)
        limit = median_mad(scores.numpy(), SUSPECT)
        suspect = {name for name, score in zip(images.ids, scores.tolist(), strict=True) if score > limit}
        return tuple(
            name for name in images.ids if images.labels.get(name, ANOMALOUS if name in suspect else NORMAL) == NORMAL
        )

    def _empty_scorer(self, view: View, state: State) -> PatchScorer:
        return empty_ensemble(view, state)


def empty_ensemble(view: View, state: State) -> BankEnsemble:
    """An ensemble of the shapes that `state` holds."""
    by_number = {int(key.split(".")[-2]): state[key].shape for key in state if key.endswith(".entries")}
    shapes = [by_number[number] for number in sorted(by_number)]
    return BankEnsemble([
        Bank(empty_embedding(view, width), torch.zeros(size, width), torch.ones(size)) for size, width in shapes
    ])  # fmt: skip


def empty_embedding(view: View, channels: int) -> Standardised:
    """An embedding for `view` that has not learned anything."""
    return (Rooted if view.rooted else Standardised)(channels)


def _by_split(
    banks: Sequence[Sequence[tuple[Bank, Tensor]]], features: ViewFeatures, splits: Sequence[dict[str, int]]
) -> Tensor:
    """Of each split, every image's map by the bank that holds nothing of it: (splits, N, h, w)."""
    group = dict(zip(features.images.ids, group_numbers(features.images), strict=True))

    def one(batch: PatchBatch, row: int) -> Tensor:
        flat, grid, name = batch.patches[row].flatten(0, 1), batch.patches.shape[1:3], batch.ids[row]
        maps = []
        for of, split in zip(banks, splits, strict=True):
            bank, whose = of[split[name]]
            # Entries of the image's own group are there only where one bank was drawn from all images.
            barred = whose == group[name] if len(of) == 1 else None
            maps.append(bank.distances(bank.embedding(flat), barred).view(grid))
        return torch.stack(maps)

    return features.maps(one, f"distances {features.view.pixels}", len(splits))


def _typical(distances: Tensor) -> Tensor:
    """The median of held-out distances: what a bank's own distances are measured in, so that banks compare."""
    middle = distances.median() if len(distances) else torch.ones(())
    return middle if middle > 0 else torch.ones(())
