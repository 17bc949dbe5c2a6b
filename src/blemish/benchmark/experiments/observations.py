"""FUN-AD's observations: F1 pair distances, F2 mutual pairs, F3 the closed forms; and S1, speed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blemish.benchmark.catalogue import ABOUT
from blemish.benchmark.cells import Cell
from blemish.benchmark.datasets import Category
from blemish.benchmark.experiments.experiment import Experiment, Planned, Size, defective, seeds_of
from blemish.benchmark.feature_statistics import HISTOGRAM, IMAGE, PATCH, SYNTHETIC
from blemish.benchmark.statistics import KINDS

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
    return [
        Planned(
            Cell(job="speed", category=str(category), detector=name, preset=size.preset, limit=size.sweep_limit), name
        )
        for category in defective(categories, 1)
        for name in SPEED_DETECTORS
    ]


def _draw_histograms(entries: Sequence[Any], folder: Path) -> list[str]:
    """The distances by kind of pair, a plot a row of the table."""
    import pandas as pd

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
