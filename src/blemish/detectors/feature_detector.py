"""What all detectors on patch features share: features in, one scorer a view, cross-fitted scores out."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from blemish.detectors.base import Detector
from blemish.detectors.parts.fusion import SIGMA, Fusion, ImageScore
from blemish.detectors.parts.regions_of_interest import roi_masks
from blemish.detectors.parts.scoring_head import INSIDE, ROI, PatchScorer, ScoringHead, ScoringModule, State
from blemish.detectors.parts.views import DEEP_VIEWS, View, ViewFeatures, specs_of, views_for
from blemish.detectors.settings import check_words
from blemish.features import FeatureBatch, FeatureSpec, PatchFeatures, features_of
from blemish.features.backbones import DEFAULT_BACKBONE, GIVEN
from blemish.features.store import GLOBALS
from blemish.features.weights import obtain
from blemish.images import ImageSet
from blemish.machine.errors import NotFittedError, RequestError, none_read
from blemish.machine.runtime import intra_op_threads, runtime, side_by_side
from blemish.scores import Scores

MOST_SMOOTHING = 10  # patches
SIZES = "features.sizes"  # (sizes, 2) height and width worked at, among the learned tensors
SOURCE = "features.source"  # what the features come from, as `FeatureSpec.source` says it


@dataclass(kw_only=True)
class FeatureDetector(Detector):
    """A detector on patch features of a frozen backbone; subclasses fit a `PatchScorer` for each view.

    Parameters
    ----------
    backbone : str, default "efficientnet_lite2"
        The frozen network whose features are compared: a name of the registry of backbones or of timm. "given" is for
        features that are computed elsewhere.
    weights : str, default ""
        File with the backbone's weights, where they are neither embedded nor in a local cache.
    views : tuple of View, default one view of 256 pixels, stages "16" and "32", whitened in part
        Which stages of the backbone are looked at, and at which working size; several are fused. With another backbone
        the default becomes a view that suits it.
    pixels : int, default 0
        Side of the square whose area the working size has, in pixels, in place of that of the views; 0 leaves it. A
        defect of a few pixels needs more.
    tile : int, default 0
        Side of the tiles that images are cut into, in pixels, each looked at in the working size; 0 takes images whole.
    overlap : int, default 32
        Pixels that neighbouring tiles share at least, up to half a tile.
    image_score : "extents" (default), "max" or "top"
        How a map becomes the image's score: the mean of the highest 5 % of patches ("top"); the highest patch ("max");
        or the larger of two, the mean of the highest 5 % and the mean of all ("extents").
    smoothing : float, default 0.7
        Sigma of the Gaussian that smooths maps, in patches, 0 to 10.
    random_state : int, default 0
        Seed of every random choice, 0 or more.

    Attributes
    ----------
    training_scores_ : Scores of the images of `fit`, each by a part that did not learn from it.
    head_ : the module that scores patch features; what is saved and exported.
    features_ : the features that are read, one `FeatureSpec` a working size.
    """

    backbone: str = DEFAULT_BACKBONE
    weights: str = ""
    views: tuple[View, ...] = DEEP_VIEWS
    pixels: int = 0
    tile: int = 0
    overlap: int = 32
    image_score: ImageScore = "extents"
    smoothing: float = SIGMA

    runs_side_by_side: ClassVar[bool] = True
    looks_at_patches: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        self.weights = str(Path(self.weights).expanduser().absolute()) if self.weights else ""
        self.views = views_for(self.backbone, self.views)
        if self.pixels and self.backbone != GIVEN:
            if len({view.pixels for view in self.views}) > 1:
                raise RequestError("'pixels' is for views of one size, and these have several; leave it out.")
            self.views = tuple(replace(view, pixels=self.pixels) for view in self.views)
        self._specs()
        check_words(self)
        if not 0 <= self.smoothing <= MOST_SMOOTHING:
            raise RequestError(f"'smoothing' must be 0 to {MOST_SMOOTHING} patches; got {self.smoothing}.")

    def obtain_needs(self) -> None:
        """Fetch the backbone's weights if they are not on this machine. Raises `WeightsError` within seconds."""
        if self.backbone != GIVEN:
            obtain(self.backbone, self.weights)

    def budget(self) -> Detector:
        """For sub-models, unfitted: views that only draw are left out; sizes stay, so features are shared."""
        ranking = tuple(view for view in self.views if view.ranks)
        if not any(view.draws for view in ranking):
            ranking = (replace(ranking[0], draws=True), *ranking[1:])
        return self.clone(**{"views": ranking, **self.budget_settings})

    @property
    def reads_images(self) -> bool:
        """Whether features are made from images here, by `backbone`."""
        return self.backbone != GIVEN

    def on_features(self) -> Detector:
        """An unfitted copy for features computed elsewhere. Raises `RequestError` if a backbone was chosen by name."""
        unasked = {DEFAULT_BACKBONE, GIVEN, *(preset.get("backbone") for preset in self.presets.values())}
        if self.backbone not in unasked:
            raise RequestError(f"Features come as they are; leave out the backbone '{self.backbone}'.")
        return self.clone(backbone=GIVEN)

    def patch_scorers(self) -> list[tuple[View, nn.Module]]:
        """Each view with the `PatchScorer` that was learned of it. Raises `NotFittedError`."""
        return list(zip(self.views, self._fitted().head_.scorers, strict=True))

    def feature_specs(self) -> tuple[FeatureSpec, ...]:
        """The features that are needed, one spec per working size; with the size itself once fitted."""
        return self.__dict__.get("features_") or tuple(self._specs())

    @property
    def whole_pixels(self) -> bool:
        """Whether images above 4,096 pixels a side are looked at as they are: in tiles."""
        return bool(self.tile)

    def _specs(self) -> list[FeatureSpec]:
        return specs_of(self.views, self.backbone, self.weights, self.tile, self.overlap)

    def prepare(self, images: ImageSet) -> ImageSet:
        """Make the features of images that are missing; returns the images that can be read."""
        if "features_" not in self.__dict__:
            return self._prepared(images)[0]
        for spec in self.features_:
            features = features_of(images, spec)
            features.make()
            images = images.without(features.skipped)
        return images

    def _prepared(self, images: ImageSet) -> tuple[ImageSet, tuple[FeatureSpec, ...]]:
        """The readable images with their features made, and the specs with the working sizes.

        Images that turn out unreadable do not take part in choosing the sizes.
        """
        self.obtain_needs()
        while True:
            self._check_enough(images)
            specs = tuple(spec.resolved(images) for spec in self._specs())
            before = images
            for spec in specs:
                features = features_of(images, spec)
                features.make()
                images = images.without(features.skipped)
            if images is before:
                return images, specs

    def fit(self, images: ImageSet) -> Self:
        """Make the features that are missing, fit the views, keep cross-fitted training scores."""
        return self._fit_prepared(*self._prepared(images))

    def _fit_prepared(self, images: ImageSet, specs: Sequence[FeatureSpec]) -> Self:
        """Fit the views, given the specs with the working sizes."""
        by_size = {spec.pixels: features_of(images, spec) for spec in specs}
        views = [ViewFeatures(view, by_size[view.pixels]) for view in self.views]
        # what is large is done side by side; in the many small steps, threads would only wait for each other
        with torch.no_grad(), intra_op_threads(1):
            self.assemble(views, self._fit_views(views))
        return self

    def assemble(self, views: Sequence[ViewFeatures], fitted: Sequence[tuple[PatchScorer, Tensor]]) -> Self:
        """Put scorer and cross-fitted maps (N, h, w) of each view together: with that, the detector is fitted."""
        images = views[0].images
        scorers, maps = zip(*fitted, strict=True)
        valid = [view.valid() for view in views]
        fusion = self._fusion().learn(list(maps), valid)
        image, drawn = fusion.of_many(list(maps), valid)
        roi = roi_masks(images, ()) if images.roi is not None and images.roi.one is not None else None
        self.head_ = ScoringHead(self.views, scorers, fusion, roi).eval()
        self.features_ = tuple(dict.fromkeys(view.features.spec for view in views))
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
        ranks, draws = tuple(view.ranks for view in self.views), tuple(view.draws for view in self.views)
        return Fusion(ranks, draws, self.image_score, self.smoothing)

    def score(self, images: ImageSet) -> Scores:
        """Scores of any images; those that cannot be read are named in `Scores.skipped`."""
        features = [features_of(images, spec) for spec in self._fitted().features_]
        device = runtime().device
        head = self.head_.to(device)
        wholes, maps, boxes, ids = [], [], [], []
        for batches in _side_by_side(features):

            def one(row: int, of: list[FeatureBatch] = batches) -> tuple[Tensor, Tensor]:
                masks = roi_masks(images, of[0].ids[row : row + 1])
                if masks is not None and images.roi is None and head.roi is not None:
                    masks = masks & head.roi.cpu()
                scored: tuple[Tensor, Tensor] = head([_row(batch, row, device, masks) for batch in of])
                return scored

            with torch.no_grad():
                results = side_by_side(one, range(len(batches[0].ids)))
            for score, grid in results:
                wholes.append(score.cpu())
                maps.append(grid.cpu())
            boxes.append(batches[self._drawn_size()].boxes)
            ids += list(batches[0].ids)
        skipped = {name: reason for each in features for name, reason in each.skipped.items()}
        if not ids:
            raise none_read(len(images), skipped)
        scores = _scores_of(images, ids, torch.cat(wholes), torch.cat(maps), torch.cat(boxes))
        return replace(scores, skipped=skipped)

    def _drawn_size(self) -> int:
        """Which working size the map has."""
        sizes = list(dict.fromkeys(view.pixels for view in self.views))
        return sizes.index(next(view.pixels for view in self.views if view.draws))

    def module(self) -> ScoringModule:
        """All of scoring as one module, for export and for images that are already decoded."""
        return ScoringModule(self._fitted().features_, self.head_).eval()

    def state(self) -> State:
        """The head's parameters, the working sizes, and what the features come from."""
        fitted = self._fitted()
        state, places = {}, set()
        for name, tensor in fitted.head_.state_dict().items():
            values = tensor.cpu().contiguous()
            # parts may share a tensor, such as an embedding, and files hold each tensor by itself
            shared = values.untyped_storage().data_ptr() in places
            places.add(values.untyped_storage().data_ptr())
            state[name] = values.clone() if shared else values
        sizes = torch.tensor([spec.size for spec in fitted.features_])
        return {**state, SIZES: sizes, SOURCE: fitted.features_[0].source()}

    def restore(self, state: State) -> Self:
        """Take up what `state` gave. Raises `WeightsError` if the backbone's weights are not there, or other ones."""
        specs = [spec.from_source(state[SOURCE]) for spec in self._specs()]
        scorers = []
        for number, view in enumerate(self.views):
            prefix = f"scorers.{number}."
            scorers.append(
                self._empty_scorer(view, {k.removeprefix(prefix): t for k, t in state.items() if k.startswith(prefix)})
            )
        self.head_ = ScoringHead(self.views, scorers, self._fusion(), state.get(ROI))
        self.head_.load_state_dict({name: tensor for name, tensor in state.items() if name not in (SIZES, SOURCE)})
        self.head_.eval()
        sizes = [(int(height), int(width)) for height, width in state[SIZES]]
        self.features_ = tuple(replace(spec, size=size) for spec, size in zip(specs, sizes, strict=True))
        return self

    def _fitted(self) -> Self:
        if "head_" not in self.__dict__:
            raise NotFittedError(f"{self.name} has not learned anything yet; call fit(images) first.")
        return self


def _side_by_side(features: Sequence[PatchFeatures]) -> Iterator[list[FeatureBatch]]:
    """Batches of the same images at each working size; an image that the second lacks is left out of all."""
    for first in features[0].batches(stage="scoring"):
        batches, ids = [first], list(first.ids)
        for other in features[1:]:
            batches += list(other.batches(ids))
            ids = [name for name in ids if name not in other.skipped]
        if ids:
            yield [batch.subset(ids) for batch in batches]


def _row(batch: FeatureBatch, row: int, device: str, masks: Tensor | None) -> dict[str, Tensor]:
    """The features of one image by name, as `ScoringHead` takes them."""
    named = {GLOBALS: batch.globals, INSIDE: batch.boxes, **batch.stages}
    found = {name: tensor[row : row + 1].to(device) for name, tensor in named.items()}
    return found if masks is None else {**found, ROI: masks.to(device)}


def _scores_of(images: ImageSet, ids: list[str], image: Tensor, maps: Tensor, boxes: Tensor) -> Scores:
    sizes = np.array([images.sizes[name] for name in ids], dtype=np.int64)
    return Scores(tuple(ids), image.numpy(), maps.numpy(), boxes.numpy(), sizes)
