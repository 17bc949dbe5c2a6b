"""The contract of a detector, and what detectors on patch features share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from blemish.detectors.fusion import Fusion
from blemish.detectors.views import DEFAULT_VIEWS, View, ViewFeatures, specs_of
from blemish.errors import JobError, NotFittedError, RequestError
from blemish.features import FeatureSpec
from blemish.features.backbones import DEFAULT_BACKBONE
from blemish.features.store import GLOBALS, valid_patches
from blemish.images import ImageSet
from blemish.runtime import runtime
from blemish.scores import Scores

State = dict[str, Tensor]
SIZES = "features.sizes"  # (sizes, 2) height and width worked at, among the learned tensors
SCORED_AT_ONCE = 4  # images a pass of the head: the distances of one to 12,000 entries are 50 MB


@dataclass(kw_only=True)
class Detector(ABC):
    """Settings in, `fit`, scores out. Learned state ends in an underscore and never changes a setting.

    Attributes
    ----------
    random_state : seed of every random choice; the same seed gives the same bytes on the same machine.
    training_scores_ : cross-fitted scores of the images of `fit`: no image was scored by a part that learned
        from it or from its group, and their scale is that of `score`. Not saved with the detector.
    """

    random_state: int = 0

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    patent: ClassVar[str | None] = None
    min_images: ClassVar[int] = 8
    uses_set_aside: ClassVar[bool] = False
    fast_settings: ClassVar[Mapping[str, Any]] = {}

    @abstractmethod
    def fit(self, images: ImageSet) -> Self:
        """Learn from unlabelled images. Raises `RequestError` or `JobError` if there are too few."""

    @abstractmethod
    def score(self, images: ImageSet) -> Scores:
        """Scores of any images, higher is more anomalous. Raises `NotFittedError` before `fit`."""

    @abstractmethod
    def state(self) -> State:
        """What was learned, as named tensors."""

    @abstractmethod
    def restore(self, state: State) -> Self:
        """Take up learned state, as `state` gave it."""

    def settings(self) -> dict[str, Any]:
        """The settings by name, as they stand in `config.json`."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def clone(self, **changes: Any) -> Self:
        """An unfitted copy, some settings changed."""
        return replace(self, **changes)

    @property
    def training_scores_(self) -> Scores:
        """See the class. Raises `NotFittedError` before `fit`."""
        scores: Scores | None = self.__dict__.get("_training_scores")
        if scores is None:
            raise NotFittedError(f"{self.name} has no training scores; call fit(images) first.")
        return scores

    def _check_enough(self, images: ImageSet) -> None:
        different = len({images.groups[name] for name in images.ids})
        if different < self.min_images:
            copies = f" ({len(images)} files, {different} of different content)" if different < len(images) else ""
            raise RequestError(
                f"{different} images{copies} are too few; {self.name} needs at least {self.min_images} different ones."
            )


class PatchScorer(nn.Module, ABC):
    """What a detector learned of one view: patches to patch scores. Saved, exported and served as it is."""

    @abstractmethod
    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002
        """Patches (B, h, w, D) and the global vectors (B, G) of their images to (B, h, w), higher is worse."""


