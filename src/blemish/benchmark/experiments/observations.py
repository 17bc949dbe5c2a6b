"""FUN-AD's observations: F1 pair distances, F2 mutual pairs, F3 the closed forms; and S1, speed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blemish.benchmark.cells import Cell
from blemish.benchmark.datasets import Category
from blemish.benchmark.experiment_names import ABOUT
from blemish.benchmark.experiments.experiment import Experiment, Planned, Size, defective, on_each, seeds_of
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
# The paper gives neither means nor deviations of its Gaussians; these are ours, normal is N(0, I) in 16 dimensions.
SYNTHETIC_CASES = {
    "equal means": {"spread_a": 2.0, "gap": 0.0, "normals": 1000, "anomalies": 1000},
    "means apart": {"spread_a": 2.0, "gap": 4.0, "normals": 1000, "anomalies": 1000},
    "10 % anomalies": {"spread_a": 2.0, "gap": 0.0, "normals": 1000, "anomalies": 100},
    "equal spreads": {"spread_a": 1.0, "gap": 4.0, "normals": 1000, "anomalies": 1000},
}
# Gap 0 and ratio of spreads 1 are the two lower bounds of the closed forms.
GAPS, SPREADS, DIMENSIONS, DISTANCE = (0.0, 1.0, 2.0, 4.0, 8.0), (1.0, 1.1, 1.5, 2.0, 3.0), (4, 16), 0.7
PAIRS, FEW_PAIRS = 200_000, 20_000
SPEED_DETECTORS = ("nearest_images", "patchcore", "padim", "softpatch", "simplenet", "inreach", "funad")


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
    counts = {kind: each.astype(int) for kind, each in found.counts.items()}
    table = pd.DataFrame({"low": found.edges[:-1], "high": found.edges[1:], **counts})
    table.to_csv(path, index=False, float_format="%.6g")


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


def _levels(job: str) -> Any:
    """Synthetic Gaussians, then the images and patches of every category."""

    def plan(categories: Sequence[Category], size: Size) -> list[Planned]:
        entries = [
            Planned(Cell(job=job, ratio=0.0, seed=seed, extra={"level": SYNTHETIC, **case}), name, row="Gaussians")
            for name, case in SYNTHETIC_CASES.items()
            for seed in seeds_of(size)
        ]
        return entries + [
            Planned(
                Cell(job=job, category=str(category), ratio=0.0, seed=seed, limit=size.limit, extra={"level": level}),
                name,
            )
            for category in defective(categories, size.categories)
            for level, name in ((IMAGE, "images"), (PATCH, "patches"))
            for seed in seeds_of(size)
        ]

    return plan


def _closed(categories: Sequence[Category], size: Size) -> list[Planned]:  # noqa: ARG001 - as all plans
    pairs = FEW_PAIRS if size.variants else PAIRS
    return [
        Planned(
            Cell(
                job="closed_forms", ratio=0.0,
                extra={"dimensions": many, "spread_a": spread, "gap": gap, "distance": DISTANCE, "pairs": pairs},
            ),
            f"D {many}, sigma_a / sigma_n {spread:g}",
            f"{gap:g}",
            row="Gaussians",
        )
        for many in DIMENSIONS
        for spread in size.some(SPREADS)  # no detector: all of them take seconds
        for gap in size.some(GAPS)
    ]  # fmt: skip


def _speed(categories: Sequence[Category], size: Size) -> list[Planned]:
    cells = [(name, "", {"detector": name}) for name in SPEED_DETECTORS]
    return on_each(defective(categories, 1), replace(size, seeds=1), cells, job="speed", limit=size.sweep_limit)


def _draw_histograms(entries: Sequence[Any], folder: Path) -> list[str]:
    """The distances by kind of pair, a plot a row of the table."""
    from blemish.benchmark.plots import figure

    names = []
    for entry in entries:
        table = folder.parent / "runs" / entry.row["run"] / HISTOGRAM
        if entry.row["seed"] != "0" or not table.is_file():
            continue
        counts = pd.read_csv(table)

        def fill(axes: Any, counts: Any = counts, title: str = f"{entry.planned.label}, {entry.variant}") -> None:
            for kind in KINDS:
                share = counts[kind] / max(counts[kind].sum(), 1)
                axes[0].stairs(
                    share, [*counts["low"], counts["high"].iloc[-1]], label=f"{kind} pairs", fill=True, alpha=0.5
                )
            axes[0].set(xlabel="distance", ylabel="share of the pairs", title=title)
            axes[0].legend()

        plain = f"{entry.planned.label}-{entry.variant}".replace(" ", "_").replace("%", "percent")
        names.append(figure(folder / f"{plain}.png", fill))
    return names


EXPERIMENTS = (
    Experiment(
        "F1",
        ABOUT["F1"],
        _levels("distances"),
        measures={f"{kind} pairs": kind for kind in KINDS},
        paired=False,
        draw=_draw_histograms,
    ),
    Experiment(
        "F2",
        ABOUT["F2"],
        _levels("matching"),
        measures={**{f"{kind} pairs": kind for kind in KINDS}, "of one class": "homogeneous", "by chance": "chance"},
        paired=False,
    ),
    Experiment(
        "F3",
        ABOUT["F3"],
        _closed,
        needs="",
        measures={
            "P_nn / P_aa": "anomaly",
            "P_nn / P_aa counted": "simulated_anomaly",
            "P_nn / P_aa as t -> 0": "limit_anomaly",
            "P_nn / P_na": "mixed",
            "P_nn / P_na counted": "simulated_mixed",
            "P_nn / P_na as t -> 0": "limit_mixed",
        },
        paired=False,
        group="distance of the means",
    ),
    Experiment(
        "S1",
        ABOUT["S1"],
        _speed,
        measures={"images/s": "images_per_second", "fit s": "fit_seconds", "peak MiB": "peak_mib"},
        paired=False,
    ),
)
