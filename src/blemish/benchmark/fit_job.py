"""The job most experiments are made of: fit a detector on a contaminated set, score the test set, measure."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish import calibration
from blemish.benchmark.cells import MODES_KEPT
from blemish.benchmark.contamination import MODES, NO_OVERLAP, OVERLAP
from blemish.benchmark.datasets import Category
from blemish.benchmark.datasets.category import GOOD
from blemish.benchmark.jobs import Task, settings_of, timed
from blemish.benchmark.metrics import (
    PixelCounts,
    bin_edges,
    decision_metrics,
    image_metrics,
    pixel_counts,
    purification_metrics,
)
from blemish.detectors import Detector, detector_class, restored_detector
from blemish.detectors.settings import check_names
from blemish.images import ImageSet
from blemish.jobs.purifying import fit_on_kept
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from blemish.purification import KEPT_SCORES, Purification, PurifySettings
from blemish.purification import purify as purify_images
from blemish.scores import Scores

LAST, LABEL_FREE, ORACLE = "last", "label-free", "oracle"
CHOICES = (LABEL_FREE, LAST, ORACLE)
SNAPSHOT = "snapshot "
CHECKPOINTS = "checkpoints"  # of a training that takes hours: the same command takes it up where it was broken off
RANDOM, FULL = "random", "full"
WARM_UP, TIMED = 8, 64  # images


def fit(task: Task) -> list[dict[str, Any]]:
    """A row for each protocol, and for iterative detectors for each choice of when to stop.

    The detector sees images without labels. `score` is that of the detector itself, as papers do it: under overlap, an
    injected image may meet its own patches in a bank. The threshold is read from cross-fitted training scores.
    """
    category, manifest = task.images()
    detector, training, costs = ready(task)
    checkpoints = task.place / CHECKPOINTS if task.cell.preset == "paper" and detector.keeps_checkpoints else None
    with timed(costs, "fit_seconds"), use_runtime(checkpoints=checkpoints):
        fitted_scores, purified = learned(task, detector, training)
    if checkpoints is not None:
        shutil.rmtree(checkpoints, ignore_errors=True)
    test = manifest.test_set(category, MODES[0])  # with overlap: it holds the other protocol's images, too
    rows = []
    for choice, chosen in choices(detector, every=bool(task.cell.extra.get("choices"))):
        own = fitted_scores if chosen is detector else chosen.training_scores_
        stricter = None if purified else chosen.stricter_scores(own.ids)
        decided = ranking(own, manifest.training_truth, stricter)
        scores, seconds = scored(chosen, test)
        about = {**costs, **purified, **decided, **seconds, "choice": choice}
        rows += [{**about, **row} for row in measured(task, scores, decided["threshold"])]
    return with_oracle(rows)


def detector_of(task: Task) -> Detector:
    """The cell's detector, not fitted. Raises `RequestError` for an unknown name or setting."""
    cell = task.cell
    kind = detector_class(cell.detector)
    check_names(set(kind().settings()), cell.settings)
    return restored_detector(cell.detector, {"random_state": cell.seed, **settings_of(cell, kind)})


def ready(task: Task) -> tuple[Detector, ImageSet, dict[str, Any]]:
    """The cell's detector, its training images with their features made, and the costs so far."""
    category, manifest = task.images()
    detector, training = detector_of(task), manifest.training_set(category)
    costs: dict[str, Any] = {"train_images": len(training)}
    with timed(costs, "feature_seconds"):
        detector.prepare(training)
    return detector, training, costs


def fitted(task: Task) -> tuple[Detector, dict[str, Any]]:
    """The cell's detector, fitted, and what that cost."""
    detector, training, costs = ready(task)
    with timed(costs, "fit_seconds"):
        detector.fit(training)
    return detector, costs


def learned(task: Task, detector: Detector, training: ImageSet) -> tuple[Scores, dict[str, float]]:
    """Fit the detector, after a purification if the cell has one; scores of the folder, and what was kept of it."""
    if task.cell.purify is None:
        return detector.fit(training).training_scores_, {}
    return fit_purified(task, detector, training)


def ranking(scores: Scores, truth_of: Any, stricter: NDArray[np.float64] | None) -> dict[str, float]:
    """The label-free decision on the scores of the folder, and how well they rank it."""
    decision = calibration.decide(scores.image, stricter=stricter)
    truth = truth_of(scores.ids)
    found = {"threshold": decision.threshold, "estimate": decision.contamination}
    if truth.any():
        found["training_auroc"] = image_metrics(truth, scores.image)["image_auroc"]
    return found


def scored(detector: Detector, test: ImageSet) -> tuple[Scores, dict[str, float]]:
    """Scores of the test set and what they took, features apart. Raises `RequestError` for an unreadable image."""
    seconds: dict[str, float] = {}
    detector.prepare(test)  # before the clock: scoring is timed without the backbone
    with timed(seconds, "score_seconds"):
        scores = detector.score(test)
    if scores.skipped:
        name, reason = next(iter(scores.skipped.items()))
        raise RequestError(f"{len(scores.skipped)} test images cannot be read, such as '{name}' ({reason}); fix them.")
    return scores, {**seconds, "images_per_second": len(test) / max(seconds["score_seconds"], 1e-9)}


