"""LLBNAD-1: detectors plain and purified over contamination. LLBNAD-2: what in the purification matters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from blemish.benchmark.contamination import OVERLAP
from blemish.benchmark.datasets import Category
from blemish.benchmark.experiment_names import ABOUT
from blemish.benchmark.experiments.experiment import Experiment, Planned, Size, defective, on_each
from blemish.benchmark.experiments.fun_ad import per_cent
from blemish.benchmark.published import FUIAD, MEDS

DETECTORS = ("nearest_images", "patchcore", "padim", "softpatch", "simplenet", "dinomaly")
RATIOS = (0.0, 0.1, 0.2, 0.4)
SHIPPED = "realiad_fuiad_"  # datasets whose training images come contaminated
SWEPT, SWEPT_RATIO = "patchcore", 0.2
PUBLISHED: Mapping[str, Any] = {"subsets": 3}  # K of LLBNAD; the product takes 2 (benchmarks/purification.md)

# By what is swept: the settings of the purification, and what else.
Change = tuple[Mapping[str, Any], Mapping[str, Any]]
SWEEPS: Mapping[str, Mapping[str, Change]] = {
    "default": {"default": ({}, {})},
    "subsets K": {
        **{f"K {count}": ({"subsets": count}, {}) for count in (2, 5, 8)},
        "no partition": ({"subsets": 1, "own_subset": "include"}, {}),
    },
    "keep": {
        **{f"keep {per_cent(share)}": ({"keep": share}, {}) for share in (0.2, 0.4, 0.6, 0.8, 0.9)},
        "random keep": ({"keep": 0.8}, {"keep": "random"}),
    },
    "aggregation": {
        "max": ({"aggregate": "max"}, {}),
        "max x variance": ({"aggregate": "max_variance"}, {}),
        "raw scores": ({"scale": "raw"}, {}),
        "score of the map": ({"image_score": "map"}, {}),
    },
    "own subset": {
        "own subset included": ({"own_subset": "include"}, {}),
        "own subset excluded": ({"own_subset": "exclude"}, {}),
    },
    "stage 1": {
        "nearest of 8 images": ({}, {"sub_model": {"detector": "nearest_images", "retrieved": 8}}),
        "nearest of 20 images": ({}, {"sub_model": {"detector": "nearest_images", "retrieved": 20}}),
        "network, 20 steps": ({}, {"sub_model": {"detector": "funad", "distance_weight": 0.0, "steps": 20}}),
        "network, 100 steps": ({}, {"sub_model": {"detector": "funad", "distance_weight": 0.0, "steps": 100}}),
        "network, 300 steps": ({}, {"sub_model": {"detector": "funad", "distance_weight": 0.0, "steps": 300}}),
        "detector in full": ({}, {"sub_model": "full"}),
    },
}


def _plain_and_purified(categories: Sequence[Category], size: Size) -> list[Planned]:
    entries: list[Planned] = []
    for category in defective(categories, size.ablated):
        shipped = category.dataset.startswith(SHIPPED)
        for ratio in [0.0] if shipped else size.swept(RATIOS, 0.1):
            level = per_cent(float(category.dataset.removeprefix(SHIPPED)) if shipped else ratio)
            cells = [
                (variant, level, {"detector": name, "purify": purify})
                for name in DETECTORS[: size.variants]
                for purify, variant in ((None, name), (PUBLISHED, f"{name}, purified"))
            ]
            found = on_each([category], size, cells, ratio=ratio, limit=size.sweep_limit)
            # the levels of FUIAD are a dataset each, and one row
            entries += [replace(each, row=f"{category.name} (FUIAD)") for each in found] if shipped else found
    return entries


def _swept(categories: Sequence[Category], size: Size) -> list[Planned]:
    cells = [
        (variant, name, {"purify": {**PUBLISHED, **sweep[variant][0]}, "extra": sweep[variant][1]})
        for name, sweep in SWEEPS.items()
        for variant in size.some(list(sweep))
    ]
    found: list[Planned] = []
    for category in defective(categories, size.ablated):
        ratio = 0.0 if category.dataset.startswith(SHIPPED) else SWEPT_RATIO
        found += on_each([category], size, cells, detector=SWEPT, ratio=ratio, limit=size.sweep_limit)
    return found


EXPERIMENTS = (
    Experiment(
        "LLBNAD-1",
        ABOUT["LLBNAD-1"],
        _plain_and_purified,
        group="ratio",
        published={"mvtec": MEDS, "realiad_fuiad": FUIAD},
    ),
    Experiment(
        "LLBNAD-2",
        ABOUT["LLBNAD-2"],
        _swept,
        measures={
            "contamination before": "contamination_before",
            "after": "contamination_after",
            "normals lost": "normals_lost",
            "anomalies removed": "anomalies_removed",
            "AUROC of stage 1": "purify_auroc",
            "spread, normal": "spread_normal",
            "spread, anomalous": "spread_anomaly",
            "AUROC of the spread": "spread_auroc",
            "image AUROC": "image_auroc",
            "pixel AUROC": "pixel_auroc",
        },
        paired=False,
        group="swept",
        protocol=OVERLAP,
    ),
)
