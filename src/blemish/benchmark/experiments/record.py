"""`blemish bench record`: all detectors on all sets over contamination, by both protocols and by two papers' own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.benchmark.cells import MODES_KEPT, PROTOCOL, Cell, Limit
from blemish.benchmark.contamination import MODES, OVERLAP, TEST_SHARE
from blemish.benchmark.datasets import Category
from blemish.benchmark.experiment_names import ABOUT
from blemish.benchmark.experiments.experiment import Entry, Experiment, Planned, Size, defective, paired_seeds
from blemish.benchmark.experiments.fun_ad import per_cent
from blemish.benchmark.published import MEDS
from blemish.detectors import detector_class
from blemish.detectors.anomalib_adapter.catalogue import PREFIX

NAME = "record"
PURIFIED = "purified "  # before a detector's name
OWN = (
    "nearest_images",
    "funad",
    "patchcore",
    f"{PURIFIED}patchcore",
    "softpatch",
    "padim",
    "simplenet",
    "inreach",
    "dinomaly",
)
AT_ONCE = (f"{PREFIX}Patchcore", f"{PREFIX}Padim")  # of anomalib, in one pass over the images
TRAINED = (f"{PREFIX}ReverseDistillation", f"{PREFIX}EfficientAd", f"{PREFIX}Supersimplenet")  # hours a fit on a CPU
LEVELS = (0.0, 0.05, 0.1, 0.2, 0.4)
LEVEL_PROTOCOL = "levels"
QUICK_LIMIT, QUICK_LEVELS = Limit(48, 16, 32), (0.0, 0.1, 0.4)


@dataclass(frozen=True)
class Protocol:
    """How training sets are drawn and what they are tested on.

    Attributes
    ----------
    levels : ratios of anomalies to normal training images.
    policy, test_share : see `contaminate`.
    modes : the protocols of testing that are measured.
    """

    levels: tuple[float, ...]
    policy: str = "shrink"
    test_share: float = TEST_SHARE
    modes: tuple[str, ...] = MODES


# MeDS (arXiv 2605.26676) tests with Overlap alone and injects up to all anomalies; at 0 % it is the first protocol.
# SoftPatch (arXiv 2403.14233) makes further anomalies by turning and shifting where a set has too few.
PROTOCOLS: Mapping[str, Protocol] = {
    LEVEL_PROTOCOL: Protocol(LEVELS),
    "MeDS": Protocol((0.1, 0.2, 0.4), "cap", 0.0, (OVERLAP,)),
    "SoftPatch": Protocol((0.1,), "resample"),
}


def record(detectors: Sequence[str] | None = None) -> Experiment:
    """The experiment with `detectors`; by default those that a CPU can do in its time, in the full form all there are.

    Raises `RequestError` for an unknown one.
    """
    for name in detectors or ():
        detector_class(name.removeprefix(PURIFIED))

    def plan(categories: Sequence[Category], size: Size) -> list[Planned]:
        quick, names = size.name == "quick", detectors or detectors_of(size.name)
        return [
            Planned(
                Cell(
                    category=str(category), detector=name.removeprefix(PURIFIED), ratio=ratio, seed=seed,
                    purify={} if name.startswith(PURIFIED) else None, policy=protocol.policy,
                    test_share=protocol.test_share, limit=QUICK_LIMIT if quick else size.limit,
                    extra={PROTOCOL: kind, MODES_KEPT: list(protocol.modes)},
                ),
                name,
                _level(kind, ratio),
            )
            for seed in paired_seeds(size)  # one after the other: a page can stand on the seeds that are whole
            for kind, protocol, ratio in _ratios(size.name)
            for category in defective(categories)
            for name in names
        ]  # fmt: skip

    return Experiment(NAME, ABOUT[NAME], plan, group="ratio", published={"mvtec": MEDS}, draw=draw, own_sizes=True)


def _ratios(size: str) -> list[tuple[str, Protocol, float]]:
    """The ratios of each protocol that a form runs, in its order."""
    return [
        (kind, protocol, ratio)
        for kind, protocol in PROTOCOLS.items()
        for ratio in protocol.levels
        if size != "quick" or ratio in QUICK_LEVELS
    ]


def detectors_of(size: str) -> tuple[str, ...]:
    """The detectors that a form runs if none are named."""
    return {"quick": OWN, "standard": OWN + AT_ONCE}.get(size, OWN + AT_ONCE + TRAINED)


def groups_of(size: str) -> list[str]:
    """The rows of the tables of a form, by name: ratios, and further protocols."""
    return [_level(kind, ratio) for kind, _, ratio in _ratios(size)]


def entry_of(row: Mapping[str, str]) -> Entry | None:
    """A stored row in its place in the tables, without the images; None for a row of another experiment."""
    extra = json.loads(row["extra"] or "{}")
    if PROTOCOL not in extra:
        return None
    variant = f"{PURIFIED}{row['detector']}" if row["purify"] else row["detector"]
    cell = Cell(
        category=f"{row['dataset']}/{row['category']}",
        detector=row["detector"],
        purify=json.loads(row["purify"]) if row["purify"] else None,
        seed=int(row["seed"]),
        limit=Limit(**json.loads(row["limit"])),
        ratio=float(row["ratio"]),
    )
    return Entry(Planned(cell, variant, _level(extra[PROTOCOL], float(row["ratio"]))), row)


def draw(entries: Sequence[Any], folder: Path) -> list[str]:
    """Quality against contamination, the main figure; quality against seconds; ranks of the first protocol."""
    from blemish.benchmark import plots

    level = [each for each in entries if each.planned.group[:1].isdigit()]
    names = plots.draw_levels(level, folder) + plots.draw_seconds(level, folder)
    return names + [name for mode in MODES for name in plots.draw_ranks(level, mode, folder)]


def _level(protocol: str, ratio: float) -> str:
    return per_cent(ratio) if protocol == LEVEL_PROTOCOL else f"{protocol} {per_cent(ratio)}"
