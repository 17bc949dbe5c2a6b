"""FUN-AD: a small network trained on pseudo-labels from a memory bank that is rebuilt as it learns."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.base import Detector, State
from blemish.detectors.embedding import Standardised
from blemish.detectors.funad.local_net import LocalNet
from blemish.detectors.funad.memory_bank import Cut, normal_looking
from blemish.detectors.funad.pseudo_labels import Scale
from blemish.detectors.funad.scorer import SMALLEST, BankAndNet
from blemish.detectors.funad.training import SMOOTHNESS, Pool, Schedule, new_net, train
from blemish.detectors.memory_bank import FittedBanks, MemoryBank, empty_embedding, empty_ensemble
from blemish.detectors.sampling import even_plan, group_numbers
from blemish.detectors.scoring import PatchScorer
from blemish.detectors.views import View, ViewFeatures
from blemish.errors import RequestError
from blemish.runtime import runtime, side_by_side

POOL_PATCHES = 40_000  # drawn evenly from all images
FARTHEST = 16  # patches of each image that are always in the pool, those farthest from the banks


@dataclass(kw_only=True)
class FunAD(MemoryBank):
    """FUN-AD (Im, Son, Hong, WACV 2025) at a small fraction of its operations, cross-fitted.

    Each view gets a Local-Net for each fold, trained on the images of the others. Its scores of that fold, in
    deviations from the normal-looking patches there, are the training scores; the first net scores new images. So
    every score comes from one net that never saw the image. The memory banks of `MemoryBank` give the first
    pseudo-labels; from then on the bank is rebuilt from the images that the net finds normal.

    Attributes
    ----------
    net_weight, bank_weight : of the two in the patch score; a bank weight of 0 leaves FUN-AD alone.
    use_globals : whether a feature is [global ; patch] as published, or the patch alone.
    width : of the adaptor and the head's first layer (published: 1536 and 1024).
    steps, batch, noise_batch : of the training of one net; the patches of a step, and the noisy ones added.
    bank_entries, rebuilds : entries of the bank that pseudo-labels come from, and how often it is rebuilt.
    warm_up : share of the steps labelled by the first banks; 0 starts from a random net, as published.
    learning_rate, smoothness : of AdamW; lambda of the mutual smoothness loss.
    scale, cut : "minmax" as published, or "quantile" and "mad", which one extreme value cannot spoil.
    """

    net_weight: float = 0.5
    bank_weight: float = 1.0
    use_globals: bool = False
    width: int = 128
    steps: int = 300
    batch: int = 768
    noise_batch: int = 128
    bank_entries: int = 2000
    rebuilds: int = 6
    warm_up: float = 0.5
    learning_rate: float = 1e-3
    smoothness: float = SMOOTHNESS
    scale: Scale = "quantile"
    cut: Cut = "mad"

    name: ClassVar[str] = "funad"
    summary: ClassVar[str] = "a small network taught by a memory bank that is rebuilt as it learns"
    source: ClassVar[str] = "FUN-AD (WACV 2025, arXiv 2411.16110)"
    uses_set_aside: ClassVar[bool] = True
    patent: ClassVar[str] = (
        "FUN-AD is the subject of a patent application by its authors; before commercial use, clear that, or take "
        "memory_bank, which trains no network and has no pseudo-labels."
    )

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.scale not in ("minmax", "quantile") or self.cut not in ("minmax", "mad"):
            raise RequestError(f"'scale' is minmax or quantile and 'cut' minmax or mad; got {self.scale}, {self.cut}.")
        for setting, least in (
            ("folds", 2),
            ("steps", 1),
            ("batch", 16),
            ("width", 1),
            ("bank_entries", 10),
            ("rebuilds", 1),
        ):
            if getattr(self, setting) < least:
                raise RequestError(f"'{setting}' must be at least {least}; got {getattr(self, setting)}.")

    def budget(self) -> Detector:
        """Its banks alone, which rank as well as the net that they teach (benchmarks/funad.md) at a fraction of it."""
        banks = {each.name: getattr(self, each.name) for each in fields(MemoryBank)}
        return MemoryBank(**banks).budget()

    def _fit_views(self, features: list[ViewFeatures]) -> Sequence[tuple[PatchScorer, Tensor]]:
        banks = self._fit_banks(features)
        maps, valid = [fitted.maps for fitted in banks], [view.valid() for view in features]
        looks, _ = self._fusion().learn(maps, valid).of_many(maps, valid)
        return [
            self._fit_nets(view, fitted, inside, looks)
            for view, fitted, inside in zip(features, banks, valid, strict=True)
        ]

    def _fit_nets(
        self, features: ViewFeatures, fitted: FittedBanks, valid: Tensor, looks: Tensor
    ) -> tuple[BankAndNet, Tensor]:
        """The scorer of a view, and its cross-fitted maps."""
        distances, split = fitted.maps, fitted.splits[0]
        fold = torch.tensor([split[name] for name in features.images.ids])
        embeddings = [bank.embedding for bank in fitted.banks[0]]  # each learned from the images its net will see
        pool, scale = self._pool(features, distances, valid, looks)
        pools = [pool.of(fold != number, embedding) for number, embedding in enumerate(embeddings)]
        nets = self._trained(pools, features)
        scorer = BankAndNet(fitted.ensemble(), embeddings[0], nets[0], (self.bank_weight, self.net_weight))
        scorer.globals_scale = scale
        logits = _cross_fitted_logits(scorer, list(zip(embeddings, nets, strict=True)), features, split)
        normal = valid & torch.from_numpy(normal_looking(looks.numpy(), "mad"))[:, None, None]
        scorer.scales[0] = _scale(distances[normal])
        for number in range(self.folds):  # the nets' logits have no common origin or unit
            held_out = fold == number
            scale = _scale(logits[normal & held_out[:, None, None]])
            logits[held_out] = (logits[held_out] - scale[0]) / scale[1]
            if number == 0:  # the net that scores new images
                scorer.scales[1] = scale
        combined = self.bank_weight * (distances - scorer.scales[0, 0]) / scorer.scales[0, 1] + self.net_weight * logits
        return scorer.eval(), combined

    def _pool(self, features: ViewFeatures, distances: Tensor, valid: Tensor, looks: Tensor) -> tuple[Pool, Tensor]:
        """Patches to learn from, and mean and deviation of the global vectors, (2, G)."""
        plan = even_plan(features.images.ids, POOL_PATCHES, self.random_state)
        rng = np.random.default_rng(self.random_state)
        patches, owners, far, wholes, row = [], [], [], [], 0
        for batch in features.batches(stage=f"pool {features.view.pixels}"):
            for index, name in enumerate(batch.ids):
                inside = torch.nonzero(valid[row].flatten())[:, 0]
                farthest = inside[distances[row].flatten()[inside].argsort(descending=True)[:FARTHEST]]
                anywhere = inside[torch.from_numpy(rng.permutation(len(inside))[: plan.get(name, 0)])]
                chosen = torch.unique(torch.cat([farthest, anywhere]))
                patches.append(batch.patches[index].flatten(0, 1)[chosen])
                far.append(distances[row].flatten()[chosen])
                owners.append(torch.full((len(chosen),), row))
                wholes.append(batch.globals[index])
                row += 1
        whole = torch.stack(wholes)[:, : None if self.use_globals else 0]
        scale = torch.stack([whole.mean(0), (whole - whole.mean(0)).square().mean(0).sqrt().clamp_min(SMALLEST)])
        whole = (whole - scale[0]) / scale[1]
        groups = group_numbers(features.images)
        return Pool(torch.cat(patches), torch.cat(owners), torch.cat(far), whole, groups, looks), scale

    def _trained(self, pools: Sequence[Pool], features: ViewFeatures) -> list[LocalNet]:
        """A net for each pool, trained side by side, one a core: their matrices are too small to be shared out."""
        schedule = Schedule(
            self.width, self.steps, self.batch, self.noise_batch, self.bank_entries, self.rebuilds, self.warm_up,
            self.learning_rate, self.smoothness, self.scale, self.cut,
        )  # fmt: skip
        progress, stage = runtime().progress, f"nets {features.view.pixels}"
        done = [0] * len(pools)
        nets = [new_net(pool, self.width, self.random_state) for pool in pools]

        def one(number: int) -> LocalNet:
            def tell(step: int) -> None:
                done[number] = step
                progress(stage, sum(done), len(pools) * self.steps)

            with torch.enable_grad():
                return train(nets[number], pools[number], schedule, self.random_state, tell)

        return side_by_side(one, range(len(pools)))

    def _empty_scorer(self, view: View, state: State) -> PatchScorer:
        ensemble_state = {key: tensor for key, tensor in state.items() if key.startswith("ensemble.")}
        width, channels = state["net.of_patch.weight"].shape
        of_global = state.get("net.of_global.weight")
        hidden = (len(state["net.head.0.bias"]), len(state["net.head.2.bias"]))
        net = LocalNet(channels, of_global.shape[1] if of_global is not None else 0, width, hidden)
        weights = (self.bank_weight, self.net_weight)
        return BankAndNet(empty_ensemble(view, ensemble_state), empty_embedding(view, channels), net, weights)


def _cross_fitted_logits(
    scorer: BankAndNet,
    nets: Sequence[tuple[Standardised, LocalNet]],
    features: ViewFeatures,
    split: dict[str, int],
) -> Tensor:
    """Every image's logits by the net that did not learn from it, (N, h, w)."""
    maps = []
    for batch in features.batches(stage=f"logits {features.view.pixels}"):
        for index, name in enumerate(batch.ids):
            embedding, net = nets[split[name]]
            embedded = embedding(batch.patches[index].flatten(0, 1))[None]
            whole = scorer.standardised(batch.globals[index : index + 1])
            maps.append(net.of_images(embedded, whole).view(batch.patches[index].shape[:2]))
    return torch.stack(maps)


def _scale(values: Tensor) -> Tensor:
    """Mean and deviation, (2,); 0 and 1 of nothing."""
    if not len(values):
        return torch.tensor([0.0, 1.0])
    return torch.stack([values.mean(), values.std(correction=0).clamp_min(SMALLEST)])
