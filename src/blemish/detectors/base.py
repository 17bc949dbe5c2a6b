"""The contract of a detector, and what detectors on patch features share."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from blemish.detectors.fusion import Fusion
from blemish.detectors.views import DEFAULT_VIEWS, View, ViewFeatures, specs_of
from blemish.errors import JobError, NotFittedError, RequestError
from blemish.features import FeatureBatch, FeatureSpec, PatchFeatures
from blemish.features.backbones import DEFAULT_BACKBONE
from blemish.features.extract import PatchExtractor, box_in_grid
from blemish.features.store import GLOBALS, valid_patches
from blemish.images import ImageSet
from blemish.runtime import runtime, side_by_side
from blemish.scores import Scores

State = dict[str, Tensor]
BOXES = "boxes"  # where the images lie in their grid, among the features of a working size
SIZES = "features.sizes"  # (sizes, 2) height and width worked at, among the learned tensors


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
            copies = f", {len(images)} files of which some are equal" if different < len(images) else ""
            skipped = f", {len(images.skipped)} more could not be read" if images.skipped else ""
            raise RequestError(
                f"There are too few images: {different} of different content{copies}{skipped}; {self.name} needs at "
                f"least {self.min_images}."
            )


class PatchScorer(nn.Module, ABC):
    """What a detector learned of one view: patches to patch scores. Saved, exported and served as it is."""

    @abstractmethod
    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002
        """Patches (B, h, w, D) and the global vectors (B, G) of their images to (B, h, w), higher is worse."""


class ScoringHead(nn.Module):
    """The detector's half of scoring: backbone stages to image scores and maps, whichever detector it is.

    `forward` takes, for each working size, the stages (B, h, w, C), `GLOBALS` (B, G) and `BOXES` (B, 4) by name; it
    gives scores (B,) and maps (B, H, W).
    """

    def __init__(self, views: Sequence[View], scorers: Sequence[PatchScorer], fusion: Fusion) -> None:
        super().__init__()
        self.views = tuple(views)
        self.sizes = tuple(dict.fromkeys(view.pixels for view in views))
        self.scorers = nn.ModuleList(scorers)
        self.fusion = fusion

    def forward(self, sizes: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
        """See the class."""
        maps, valid = [], []
        for view, scorer in zip(self.views, self.scorers, strict=True):
            features = sizes[self.sizes.index(view.pixels)]
            patches = view.joined(features)
            maps.append(scorer(patches, features[GLOBALS].float()))
            valid.append(valid_patches(features[BOXES], (patches.shape[1], patches.shape[2])))
        scores: tuple[Tensor, Tensor] = self.fusion(maps, valid)
        return scores


class ScoringModule(nn.Module):
    """All of scoring: images of one size, uint8 RGB (B, 3, H, W), 0..255, to scores (B,) and maps (B, h, w).

    Resize, rounding, standardisation, backbone, distances, fusion and smoothing are inside; decoding is outside.
    Training, a saved Run and an exported graph run the same modules.
    """

    def __init__(self, specs: Sequence[FeatureSpec], head: ScoringHead) -> None:
        super().__init__()
        self.extractors = nn.ModuleList(PatchExtractor(spec) for spec in specs)
        self.specs, self.head = tuple(specs), head

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        height, width = images.shape[-2:]
        features = []
        for spec, extractor in zip(self.specs, self.extractors, strict=True):
            whole, stages = extractor(images)
            box = torch.tensor([box_in_grid((width, height), spec.size or (1, 1))], device=images.device)
            named = dict(zip(spec.stages, stages, strict=True))
            features.append({GLOBALS: whole, BOXES: box.expand(images.shape[0], 4), **named})
        scores: tuple[Tensor, Tensor] = self.head(features)
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

    def prepared(self, images: ImageSet) -> tuple[ImageSet, tuple[FeatureSpec, ...]]:
        """The readable images with their features made, and the specs with the working sizes.

        Images that turn out unreadable do not take part in choosing the sizes.
        """
        while True:
            self._check_enough(images)
            specs = tuple(spec.resolved(images) for spec in specs_of(self.views, self.backbone))
            before = images
            for spec in specs:
                features = images.features(spec)
                features.make()
                images = images.without(features.unreadable)
            if images is before:
                return images, specs

    def fit(self, images: ImageSet) -> Self:
        """Make the features that are missing, fit the views, keep cross-fitted training scores."""
        images, specs = self.prepared(images)
        by_size = {spec.pixels: images.features(spec) for spec in specs}
        views = [ViewFeatures(view, by_size[view.pixels]) for view in self.views]
        with torch.no_grad():
            scorers, maps = zip(*self._fit_views(views), strict=True)
            valid = [view.valid() for view in views]
            fusion = self._fusion().learn(list(maps), valid)
            image, drawn = fusion(list(maps), valid)
        self.head_ = ScoringHead(self.views, scorers, fusion).eval()
        self.features_ = specs
        boxes = next(view.boxes() for view in views if view.view.draws)
        self._training_scores = _scores_of(images, list(images.ids), image, drawn, boxes)
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
        for batches in _side_by_side(features):

            def one(row: int, of: list[FeatureBatch] = batches) -> tuple[Tensor, Tensor]:
                scored: tuple[Tensor, Tensor] = head([_row(batch, row, device) for batch in of])
                return scored

            with torch.no_grad():
                results = side_by_side(one, range(len(batches[0].ids)))
            for score, grid in results:
                wholes.append(score.cpu())
                maps.append(grid.cpu())
            boxes.append(batches[self._drawn_size()].boxes)
            ids += list(batches[0].ids)
        unreadable = {name: reason for each in features for name, reason in each.unreadable.items()}
        if not ids:
            name, reason = next(iter(unreadable.items()))
            raise JobError(f"None of the {len(images)} images could be read; the first is '{name}': {reason}.")
        scores = _scores_of(images, ids, torch.cat(wholes), torch.cat(maps), torch.cat(boxes))
        return replace(scores, skipped=unreadable)

    def _drawn_size(self) -> int:
        """Which working size the map has."""
        sizes = list(dict.fromkeys(view.pixels for view in self.views))
        return sizes.index(next(view.pixels for view in self.views if view.draws))

    def module(self) -> ScoringModule:
        """All of scoring as one module, for export and for images that are already decoded."""
        return ScoringModule(self._fitted().features_, self.head_).eval()

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


def _side_by_side(features: Sequence[PatchFeatures]) -> Iterator[list[FeatureBatch]]:
    """Batches of the same images at each working size; an image that is gone by the second is left out of all."""
    for first in features[0].batches(stage="scoring"):
        batches, ids = [first], list(first.ids)
        for other in features[1:]:
            batches += list(other.batches(ids))
            ids = [name for name in ids if name not in other.unreadable]
        if ids:
            yield [batch.subset(ids) for batch in batches]


def _row(batch: FeatureBatch, row: int, device: str) -> dict[str, Tensor]:
    """The features of one image by name, as `ScoringHead` takes them."""
    named = {GLOBALS: batch.globals, BOXES: batch.boxes, **batch.stages}
    return {name: tensor[row : row + 1].to(device) for name, tensor in named.items()}


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
