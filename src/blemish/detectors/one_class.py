"""What detectors share that count all images they learn from as normal."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from blemish.detectors.feature_detector import FeatureDetector
from blemish.detectors.parts.fusion import robust_scale
from blemish.detectors.parts.sampling import TrainingPart, draw_patches, group_numbers, split_in_folds
from blemish.detectors.parts.scoring_head import PatchScorer, State
from blemish.detectors.parts.views import PLAIN_VIEWS, PatchBatch, View, ViewFeatures
from blemish.detectors.settings import check_folds
from blemish.images import ANOMALOUS, SUSPECTED, ImageSet
from blemish.machine.errors import RequestError


@dataclass(frozen=True)
class Learned:
    """What was learned from a part.

    Attributes
    ----------
    scorer : of patches.
    typical : gives (n,) scores of some patches of the part.
    unseen : whether `typical` are what these patches would get, had the scorer not seen their images.
    """

    scorer: PatchScorer
    typical: Callable[[], Tensor]
    unseen: bool


class InUnits(PatchScorer):
    """A scorer whose scores are put in deviations from the median of unseen patches."""

    def __init__(self, scorer: PatchScorer, unit: Tensor) -> None:
        super().__init__()
        self.scorer = scorer
        self.unit: Tensor = nn.Buffer(unit)  # (2,): middle, deviation

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002
        """Patches (B, h, w, D) and global vectors (B, G) to patch scores (B, h, w)."""
        scores: Tensor = (self.scorer(patches, globals) - self.unit[0]) / self.unit[1]
        return scores


@dataclass(kw_only=True)
class OneClass(FeatureDetector):
    """A detector that counts all images of `fit` as normal; subclasses learn a scorer from a sample of patches.

    The detector learns from all images (those known to be anomalous left out). Its training scores come from others of
    its kind: the images are split in `folds` parts, and what was learned without a part scores it. The two score alike
    but for how much they have seen, so each is put in deviations of its scores of unseen patches.

    Parameters
    ----------
    folds : int, default 3
        Parts that the images are split into, 2 or more: what was learned without a part gives its training scores.
    training_scores : bool, default True
        Whether there are training scores. Without, most of the time is saved; a fit that decides on a threshold needs
        them.
    views : tuple of View, default one view of 256 pixels, stages "8" and "16", averaged over 3 x 3 patches
        Which stages of the backbone are looked at, and at which working size; several are fused. With another backbone
        the default becomes a view that suits it.

    The other settings are those of `FeatureDetector`.
    """

    views: tuple[View, ...] = PLAIN_VIEWS
    folds: int = 3
    training_scores: bool = True

    budget_settings: ClassVar[Mapping[str, Any]] = {"training_scores": False}

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_folds(self.folds)

    def fit(self, images: ImageSet) -> Self:
        """Learn from unlabelled images; see the class."""
        super().fit(images)
        if not self.training_scores:
            del self._training_scores
        return self

    @property
    def cross_fits(self) -> bool:
        """Whether `fit` leaves training scores."""
        return self.training_scores

    @abstractmethod
    def _plan(self, ids: Sequence[str]) -> Mapping[str, int]:
        """How many patches to draw from each of the images."""

    @abstractmethod
    def _learn(self, parts: Sequence[TrainingPart], features: ViewFeatures) -> Sequence[Learned]:
        """Learn from each part, as if there were no other."""

    @abstractmethod
    def _empty(self, view: View, state: State) -> PatchScorer:
        """A scorer whose parameters have the shapes of those in `state`."""

    def _fit_views(self, features: list[ViewFeatures]) -> Sequence[tuple[PatchScorer, Tensor]]:
        images = features[0].images
        trusted = [name for name in images.ids if images.labels.get(name) not in (ANOMALOUS, SUSPECTED)]
        self._check_enough(images.subset(trusted))
        return [self._fit_view(view, trusted) for view in features]

    def _fit_view(self, features: ViewFeatures, trusted: Sequence[str]) -> tuple[PatchScorer, Tensor]:
        """The scorer of a view, and the maps of all images by those that have not seen them."""
        images, size = features.images, features.view.pixels
        sample = draw_patches(features, self._plan(trusted), self.random_state, f"patches {size}")
        groups = group_numbers(images)
        folds = min(self.folds, int(groups.max()) + 1) if self.training_scores else 0
        split = split_in_folds(images, folds, self.random_state) if folds else {}
        fold = torch.tensor([split.get(name, -1) for name in images.ids])
        stage = f"{self.name} {size}"
        parts = [TrainingPart(sample, None, groups, stage)]
        parts += [
            TrainingPart(sample, fold != number, groups, f"{stage}, part {number + 1}") for number in range(folds)
        ]
        if not all(len(each.groups) for each in parts):
            raise RequestError(f"The labels leave {self.name} a part without an image to learn from; raise 'folds'.")
        final, *others = self._learn(parts, features)
        unit = robust_scale(final.typical())
        if not folds:
            scorer = InUnits(final.scorer, unit).eval()
            return scorer, _maps(features, [scorer], dict.fromkeys(images.ids, 0))
        maps = _maps(features, [other.scorer.eval() for other in others], split)
        units = _put_in_units(maps, features.valid(), fold)
        if not final.unseen:  # then the others tell how much worse unseen patches fare than those learned from
            seen = torch.stack([robust_scale(other.typical()) for other in others])
            unit = torch.stack([unit[0] + (units - seen)[:, 0].mean(), unit[1] * (units / seen)[:, 1].mean()])
        return InUnits(final.scorer, unit).eval(), maps

    def _empty_scorer(self, view: View, state: State) -> PatchScorer:
        inner = {key.removeprefix("scorer."): tensor for key, tensor in state.items()}
        return InUnits(self._empty(view, inner), state["unit"])


def _put_in_units(maps: Tensor, valid: Tensor, fold: Tensor) -> Tensor:
    """Put the maps (N, h, w) of each fold in deviations from its median, in place; gives both, (folds, 2)."""
    units = []
    for number in torch.unique(fold):
        here = fold == number
        unit = robust_scale(maps[here][valid[here]])
        maps[here] = (maps[here] - unit[0]) / unit[1]
        units.append(unit)
    return torch.stack(units)


def _maps(features: ViewFeatures, scorers: Sequence[PatchScorer], which: Mapping[str, int]) -> Tensor:
    """Every image's map (N, h, w) by one of the scorers."""

    def one(batch: PatchBatch, row: int) -> Tensor:
        scorer = scorers[which[batch.ids[row]]]
        scores: Tensor = scorer(batch.patches[row : row + 1], batch.globals[row : row + 1])
        return scores

    return features.maps(one, f"scores {features.view.pixels}")
