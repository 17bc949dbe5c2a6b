"""The contract of a detector."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from blemish.detectors.parts.scoring_head import State
from blemish.detectors.parts.views import View
from blemish.detectors.settings import check_numbers
from blemish.features import FeatureSpec
from blemish.images import ImageSet
from blemish.machine.errors import NotFittedError, RequestError
from blemish.scores import Scores


@dataclass(kw_only=True)
class Detector(ABC):
    """What every detector has: settings, `fit` on unlabelled images, `score` of any images.

    Settings are fields, checked when the detector is made. Learned state ends in an underscore and never changes a
    setting.

    Parameters
    ----------
    random_state : int, default 0
        Seed of every random choice, 0 or more; the same seed gives the same bytes on the same machine.

    Attributes
    ----------
    training_scores_ : Scores of the images of `fit`, cross-fitted: no image was scored by a part that learned from it
        or from its group, and their scale is that of `score`. Not saved with the detector.
    name, summary, source, patent : of the class: what it is called on the command line, what it does in a line, where
        it is published, and a patent that is known of.
    min_images : of the class: images of different content that `fit` needs.
    uses_set_aside : of the class: whether images that a purification set aside are of use to `fit`.
    presets : of the class: named sets of settings.
    budget_settings : of the class: what `budget` changes.
    keeps_checkpoints : of the class: whether `fit` leaves half-trained nets in the runtime's `checkpoints`, and takes
        them up.
    runs_side_by_side : of the class: whether several may be fitted at once in threads of one process: nothing global,
        such as the seed of torch, is touched.
    looks_at_patches : of the class: whether scores are made of patch features of a frozen backbone. Then a region of
        interest counts, features alone can be learned from, and all of scoring exports to a graph.
    """

    random_state: int = 0

    name: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str]
    patent: ClassVar[str | None] = None
    min_images: ClassVar[int] = 8
    uses_set_aside: ClassVar[bool] = False
    keeps_checkpoints: ClassVar[bool] = False
    runs_side_by_side: ClassVar[bool] = False
    looks_at_patches: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    budget_settings: ClassVar[Mapping[str, Any]] = {}

    def __post_init__(self) -> None:
        """Check what all detectors have. Raises `RequestError`."""
        check_numbers(self)
        if self.random_state < 0:
            raise RequestError(f"'random_state' must be 0 or more; got {self.random_state}.")

    def obtain_needs(self) -> None:  # noqa: B027 - not every detector needs anything
        """Get what it needs beside images, such as weights. Raises `RequestError` or `WeightsError` within seconds."""

    def prepare(self, images: ImageSet) -> ImageSet:
        """Make beforehand what `fit` reads of images, such as features; of a fitted detector, what `score` reads.

        `fit` and `score` do so themselves; this tells how long it takes, and which images can be read: those are
        returned. Raises `RequestError` or `WeightsError` if something is missing, or if there are too few images to
        learn from.
        """
        self.obtain_needs()
        return images

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

    def module(self) -> nn.Module:
        """All of scoring as one module: uint8 RGB (B, 3, H, W) to scores (B,) and maps. Raises `NotFittedError`."""
        raise RequestError(f"The detector '{self.name}' has no scoring module.")

    @property
    def views(self) -> Sequence[View]:
        """The ways of looking at an image that are fused; none of a detector that has no patch features."""
        return ()

    def patch_scorers(self) -> list[tuple[View, nn.Module]]:
        """Each view with what was learned of it; none of a detector that has no patch features."""
        return []

    def feature_specs(self) -> tuple[FeatureSpec, ...]:
        """The features that are read, one spec per working size, with the size itself once fitted; () if none are."""
        return ()

    @property
    def reads_images(self) -> bool:
        """Whether scores are made from images, not from features that are computed elsewhere."""
        return True

    def feature_bytes(self, images: ImageSet) -> int:
        """Bytes that the features of one of `images` take in the cache; 0 for a detector that keeps none there."""
        if not self.reads_images:
            return 0
        return sum(spec.resolved(images).bytes_each() for spec in self.feature_specs())

    def on_features(self) -> "Detector":
        """An unfitted copy for features that are computed elsewhere. Raises `RequestError` if it cannot take any."""
        raise RequestError(f"{self.name} looks at images, and these are features alone; take another detector.")

    @property
    def whole_pixels(self) -> bool:
        """Whether images above 4,096 pixels a side are looked at as they are, not reduced as they are read."""
        return False

    @classmethod
    def setting_names(cls) -> set[str]:
        """The names that `settings` has, and that the class takes."""
        return {each.name for each in fields(cls)}

    def settings(self) -> dict[str, Any]:
        """The settings by name, as `config.json` has them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def clone(self, **changes: Any) -> Self:
        """An unfitted copy, some settings changed."""
        return replace(self, **changes)

    def budget(self) -> "Detector":
        """An unfitted detector for the sub-models of purification: cheap, and good enough to find outliers."""
        return self.clone(**self.budget_settings)

    @classmethod
    def preset(cls, preset: str) -> Mapping[str, Any]:
        """A named set of settings. Raises `RequestError`, with the names there are."""
        if preset not in cls.presets:
            known = f"it has {', '.join(cls.presets)}" if cls.presets else "it has none"
            raise RequestError(f"The detector {cls.name} has no preset '{preset}'; {known}.")
        return cls.presets[preset]

    def leave_training(self, folder: Path) -> None:  # noqa: B027 - not every detector has something to write
        """Write what is known of the training into `folder`."""

    @property
    def findings(self) -> tuple[str, ...]:
        """Sentences on what the fit found out about the folder, for its report."""
        return ()

    def stricter_scores(self, ids: Sequence[str]) -> NDArray[np.float64]:
        """(F,) of the images `ids` of `fit`: scores of a stricter view, from which fewer defects hide; or none.

        A decision sees the folder in both. Not saved with the detector.
        """
        known: Mapping[str, float] = self.__dict__.get("_stricter", {})
        return np.array([known[name] for name in ids if name in known])

    @property
    def cross_fits(self) -> bool:
        """Whether `fit` leaves training scores; some settings save that time for parts of a larger job."""
        return True

    @property
    def training_scores_(self) -> Scores:
        """Scores of the images of `fit`, by parts that did not see them. Raises `NotFittedError` before `fit`."""
        if not self.cross_fits:
            raise NotFittedError(f"{self.name} has no training scores; set 'training_scores' to true.")
        scores: Scores | None = self.__dict__.get("_training_scores")
        if scores is None:
            raise NotFittedError(f"{self.name} has no training scores; call fit(images) first.")
        return scores

    def _check_enough(self, images: ImageSet) -> None:
        different = len({images.groups[name] for name in images.ids})
        if different < self.min_images:
            alike = "count as one" if images.grouping else "are equal"
            copies = f", {len(images)} files of which some {alike}" if different < len(images) else ""
            skipped = f", {len(images.skipped)} more could not be read" if images.skipped else ""
            raise RequestError(
                f"There are too few images: {different} of different content{copies}{skipped}; {self.name} needs at "
                f"least {self.min_images}."
            )
