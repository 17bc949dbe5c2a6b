"""Sub-models that each learn from one subset and score every image (spec/llbnad.md, stage 1)."""

import copy
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.detectors import Detector
from blemish.detectors.parts.sampling import split_in_folds
from blemish.features.store import PackedFeatures
from blemish.images import ANOMALOUS, ImageSet
from blemish.machine.errors import JobError, NotFittedError, RequestError
from blemish.machine.ray_tasks import connected, in_tasks
from blemish.machine.runtime import runtime, side_by_side, use_runtime
from blemish.purification.kept_scores import KeptScores
from blemish.purification.purify_settings import PurifySettings
from blemish.scores import Scores

STAGE = "sub-models"
SIDE, SIGMA = 224, 4.0  # pixels: of a square of the map's area, and of the Gaussian (spec/llbnad.md, stage 1)
SHARE = 0.01


@dataclass(frozen=True)
class SubModel:
    """One sub-model to be.

    Attributes
    ----------
    number, of : its place among all, from 1.
    subset : the ids of its subset; `learns` are the ones it learns from, known anomalies left out.
    detector : unfitted, anything with `fit` and `score`.
    """

    number: int
    of: int
    subset: frozenset[str]
    learns: tuple[str, ...]
    detector: Any

    def __str__(self) -> str:
        return f"sub-model {self.number} of {self.of} ({name_of(self.detector)}, {len(self.learns)} images)"


def planned(images: ImageSet, sub_model: Any, settings: PurifySettings, seed: int) -> list[SubModel]:
    """The sub-models of all repeats; groups are whole in their subsets. Raises `RequestError` for small subsets."""
    groups = len({images.groups[name] for name in images.ids})
    if settings.subsets > groups:
        raise RequestError(f"{settings.subsets} subsets cannot be made of {groups} different images; take fewer.")
    plan = []
    for repeat in range(settings.repeats):
        split = split_in_folds(images, settings.subsets, seed + repeat)
        for part in range(settings.subsets):
            number = repeat * settings.subsets + part
            subset = frozenset(name for name in images.ids if split[name] == part)
            learns = tuple(n for n in images.ids if n in subset and images.labels.get(n) != ANOMALOUS)
            of = settings.repeats * settings.subsets
            plan.append(SubModel(number + 1, of, subset, learns, _fresh(sub_model, seed + number)))
    _check_enough(images, plan, settings)
    _check_spread(sub_model, settings)
    return plan


def score_all(
    images: ImageSet, plan: Sequence[SubModel], settings: PurifySettings, kept: KeptScores | None
) -> NDArray[np.float64]:
    """The scores of all images by all sub-models, (M, N) in the order of `plan` and `images.ids`.

    Sub-models whose scores were kept are not made again. One that fails does not stop the others; in the end,
    `JobError` names all that did.
    """
    done = 0

    def one(sub_model: SubModel) -> NDArray[np.float64] | Exception:
        nonlocal done
        try:
            scores = _scored(images, sub_model, settings, kept)
        except Exception as error:  # a detector may raise anything
            return error
        done += 1
        progress(STAGE, done, len(plan))
        return scores

    progress = runtime().progress
    stopped = threading.Event()

    def heartbeat(stage: str, done: int, total: int) -> None:  # noqa: ARG001 - the signature is Progress's
        """In place of the stages of several at once, which would mean nothing; ends them after Ctrl-C."""
        if stopped.is_set():
            raise InterruptedError

    progress(STAGE, 0, len(plan))
    if runtime().ray:
        results = _in_tasks(images, plan, settings, kept)
    elif all(getattr(each.detector, "runs_side_by_side", False) for each in plan):
        with use_runtime(progress=heartbeat):
            results = side_by_side(one, plan, stopped.set)
    else:
        results = [one(each) for each in plan]
    failed = [(each, why) for each, why in zip(plan, results, strict=True) if isinstance(why, Exception)]
    if failed:
        raise _failure(failed, plan, kept)
    return np.stack([each for each in results if not isinstance(each, Exception)])


