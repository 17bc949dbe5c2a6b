"""Jobs on features, without a detector: pair distances, mutual pairs, closed forms (F1 to F3 of `catalogue`)."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.benchmark.datasets import Category
from blemish.benchmark.jobs import Task
from blemish.benchmark.statistics import KINDS, Gaussians, Histograms, distance_histograms, matching_ratios
from blemish.detectors.parts.views import DEEP_VIEWS, specs_of
from blemish.features import features_of
from blemish.features.backbones import DEFAULT_BACKBONE
from blemish.machine.errors import RequestError

HISTOGRAM = "histogram.csv"
IMAGE, PATCH, SYNTHETIC = "image", "patch", "synthetic"
PATCHES = 3000  # of each class at most: nine million distances
COUNTED = 50  # pairs that a simulated share must rest on
INSIDE = 0.5  # share of a patch's cell that the mask must cover
VIEW = DEEP_VIEWS[0]


def distances(task: Task) -> list[dict[str, Any]]:
    """Mean distance of each kind of pair; the histograms are written to `histogram.csv`."""
    found = distance_histograms(*_features(task))
    write_histogram(found, task.folder / HISTOGRAM)
    return [{kind: found.means[kind] for kind in KINDS}]


def matching(task: Task) -> list[dict[str, Any]]:
    """Matching ratios of mutually nearest pairs by kind."""
    return [dict(matching_ratios(*_features(task)))]


def closed_forms(task: Task) -> list[dict[str, Any]]:
    """How much likelier normal pairs are to be close than others: computed, in the limit, and counted."""
    extra = task.cell.extra
    case = Gaussians(extra["dimensions"], 1.0, extra["spread_a"], extra["gap"])
    distance = extra["distance"] * np.sqrt(2 * case.dimensions)  # in units of a typical normal pair's distance
    counted = case.simulated(distance, extra["pairs"], task.cell.seed)
    enough = [kind for kind in KINDS[1:] if counted[kind] * extra["pairs"] >= COUNTED]
    ratios = {f"simulated_{kind}": counted["normal"] / counted[kind] for kind in enough}
    limits = {f"limit_{kind}": value for kind, value in case.limits().items()}
    return [{**case.ratios(distance), **limits, **ratios}]


def write_histogram(found: Histograms, path: Path) -> None:
    """A row a bin: its edges and the count of each kind."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("low", "high", *found.counts))
        counts = zip(*found.counts.values(), strict=True)
        for low, high, each in zip(found.edges[:-1], found.edges[1:], counts, strict=True):
            table.writerow((f"{low:.6g}", f"{high:.6g}", *(int(count) for count in each)))


def _features(task: Task) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    extra = task.cell.extra
    if extra["level"] == SYNTHETIC:
        case = Gaussians(16, 1.0, extra["spread_a"], extra["gap"])
        return case.sample(extra["normals"], extra["anomalies"], task.cell.seed)
    category, _ = task.images()
    normal = _vectors(category, [each.path for each in category.train], extra["level"], anomalous=False)
    bad = _vectors(category, [each.path for each in category.anomalies], extra["level"], anomalous=True)
    rng = np.random.default_rng(task.cell.seed)
    normal, bad = (part[rng.permutation(len(part))[:PATCHES]] for part in (normal, bad))
    if not len(bad):
        raise RequestError(f"No patch of {category} lies within a mask; the patch level needs masks.")
    vectors = np.concatenate([normal, bad])
    spread = vectors.std(0)
    vectors = (vectors - vectors.mean(0)) / np.where(spread > 0, spread, 1.0)
    return vectors, np.arange(len(vectors)) >= len(normal)


def _vectors(category: Category, paths: list[str], level: str, *, anomalous: bool) -> NDArray[np.float64]:
    """Global vectors of images, or patches: of anomalies those that lie within the mask."""
    images = category.images(paths)
    (spec,) = specs_of((VIEW,), DEFAULT_BACKBONE)
    # the working size is that of the training images for both classes
    features = features_of(images, spec.resolved(category.images([each.path for each in category.train[:50]])))
    found = []
    for batch in features.batches(stage="features"):
        if level == IMAGE:
            found.append(batch.globals.double().numpy())
            continue
        patches = VIEW.joined(batch.stages).double().numpy()
        for name, of_image in zip(batch.ids, patches, strict=True):
            inside = _cells(category, name, of_image.shape[:2]) if anomalous else np.ones(of_image.shape[:2], bool)
            found.append(of_image[inside])
    return np.concatenate(found)


def _cells(category: Category, name: str, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """(h, w) the patches of which the mask covers at least half; none where there is no mask."""
    fine = 8
    mask = category.mask(name, (grid[1] * fine, grid[0] * fine))
    if mask is None:
        return np.zeros(grid, dtype=bool)
    covered: NDArray[np.bool_] = mask.reshape(grid[0], fine, grid[1], fine).mean((1, 3)) >= INSIDE
    return covered