def measured(task: Task, scores: Scores, threshold: float) -> Iterator[dict[str, Any]]:
    """A row of metrics for each protocol; what one cannot be measured on fails as a separate row."""
    category, manifest = task.images()
    with_pixels = any(sample.mask is not None for sample in category.anomalies)
    timing: dict[str, Any] = {}
    rest = manifest.test_paths(category, NO_OVERLAP) if _can(task, NO_OVERLAP) else ()
    with timed(timing, "metric_seconds"):
        counts = _counts(scores, category, rest) if with_pixels else {}
    for mode in task.cell.extra.get(MODES_KEPT, MODES):
        try:
            part = scores.subset(manifest.test_paths(category, mode))
            truth = category.truth(part.ids)
            row = {**image_metrics(truth, part.image), **decision_metrics(truth, part.image, threshold)}
            if with_pixels:
                row |= sum(counts[mode].values(), PixelCounts.nothing()).metrics()
            kinds = by_defect(category, part, counts.get(mode, {}))
            yield {**row, **timing, "mode": mode, "test_images": len(part), "by_defect": kinds}
        except RequestError as error:
            yield {"mode": mode, "status": "failed", "reason": str(error)}


def _can(task: Task, mode: str) -> bool:
    category, manifest = task.images()
    try:
        manifest.test_paths(category, mode)
    except RequestError:
        return False
    return True


def _counts(scores: Scores, category: Category, rest: Sequence[str]) -> dict[str, dict[str, PixelCounts]]:
    """Pixel counts by protocol and kind of defect; images that both protocols have are looked at once."""
    edges, kept = bin_edges(scores.maps), set(rest)
    counts: dict[str, dict[str, PixelCounts]] = {mode: {} for mode in MODES}
    for defect in dict.fromkeys(category.sample(name).defect for name in scores.ids):
        names = [name for name in scores.ids if category.sample(name).defect == defect]
        without = pixel_counts(scores, category.mask, [name for name in names if name in kept], edges)
        injected = pixel_counts(scores, category.mask, [name for name in names if name not in kept], edges)
        counts[MODES[0]][defect], counts[NO_OVERLAP][defect] = without + injected, without
    return counts


def by_defect(
    category: Category, scores: Scores, counts: Mapping[str, PixelCounts]
) -> dict[str, dict[str, float]] | None:
    """Measures of the images of each kind of defect against all normal ones of `scores`; None for one kind alone."""
    kinds: dict[str, list[str]] = {}
    for name in scores.ids:
        kinds.setdefault(category.sample(name).defect, []).append(name)
    normals = kinds.pop(GOOD)
    if len(kinds) < 2:
        return None
    found = {}
    for defect, names in sorted(kinds.items()):
        part = scores.subset([*normals, *names])
        found[defect] = {**image_metrics(category.truth(part.ids), part.image), "test_images": float(len(names))}
        if defect in counts and counts[defect].defects:
            found[defect] |= (counts[GOOD] + counts[defect]).metrics()
    return found


def choices(detector: Detector, every: bool) -> Iterator[tuple[str, Detector]]:
    """The detectors to measure, by what chose them; the fitted one alone unless `every` is asked for.

    An iterative detector has `at(stop)`: a copy as it would be had training ended at the "last" step, or at one of
    its `snapshots` by number. The fitted one is its label-free choice.
    """
    at = getattr(detector, "at", None)
    if not every or at is None:
        yield "", detector
        return
    yield LABEL_FREE, detector
    yield LAST, at("last")
    for number in range(detector.settings()["snapshots"]):
        yield f"{SNAPSHOT}{number}", at(number)


def with_oracle(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, where of all snapshots only the best of each protocol is kept: it is chosen with the test labels.

    Best is the highest mean of image and pixel AUROC, which is how the paper chose its epoch.
    """
    plain = [row for row in rows if not row["choice"].startswith(SNAPSHOT)]
    for mode in MODES:
        found = [row for row in rows if row["choice"].startswith(SNAPSHOT) and row.get("mode") == mode]
        found = [row for row in found if "image_auroc" in row]
        if found:
            best = max(found, key=lambda row: row["image_auroc"] + row.get("pixel_auroc", 0.0))
            number = int(best["choice"].removeprefix(SNAPSHOT))
            plain.append({**best, "choice": ORACLE, "epoch": float(number)})
    return plain


def fit_purified(task: Task, detector: Detector, training: ImageSet) -> tuple[Scores, dict[str, float]]:
    """Fit `detector` on what purification keeps; returns the scores of the whole folder and what was kept of it.

    `extra` of the cell may hold `sub_model`: "full" for the detector itself instead of its short form, settings to
    change in that, or another `detector`; and `keep`: "random" for as many images drawn by lot.
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
        purification = replace(purification, kept=np.random.default_rng(cell.seed).permutation(purification.kept))
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


def speed(task: Task) -> list[dict[str, Any]]:
    """Seconds of fitting, and images scored per second: reading, features, scores and maps at patch size."""
    category, manifest = task.images()
    detector, costs = fitted(task)
    paths = manifest.test_paths(category, OVERLAP)
    with tempfile.TemporaryDirectory() as empty, use_runtime(cache=Path(empty), keep_features=False):
        detector.score(category.images(paths[:WARM_UP]))
        test = category.images(paths[:TIMED])
        start = time.perf_counter()
        detector.score(test)
        seconds = time.perf_counter() - start
    return [{**costs, "score_seconds": seconds, "images_per_second": len(test) / seconds, "test_images": len(test)}]