def name_of(detector: Any) -> str:
    """What to call a detector that may be none of ours."""
    return str(getattr(detector, "name", type(detector).__name__))


def _fresh(sub_model: Any, seed: int) -> Any:
    """An unfitted copy; with its own seed where the detector is ours."""
    if isinstance(sub_model, Detector):
        return sub_model.clone(random_state=seed)
    return copy.deepcopy(sub_model)


def _scored(
    images: ImageSet, sub_model: SubModel, settings: PurifySettings, kept: KeptScores | None
) -> NDArray[np.float64]:
    if kept is not None and (found := kept.read(sub_model, images.ids)) is not None:
        return found
    scores = _learned(images, sub_model, settings)
    if kept is not None:
        kept.write(sub_model, scores)
    return scores


def _learned(images: ImageSet, sub_model: SubModel, settings: PurifySettings) -> NDArray[np.float64]:
    detector = copy.deepcopy(sub_model.detector)  # what it learns is dropped once its scores are there
    detector.fit(images.subset(sub_model.learns))
    learned = set(sub_model.learns)
    scores = as_vector(detector.score(images), images.ids, settings)
    if settings.own_subset == "cross_fit":
        rows = [row for row, name in enumerate(images.ids) if name in learned]
        scores[rows] = _training_scores(detector, sub_model.learns, settings)
    return scores


def _in_tasks(
    images: ImageSet, plan: Sequence[SubModel], settings: PurifySettings, kept: KeptScores | None
) -> list[NDArray[np.float64] | Exception]:
    """The scores of each sub-model, or why there are none, from the cluster of the runtime; kept ones are not made."""
    found = {each.number: kept.read(each, images.ids) if kept is not None else None for each in plan}
    todo = [each for each in plan if found[each.number] is None]
    results: dict[int, NDArray[np.float64] | Exception] = {n: each for n, each in found.items() if each is not None}
    ray = connected(runtime().ray or "")
    detector = plan[0].detector
    features = None
    if isinstance(detector, Detector) and (specs := [spec.resolved(images) for spec in detector.feature_specs()]):
        features = PackedFeatures.of(images, specs, lambda part: [ray.put(part)])  # a list: it stays a reference
    shared = (images.packed(images.ids) if features is None else images, settings, features)
    for each, result in zip(todo, in_tasks(_task, shared, todo), strict=True):
        results[each.number] = result
        if kept is not None and not isinstance(result, Exception):
            kept.write(each, result)
        runtime().progress(STAGE, len(results), len(plan))
    return [results[each.number] for each in plan]


def _task(
    shared: tuple[ImageSet, PurifySettings, PackedFeatures | None], sub_model: SubModel
) -> NDArray[np.float64] | Exception:
    """On a worker: the scores of one sub-model, or why there are none."""
    images, settings, features = shared
    if features is not None:
        ray = connected("")
        features.unpack(images, lambda part: ray.get(part[0]))
    try:
        return _learned(images, sub_model, settings)
    except Exception as error:  # a detector may raise anything
        return error


def _training_scores(detector: Any, learns: Sequence[str], settings: PurifySettings) -> NDArray[np.float64] | float:
    """The cross-fitted scores of what it learned from, in that order; NaN if it has none."""
    if not isinstance(detector, Detector):
        return np.nan
    try:
        return as_vector(detector.training_scores_, learns, settings)
    except NotFittedError:
        return np.nan


