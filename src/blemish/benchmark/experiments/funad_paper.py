"""`blemish bench funad-paper`: FUN-AD as published, at its own sizes and schedule, for its tables one by one.

What needs a GPU, DINO's weights and MVTec AD in full; docs/papers/fun-ad.md has the commands and the hours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from blemish.benchmark.cells import Cell
from blemish.benchmark.contamination import NO_OVERLAP
from blemish.benchmark.datasets import Category
from blemish.benchmark.experiment_names import ABOUT
from blemish.benchmark.experiments.experiment import FULL, QUICK, Experiment, Planned, Size, defective, seeds_of
from blemish.benchmark.experiments.fun_ad import (
    LAMBDAS,
    PARTS,
    RATIOS,
    SHARES,
    SYNTHETIC,
    TAU_CONFIDENT,
    TAU_NORMAL,
    per_cent,
)
from blemish.benchmark.published import ABLATIONS, BANK_SHARES, FUNAD_STAR, MASK_LABELS, Published
from blemish.detectors.funad import PAPER, Schedule
from blemish.machine.runtime import runtime

NAME = "funad-paper"
MAIN = "Table 1"
RATIO = 0.1
TOLERANCE = (0.5, 0.3)  # points of image and pixel AUROC; the paper calls .28 and .15 apart equal (Table S4)
SHORT = {"epochs": 2, "snapshots": 2}  # of the quick form
PLAIN, STAR = "funad", "funad*"


def _swept(name: str, setting: str, values: Sequence[float]) -> dict[str, Mapping[str, Any]]:
    """FUN-AD* with each value of a setting; the usual one is no change, so that it is one run in all tables."""
    usual = PAPER.get(setting, getattr(Schedule(), setting))
    return {f"{name} {value:g}": {**SYNTHETIC, **({} if value == usual else {setting: value})} for value in values}


# By table ("S" is the supplement): the settings of each variant, and the ratio where it is not 1:10.
TABLES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    MAIN: {STAR: SYNTHETIC, PLAIN: {}},
    "Table 3": {name: {**SYNTHETIC, **settings} for name, settings in PARTS.items()},
    "Table 4": {
        **_swept("tau_n", "tau_normal", TAU_NORMAL),
        **_swept("tau_c", "tau_confident", TAU_CONFIDENT),
    },
    "Table S3": _swept("lambda", "smoothness", LAMBDAS),
    "Table S4": _swept("share", "bank_share", SHARES),
    "Table S5": {"pseudo-labels": SYNTHETIC, "mask labels": {**SYNTHETIC, "synthetic_labels": "mask"}},
}
PUBLISHED = Published(ABLATIONS, {
    (variant, table, NO_OVERLAP): pair
    for table, figures in {
        MAIN: {STAR: FUNAD_STAR},
        "Table 3": {"whole": FUNAD_STAR},
        "Table 4": {"tau_n 0.5": FUNAD_STAR, "tau_c 0.9": FUNAD_STAR},
        "Table S3": {"lambda 2.5": FUNAD_STAR},
        "Table S4": {f"share {share}": pair for share, pair in BANK_SHARES.items()},
        "Table S5": {"pseudo-labels": FUNAD_STAR, "mask labels": MASK_LABELS},
    }.items()
    for variant, pair in figures.items()
})  # fmt: skip


def _plan(categories: Sequence[Category], size: Size) -> list[Planned]:
    """Table 1 alone but in the full form; the variants in turn over all categories, so that one is whole early."""
    rows = [
        (table, variant, settings, RATIO)
        for table, variants in TABLES.items()
        if table == MAIN or size.name == FULL.name
        for variant, settings in variants.items()
    ]
    if size.name == FULL.name:
        of_main = TABLES[MAIN].items()
        rows += [(f"Table 2, {per_cent(ratio)}", name, each, ratio) for ratio in RATIOS for name, each in of_main]
    short: Mapping[str, Any] = SHORT if size.name == QUICK.name else {}
    autocast = {"precision": "bfloat16"} if runtime().device != "cpu" else {}
    limit = size.limit if short else FULL.limit
    cell = Cell(detector="funad", preset="paper", limit=limit, extra={"choices": True})
    return [
        Planned(
            replace(cell, category=str(category), settings={**settings, **short, **autocast}, ratio=ratio, seed=seed),
            variant,
            table,
        )
        for table, variant, settings, ratio in rows
        for seed in seeds_of(size)
        for category in defective(categories, size.categories)
    ]


EXPERIMENTS = (
    Experiment(NAME, ABOUT[NAME], _plan, group="table", published={"mvtec": PUBLISHED}, tolerance=TOLERANCE),
)
