"""core-ablation: each choice of `nearest_images` changed alone, with everything else at its default."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

from torch import Tensor

from blemish.benchmark.cells import Cell
from blemish.benchmark.contamination import NO_OVERLAP
from blemish.benchmark.datasets import Category
from blemish.benchmark.experiment_names import ABOUT
from blemish.benchmark.experiments.experiment import Experiment, Planned, Size, defective, paired_seeds
from blemish.benchmark.experiments.fun_ad import per_cent
from blemish.benchmark.fit_job import fit
from blemish.benchmark.jobs import Task
from blemish.detectors.nearest_images.scorer import NearestPatches

NAME = "core-ablation"
RATIOS = (0.1, 0.4)  # what k is worth depends on how many images share a defect
ALL = 2000  # as many as are ever compared with: retrieval by layout then leaves nothing out
CHANGED = "changed"  # in a cell's `extra`: a name of `CHANGES`


def _plain_distances(compared: NearestPatches, spacing: Tensor, usual: Tensor) -> Tensor:  # noqa: ARG001
    """In place of `relative_distances`: the distance in units of what is usual in the folder, alike at all places."""
    plain: Tensor = compared.distances.mean(2) / usual
    return plain


# What is no setting of the detector: the constants and functions of its modules, by module, that a name stands for.
CHANGES: Mapping[str, Mapping[str, Any]] = {
    "d_k alone": {"nearest_images.scorer.COUNTED": 1, "nearest_images.detector.COUNTED": 1},
    "d_k to d_(k+7)": {"nearest_images.scorer.COUNTED": 8, "nearest_images.detector.COUNTED": 8},
    "distance alone": {
        "nearest_images.scorer.relative_distances": _plain_distances,
        "nearest_images.detector.relative_distances": _plain_distances,
    },
    "mean of the map": {"nearest_images.scorer.LAYOUT": 1},
    "2 x 2 cells": {"nearest_images.scorer.LAYOUT": 2},
    "8 x 8 cells": {"nearest_images.scorer.LAYOUT": 8},
    "16 directions": {"parts.embedding.DIRECTIONS": 16},
    "all directions": {"parts.embedding.DIRECTIONS": 10_000},
    "roots alone": {"parts.embedding.POWER": 0.0},
    "power .2": {"parts.embedding.POWER": 0.2},
    "power .5": {"parts.embedding.POWER": 0.5},
    "75 images": {"nearest_images.detector.MOST_IMAGES": 75},
    "40 images": {"nearest_images.detector.MOST_IMAGES": 40},
}
DETECTORS = "blemish.detectors."


def _views(second: Mapping[str, Any] | None = None, **changed: Any) -> Mapping[str, Any]:
    """The default view with some of its attributes changed, and perhaps a second one, as `config.json` holds them."""
    views = [{"pixels": 256, "stages": ["16", "32"], **each} for each in (changed, second) if each is not None]
    return {"settings": {"views": views}}


def _without(*names: str) -> Mapping[str, Mapping[str, Any]]:
    return {name: {"job": NAME, "extra": {CHANGED: name}} for name in names}


# By what is changed: what is its cells' own. The default has nothing, so that it is one run in all of them.
SWEEPS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "k": {"label-free": {}, **{f"k {k}": {"settings": {"k": k}} for k in (1, 2, 3, 4, 6, 8)}},
    "distances that are averaged": {"d_k to d_(k+3)": {}, **_without("d_k alone", "d_k to d_(k+7)")},
    "spacing": {"relative distance": {}, **_without("distance alone")},
    "images compared with": {
        "the nearest 24": {},
        **{f"the nearest {count}": {"settings": {"retrieved": count}} for count in (8, 12, 40)},
        "all": {"settings": {"retrieved": ALL}},
    },
    "most images there are to compare with": {"2,000": {}, **_without("75 images", "40 images")},
    "layout descriptor": {"4 x 4 cells": {}, **_without("mean of the map", "2 x 2 cells", "8 x 8 cells")},
    "search for the nearest patch": {"64 directions": {}, **_without("16 directions", "all directions")},
    "embedding": {
        "power .35": {},
        "standardised": _views(rooted=False),
        **_without("roots alone", "power .2", "power .5"),
    },
    "stages": {"1/16 and 1/32": {}, "1/16": _views(stages=["16"]), "1/8 and 1/16": _views(stages=["8", "16"])},
    "patches": {"as they are": {}, "mean of 3 x 3": _views(pool=3)},
    "pixels": {"256": {}, **{f"{pixels}": _views(pixels=pixels) for pixels in (192, 320, 384)}},
    "views": {
        "one": {},
        "384 pixels counts, too": _views(second={"pixels": 384, "draws": False}),
        "1/8 and 1/16 for the map": _views(draws=False, second={"stages": ["8", "16"], "ranks": False}),
    },
    "image score": {
        "top 5 %": {},
        "maximum": {"settings": {"image_score": "max"}},
        "extents": {"settings": {"image_score": "extents"}},
    },
    "smoothing": {
        "0.3 patches": {},
        "none": {"settings": {"smoothing": 0.0}},
        "1 patch": {"settings": {"smoothing": 1.0}},
    },
}


@contextmanager
def changed(name: str) -> Iterator[None]:
    """The modules of the detector with one of `CHANGES` in force, for the time of a block."""
    with ExitStack() as stack:
        for target, value in CHANGES[name].items():
            module, _, attribute = target.rpartition(".")
            stack.enter_context(patch.object(import_module(DETECTORS + module), attribute, value))
        yield


def fit_changed(task: Task) -> list[dict[str, Any]]:
    """As the job "fit", with the change that `extra` of the cell names."""
    with changed(task.cell.extra[CHANGED]):
        return fit(task)


def _plan(categories: Sequence[Category], size: Size) -> list[Planned]:
    cells = [
        (variant, f"{name}, {per_cent(ratio)}", {"ratio": ratio, **sweep[variant]})
        for name, sweep in SWEEPS.items()
        for ratio in size.swept(RATIOS)
        for variant in size.some(list(sweep))
    ]
    common = {"detector": "nearest_images", "preset": size.preset, "limit": size.limit}
    return [
        Planned(Cell(category=str(category), seed=seed, **{**common, **own}), variant, group)
        for seed in paired_seeds(size)
        for category in defective(categories, None if size.name == "standard" else size.ablated)
        for variant, group, own in cells
    ]


EXPERIMENTS = (
    Experiment(
        NAME,
        ABOUT[NAME],
        _plan,
        measures={
            "folder's ranking": "training_auroc",
            "image AUROC": "image_auroc",
            "image AP": "image_ap",
            "F1": "f1",
            "pixel AUROC": "pixel_auroc",
            "pixel AP": "pixel_ap",
            "AUPRO": "aupro",
            "fit s": "fit_seconds",
        },
        paired=False,
        group="changed alone",
        protocol=NO_OVERLAP,
        own_sizes=True,
        differences={
            "ranking": "training_auroc",
            "new images": "image_auroc",
            "pixels": "pixel_auroc",
            "AUPRO": "aupro",
        },
    ),
)