def as_vector(scores: Any, ids: Sequence[str], settings: PurifySettings) -> NDArray[np.float64]:
    """What a detector's `score` returned as numbers in the order of `ids`, (N,).

    It may be `Scores`, a mapping from id to number, or numbers in the order of the ids. Raises `JobError`.
    """
    if isinstance(scores, Scores):
        if missing := set(ids).difference(scores.ids):
            name = min(missing)
            raise JobError(f"{len(missing)} images got no score, such as '{name}': {scores.skipped.get(name, '')}")
        by_id = map_scores(scores) if settings.image_score == "map" else scores.image
        vector = np.asarray(by_id, dtype=np.float64)[[scores.index(name) for name in ids]]
    elif settings.image_score == "map":
        raise JobError("the image score 'map' needs a detector that returns Scores; take 'detector'")
    elif isinstance(scores, Mapping):
        if missing := set(ids).difference(scores):
            raise JobError(f"{len(missing)} images got no score, such as '{min(missing)}'")
        vector = np.array([scores[name] for name in ids], dtype=np.float64)
    else:
        vector = np.asarray(scores, dtype=np.float64)
        if vector.shape != (len(ids),):
            raise JobError(f"score returned an array of shape {vector.shape} for {len(ids)} images")
    if not np.isfinite(vector).all():
        name = ids[int(np.flatnonzero(~np.isfinite(vector))[0])]
        raise JobError(f"the score of '{name}' is not a finite number")
    return vector


def _check_enough(images: ImageSet, plan: Sequence[SubModel], settings: PurifySettings) -> None:
    detector = plan[0].detector
    least = max(1, int(getattr(detector, "min_images", 1)))
    fewest = min(len({images.groups[name] for name in each.learns}) for each in plan)
    if fewest < least:
        learned = {images.groups[name] for name in images.ids if images.labels.get(name) != ANOMALOUS}
        total = len(learned)
        fix = f"take {total // least} subsets, or give" if 2 <= total // least < settings.subsets else "give"
        labelled = " that no label calls bad" if any(label == ANOMALOUS for label in images.labels.values()) else ""
        raise RequestError(
            f"{settings.subsets} subsets of {total} different images{labelled} are too small: one holds {fewest}, and "
            f"{name_of(detector)} needs {least}; {fix} at least {least * settings.subsets} images."
        )


def _check_spread(sub_model: Any, settings: PurifySettings) -> None:
    if settings.aggregate != "max_variance" or settings.own_subset == "include":
        return
    cross_fits = isinstance(sub_model, Detector) and sub_model.cross_fits
    if settings.own_subset == "exclude" or not cross_fits:
        count = settings.repeats * (settings.subsets - 1)
        if count < 2:
            raise RequestError(
                f"'aggregate' = max_variance needs two scores of an image; {settings.subsets} subsets give {count}, "
                "as its own is left out; take 3 subsets or more."
            )


def _failure(
    failed: Sequence[tuple[SubModel, Exception]], plan: Sequence[SubModel], kept: KeptScores | None
) -> JobError:
    reasons = "; ".join(f"{each}: {str(why).rstrip('.') or type(why).__name__}" for each, why in failed[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    rest = len(plan) - len(failed)
    others = "The scores of the other one are" if rest == 1 else f"The scores of the other {rest} are"
    again = f" {others} kept: the same job takes up from there." if kept and rest else ""
    error = JobError(f"{len(failed)} of {len(plan)} sub-models failed: {reasons}{more}.{again}")
    error.__cause__ = failed[0][1]
    return error


def map_scores(scores: Scores) -> NDArray[np.float64]:
    """(N,) from the maps of `scores`, each brought to the area of 224 x 224 pixels with its aspect kept."""
    return np.array(side_by_side(lambda name: _of_one(scores, name), scores.ids))


def _of_one(scores: Scores, name: str) -> float:
    from scipy.ndimage import gaussian_filter

    width, height = scores.sizes[scores.index(name)]
    root = math.sqrt(width / height)
    size = (max(1, round(SIDE * root)), max(1, round(SIDE / root)))
    smooth = gaussian_filter(scores.map(name, size), SIGMA).ravel()
    most = max(1, round(SHARE * len(smooth)))
    return float(np.partition(smooth, -most)[-most:].mean())
