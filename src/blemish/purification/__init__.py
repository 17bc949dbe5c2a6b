"""LLBNAD around any detector: which images of an unlabelled folder to learn from (spec/llbnad.md)."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.detectors import Detector, detector_class
from blemish.detectors.parts.sampling import group_numbers
from blemish.detectors.settings import check_names
from blemish.images import ANOMALOUS, NORMAL, UNKNOWN, ImageSet
from blemish.machine.errors import RequestError
from blemish.purification.keeping import aggregated, chosen
from blemish.purification.kept_scores import KEPT_SCORES, KeptScores
from blemish.purification.purify_settings import BEFORE_FIT, PurifySettings
from blemish.purification.result import Purification
from blemish.purification.sub_models import name_of, planned, score_all

__all__ = [
    "BEFORE_FIT",
    "KEPT_SCORES",
    "Purification",
    "PurifySettings",
    "SubModelScores",
    "aggregated",
    "purify",
    "score_by_sub_models",
]


def purify(
    images: Any,
    detector: Any,
    settings: PurifySettings | None = None,
    *,
    seed: int = 0,
    sub_model: Any = None,
    resume: Path | None = None,
    **changes: Any,
) -> Purification:
    """Find out which images of an unlabelled folder a detector should learn from.

    The images are split into subsets at random; a sub-model learns from each and scores all images; what scores low
    on average is kept. Models learn the consistent, normal patterns first and answer unstably to rare ones, so an
    anomaly that few sub-models saw scores high (LLBNAD, arXiv 2508.07441). Everything is keyed by the images' ids.

    Parameters
    ----------
    images : an `ImageSet`, or whatever it can be made of.
    detector : any object with `fit(images)` and `score(images)`. It gets `ImageSet`s; `score` returns
        `Scores`, a mapping from id to score, or numbers in the order of `images.ids`; higher is more anomalous. It
        is copied with `copy.deepcopy` and never fitted itself. Of a `Detector` its `budget()` is taken and each
        sub-model gets its own seed. An attribute `runs_side_by_side = True` lets sub-models run in threads.
    settings, changes : how; `changes` are single settings by name, such as `subsets=4`.
    seed : of the splits and sub-models.
    sub_model : used in place of the budget of the detector or of `settings.by`, such as the detector itself for full
        training.
    resume : a folder in which finished sub-models' scores are kept until `KeptScores.remove`.

    Raises
    ------
    RequestError : for wrong settings, or subsets too small for the detector.
    JobError : if a sub-model fails; the others' scores are kept.
    """
    if not isinstance(settings, PurifySettings | None):
        raise RequestError(f"Settings of a purification are PurifySettings(...); got {settings!r}.")
    check_names(PurifySettings.names(), changes)
    settings = (settings or PurifySettings()).changed(**changes)
    scored = score_by_sub_models(images, detector, settings, seed=seed, sub_model=sub_model, resume=resume)
    return scored.purification(settings)


@dataclass(frozen=True)
class SubModelScores:
    """Stage 1: what all sub-models make of all images. Every way to aggregate and cut starts here.

    Attributes
    ----------
    images : of the purification.
    matrix : (M, N) float64, scores of the images (columns) by the sub-models (rows); not a number where there is none.
    own : (M, N) bool, whether an image is of the sub-model's own subset.
    detector : that is purified for; `seed` and `partial` as in `Purification`.
    """

    images: ImageSet
    matrix: NDArray[np.float64]
    own: NDArray[np.bool_]
    detector: Any
    seed: int
    partial: KeptScores | None = None

    def purification(self, settings: PurifySettings) -> Purification:
        """Aggregated and cut.

        `settings` must have the subsets and image scores that these scores were made with; and what was made with the
        own subset cross-fitted can be excluded, but not included.
        """
        rows = settings.subsets * settings.repeats
        scores, spread = aggregated(self.matrix[:rows], self.own[:rows], settings)
        labels = np.array([self.images.labels.get(name, UNKNOWN) for name in self.images.ids])
        least = int(getattr(self.detector, "min_images", 1))
        groups = group_numbers(self.images).numpy()
        choice = chosen(scores, labels == NORMAL, labels == ANOMALOUS, settings, least, groups)
        return Purification(
            self.images.ids,
            scores,
            spread,
            choice.kept,
            choice.limit,
            choice.rule,
            choice.notes,
            {**asdict(settings), "seed": self.seed, "detector": name_of(self.detector)},
            skipped=self.images.skipped,
            partial=self.partial,
            images=self.images,
        )


def score_by_sub_models(
    images: Any,
    detector: Any,
    settings: PurifySettings,
    *,
    seed: int = 0,
    sub_model: Any = None,
    resume: Path | None = None,
) -> SubModelScores:
    """Stage 1 of `purify`, which see."""
    if seed < 0:
        raise RequestError(f"The seed must be 0 or more; got {seed}.")
    for method in ("fit", "score"):
        if not callable(getattr(detector, method, None)):
            raise RequestError(f"A detector needs fit(images) and score(images); {name_of(detector)} has no {method}.")
    if sub_model is None:
        purifier = detector_class(settings.by)() if settings.by else detector
        sub_model = purifier.budget() if isinstance(purifier, Detector) else purifier
    images = ImageSet.of(images)
    if isinstance(sub_model, Detector):
        images = sub_model.prepare(images)  # once, before sub-models look for them side by side
    images = images.settled()
    plan = planned(images, sub_model, settings, seed)
    kept = KeptScores.at(resume, images, sub_model, settings, seed) if resume else None
    matrix = score_all(images, plan, settings, kept)
    own = np.array([[name in each.subset for name in images.ids] for each in plan])
    return SubModelScores(images, matrix, own, detector, seed, kept)