class ScoringHead(nn.Module):
    """The detector's half of scoring: backbone stages to image scores and maps, whichever detector it is.

    `forward` takes, for each working size, the stages (B, h, w, C) and `GLOBALS` (B, G) by name, and the boxes (B, 4)
    of the images; it gives scores (B,) and maps (B, H, W).
    """

    def __init__(self, views: Sequence[View], scorers: Sequence[PatchScorer], fusion: Fusion) -> None:
        super().__init__()
        self.views = tuple(views)
        self.sizes = tuple(dict.fromkeys(view.pixels for view in views))
        self.scorers = nn.ModuleList(scorers)
        self.fusion = fusion

    def forward(self, stages: Sequence[Mapping[str, Tensor]], boxes: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        maps, valid = [], []
        for view, scorer in zip(self.views, self.scorers, strict=True):
            features = stages[self.sizes.index(view.pixels)]
            patches = view.joined(features)
            maps.append(scorer(patches, features[GLOBALS].float()))
            valid.append(valid_patches(boxes, (patches.shape[1], patches.shape[2])))
        scores: tuple[Tensor, Tensor] = self.fusion(maps, valid)
        return scores


@dataclass(kw_only=True)
class FeatureDetector(Detector):
    """A detector on patch features: subclasses fit a `PatchScorer` for each view, all else is here.

    Attributes
    ----------
    backbone : name of the registry of backbones.
    views : ways of looking at an image that are fused; their working sizes are settled at `fit`.
    """

    backbone: str = DEFAULT_BACKBONE
    views: tuple[View, ...] = DEFAULT_VIEWS

    def __post_init__(self) -> None:
        """Check the settings."""
        specs_of(self.views, self.backbone)

    def feature_specs(self) -> tuple[FeatureSpec, ...]:
        """The features that are needed, one spec a working size; with the size itself once fitted."""
        return self.__dict__.get("features_") or tuple(specs_of(self.views, self.backbone))

    def fit(self, images: ImageSet) -> Self:
        """Make the features that are missing, fit the views, keep cross-fitted training scores."""
        self._check_enough(images)
        specs = [spec.resolved(images) for spec in specs_of(self.views, self.backbone)]
        for spec in specs:
            features = images.features(spec)
            features.make()
            images = images.without(features.unreadable)
        self._check_enough(images)
        by_size = {spec.pixels: images.features(spec) for spec in specs}
        views = [ViewFeatures(view, by_size[view.pixels]) for view in self.views]
        with torch.no_grad():
            scorers, maps = zip(*self._fit_views(views), strict=True)
            valid = [view.valid() for view in views]
            fusion = self._fusion().learn(list(maps), valid)
            image, drawn = fusion(list(maps), valid)
        self.head_ = ScoringHead(self.views, scorers, fusion).eval()
        self.features_ = tuple(specs)
        self._training_scores = _scores_of(images, list(images.ids), image, drawn, views[0].boxes())
        return self

    @abstractmethod
    def _fit_views(self, features: list[ViewFeatures]) -> Sequence[tuple[PatchScorer, Tensor]]:
        """For each view the fitted scorer, and the cross-fitted maps (N, h, w) of all images."""

    @abstractmethod
    def _empty_scorer(self, view: View, state: State) -> PatchScorer:
        """A scorer whose parameters have the shapes of those in `state`."""

    def _fusion(self) -> Fusion:
        return Fusion(tuple(view.ranks for view in self.views), tuple(view.draws for view in self.views))

    def score(self, images: ImageSet) -> Scores:
        """Scores of any images; unreadable ones are left out and named in `Scores.skipped`."""
        features = [images.features(spec) for spec in self._fitted().features_]
        device = runtime().device
        head = self.head_.to(device)
        wholes, maps, boxes, ids = [], [], [], []
        for first in features[0].batches(stage="scoring"):
            batches = [first, *(next(other.batches(first.ids)) for other in features[1:])]
            for row in range(0, len(first.ids), SCORED_AT_ONCE):
                rows = slice(row, row + SCORED_AT_ONCE)
                stages = [
                    {name: each[rows].to(device) for name, each in {GLOBALS: batch.globals, **batch.stages}.items()}
                    for batch in batches
                ]
                with torch.inference_mode():
                    score, grid = head(stages, first.boxes[rows].to(device))
                wholes.append(score.cpu())
                maps.append(grid.cpu())
            boxes.append(first.boxes)
            ids += list(first.ids)
        if not ids:
            name, reason = next(iter(features[0].unreadable.items()))
            raise JobError(f"None of the {len(images)} images could be read; the first is '{name}': {reason}.")
        scores = _scores_of(images, ids, torch.cat(wholes), torch.cat(maps), torch.cat(boxes))
        return replace(scores, skipped=dict(features[0].unreadable))

    def state(self) -> State:
        """The head's parameters, and the working sizes."""
        fitted = self._fitted()
        state = {name: tensor.cpu().contiguous() for name, tensor in fitted.head_.state_dict().items()}
        return {**state, SIZES: torch.tensor([spec.size for spec in fitted.features_])}

    def restore(self, state: State) -> Self:
        """Take up what `state` gave."""
        scorers = []
        for number, view in enumerate(self.views):
            prefix = f"scorers.{number}."
            scorers.append(
                self._empty_scorer(view, {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)})
            )
        self.head_ = ScoringHead(self.views, scorers, self._fusion())
        self.head_.load_state_dict({name: tensor for name, tensor in state.items() if name != SIZES})
        self.head_.eval()
        specs = specs_of(self.views, self.backbone)
        sizes = [(int(height), int(width)) for height, width in state[SIZES]]
        self.features_ = tuple(replace(spec, size=size) for spec, size in zip(specs, sizes, strict=True))
        return self

    def _fitted(self) -> Self:
        if "head_" not in self.__dict__:
            raise NotFittedError(f"{self.name} has not learned anything yet; call fit(images) first.")
        return self


def _scores_of(images: ImageSet, ids: list[str], image: Tensor, maps: Tensor, boxes: Tensor) -> Scores:
    sizes = np.array([images.sizes[name] for name in ids], dtype=np.int64)
    return Scores(tuple(ids), image.numpy(), maps.numpy(), boxes.numpy(), sizes)


def set_by_name(settings: Mapping[str, Any], changes: Mapping[str, str]) -> dict[str, Any]:
    """Parse `name=value` texts by the type of the setting they change. Raises `RequestError`, with near names."""
    from difflib import get_close_matches

    parsed: dict[str, Any] = {}
    for name, text in changes.items():
        if name not in settings:
            near = get_close_matches(name, settings, n=2) or sorted(settings)
            raise RequestError(f"There is no setting '{name}'; did you mean {' or '.join(near)}?")
        parsed[name] = _parsed(name, text, settings[name])
    return parsed


def _parsed(name: str, text: str, default: Any) -> Any:
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if kind in (int, float, str):
            return kind(text)
    except (KeyError, ValueError):
        raise RequestError(f"The setting '{name}' must be of type {kind.__name__}; got '{text}'.") from None
    raise RequestError(f"The setting '{name}' cannot be set this way.")
