"""Fitting after LLBNAD's purification, with what it did to the training set on record."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.benchmark.jobs import Task, settings_of
from blemish.benchmark.metrics import image_metrics, purification_metrics
from blemish.detectors import Detector, detector_class
from blemish.detectors.settings import check_names
from blemish.images import ImageSet
from blemish.jobs.purifying import fit_on_kept
from blemish.purification import KEPT_SCORES, Purification, PurifySettings
from blemish.purification import purify as purify_images
from blemish.scores import Scores

RANDOM, FULL = "random", "full"


def fit_purified(task: Task, detector: Detector, training: ImageSet) -> tuple[Scores, dict[str, float]]:
    """Fit `detector` on what purification keeps; returns the scores of the whole folder and what was kept of it.

    `extra` of the cell may hold `sub_model`: "full" for the detector itself instead of its short form, settings to
    change in that, or a `detector` of its own; and `keep`: "random" for as many images drawn by lot.
    """
    cell = task.cell
    check_names(PurifySettings.names(), cell.purify or {})
    purification = purify_images(
        training,
        detector,
        PurifySettings(**(cell.purify or {})),
        seed=cell.seed,
        sub_model=sub_model_of(task, detector),
        # Beside the runs of this bench, not in the cache: another bench pays for its own, or its cost would lie.
        resume=task.place.parent / KEPT_SCORES,
    )
    _, manifest = task.images()
    truth = manifest.training_truth(purification.ids)
    if cell.extra.get("keep") == RANDOM:
        purification = replace(purification, kept=_by_lot(purification.kept, cell.seed))
    scores, _ = fit_on_kept(detector, training, None, purification)
    return scores, _measures(purification, truth)


def sub_model_of(task: Task, detector: Detector) -> Detector | None:
    """What the cell wants stage 1 to be made of; None leaves it to the purification."""
    asked = task.cell.extra.get("sub_model")
    if asked is None:
        return None
    if asked == FULL:
        return detector
    settings: Mapping[str, Any] = {name: value for name, value in asked.items() if name != "detector"}
    if "detector" in asked:
        kind = detector_class(asked["detector"])
        return kind(**{**settings_of(replace(task.cell, settings={}), kind), **settings})
    return detector.budget().clone(**settings)


def _by_lot(kept: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).permutation(kept)


def _measures(purification: Purification, truth: NDArray[np.bool_]) -> dict[str, float]:
    """What is gone, how stage 1 ranks, and whether sub-models disagree more on anomalies: the learning bias."""
    found = purification_metrics(truth, purification.kept, purification.scores)
    if "training_auroc" in found:
        found["purify_auroc"] = found.pop("training_auroc")
    spread = purification.spread
    for name, part in (("spread_normal", spread[~truth]), ("spread_anomaly", spread[truth])):
        if len(part):
            found[name] = float(part.mean())
    if truth.any() and not truth.all():
        found["spread_auroc"] = image_metrics(truth, spread)["image_auroc"]
    return found
