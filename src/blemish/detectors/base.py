"""The contract of a detector, and what detectors on patch features share."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from blemish.errors import JobError, NotFittedError, RequestError
from blemish.features import FeatureSpec, PatchFeatures
from blemish.images import ImageSet
from blemish.runtime import runtime
from blemish.scores import Scores

State = dict[str, Tensor]


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


class ScoringHead(nn.Module, ABC):
    """The detector's half of scoring: features to a map and a score. Saved, exported and served as it is."""

    @abstractmethod
    def forward(self, globals: Tensor, patches: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:  # noqa: A002
        """(B, G), (B, h, w, D) and bool (B, h, w) to image scores (B,) and maps (B, h, w)."""


@dataclass(kw_only=True)
class FeatureDetector(Detector):
    """A detector on patch features: subclasses fit a `ScoringHead`, all else is here.

    Attributes
    ----------
    features : which features; its working size is settled at `fit` and kept in `features_`.
    """

    features: FeatureSpec = FeatureSpec()

    def fit(self, images: ImageSet) -> Self:
        """Make the features that are missing, fit the head, keep cross-fitted training scores."""
        self._check_enough(images)
        features = images.features(self.features)
        features.make()
        readable = images.without(features.unreadable)
        self._check_enough(readable)
        features = PatchFeatures(readable, features.spec, features.store)
        self.features_ = features.spec
        self.head_, self._training_scores = self._fit_head(features)
        return self

    @abstractmethod
    def _fit_head(self, features: PatchFeatures) -> tuple[ScoringHead, Scores]:
        """The fitted head, and the cross-fitted scores of the images behind `features`."""

    @abstractmethod
    def _empty_head(self, state: State) -> ScoringHead:
        """A head whose parameters have the shapes of those in `state`."""

    def score(self, images: ImageSet) -> Scores:
        """Scores of any images; unreadable ones are left out."""
        features = images.features(self._fitted().features_)
        head = self.head_.to(runtime().device)
        wholes, maps, ids, boxes = [], [], [], []
        with torch.inference_mode():
            for batch in features.batches(stage="scoring"):
                score, grid = head(
                    batch.globals.to(runtime().device).float(),
                    batch.patches.to(runtime().device).float(),
                    batch.valid.to(runtime().device),
                )
                wholes.append(score.cpu().numpy())
                maps.append(grid.cpu().numpy())
                boxes.append(batch.boxes.numpy())
                ids += batch.ids
        if not ids:
            name, reason = next(iter(features.unreadable.items()))
            raise JobError(f"None of the {len(images)} images could be read; the first is '{name}': {reason}.")
        scores = scores_of(images, ids, np.concatenate(wholes), np.concatenate(maps), np.concatenate(boxes))
        return replace(scores, skipped=dict(features.unreadable))

    def state(self) -> State:
        """The head's parameters."""
        return {name: tensor.contiguous() for name, tensor in self._fitted().head_.state_dict().items()}

    def restore(self, state: State) -> Self:
        """Take up a saved head; `features` must hold the working size it was fitted with."""
        self.head_ = self._empty_head(state)
        self.head_.load_state_dict(state)
        self.head_.eval()
        self.features_ = self.features
        return self

    def _fitted(self) -> Self:
        if "head_" not in self.__dict__:
            raise NotFittedError(f"{self.name} has not learned anything yet; call fit(images) first.")
        return self


def scores_of(images: ImageSet, ids: list[str], image: np.ndarray, maps: np.ndarray, boxes: np.ndarray) -> Scores:
    """Scores of `ids` with their sizes filled in."""
    sizes = np.array([images.sizes[name] for name in ids], dtype=np.int64)
    return Scores(tuple(ids), image.astype(np.float32), maps.astype(np.float32), boxes, sizes)


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
