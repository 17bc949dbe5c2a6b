"""FUN-AD on whole images: T8, one class against the others, and F4, the toy experiment on CIFAR-10."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from blemish.benchmark.cells import Cell, Limit
from blemish.benchmark.datasets import Category
from blemish.benchmark.experiment_names import ABOUT
from blemish.benchmark.experiments.experiment import FEW, FULL, QUICK, Experiment, Planned, Size, on_each
from blemish.benchmark.fit_job import fitted
from blemish.benchmark.jobs import Task
from blemish.benchmark.metrics import image_metrics
from blemish.benchmark.statistics import score_histograms
from blemish.detectors.funad import FunAD
from blemish.machine.errors import RequestError

STEPS = 11  # rows at most, evenly spaced, both ends among them
SCORES = "scores.csv"  # path, anomalous, and the score before and after training
SEMANTIC = "semantic"  # the preset: one feature an image
DETECTORS = ("funad", "nearest_images", "patchcore")
TEST = Limit(None, 500, 1800)  # of 1,000 and 9,000 test images: 200 of each other class
QUICK_TEST = Limit(100, 50, 180)
TOY_CLASS = "automobile"
# One net that learns from all images, from random weights: what the paper's toy shows.
ALONE = {"distance_weight": 0.0, "warm_up": 0.0, "cross_fit": False, "stop": "last", "rebuild_every": 10}
NEEDS = "CIFAR-10 or STL-10"


def toy(task: Task) -> list[dict[str, Any]]:
    """A row for some of the steps at which all training images were scored: AUROC, purity of the bank, normals in it.

    `bank_purity` is the share of normal images in the bank, `normals_in_bank` the share of the normal images that it
    holds. The detector must be FUN-AD with one view and one net; `scores.csv` holds the logits of the ends.
    """
    detector, costs = fitted(task)
    if not isinstance(detector, FunAD):
        raise RequestError(f"The toy shows how funad learns; {detector.name} has no network and bank to look at.")
    _, manifest = task.images()
    curve = detector.trained_views_[0].nets[0].curve
    names = detector.training_scores_.ids
    truth = manifest.training_truth(names)
    steps = np.array([row["step"] for row in curve.rows])
    rows = []
    for number in sorted({round(at) for at in np.linspace(0, len(curve.scored) - 1, STEPS)}):
        step, logits = curve.scored[number]
        at = int(np.searchsorted(steps, step, side="right")) - 1
        held = curve.held[at].numpy()[: len(truth)]
        rows.append({
            **costs,
            "part": f"step {step}",
            "image_auroc": image_metrics(truth, logits.numpy())["image_auroc"],
            "bank_purity": float((~truth[held]).mean()) if held.any() else None,
            "normals_in_bank": float(held[~truth].mean()),
        })  # fmt: skip
    first, last = curve.scored[0][1].numpy(), curve.scored[-1][1].numpy()
    table = pd.DataFrame({"path": names, "anomalous": truth.astype(int), "before": first, "after": last})
    table.to_csv(task.folder / SCORES, index=False, float_format="%.6g")
    return rows


def _limit(size: Size) -> Limit:
    return {QUICK.name: QUICK_TEST, FULL.name: Limit()}.get(size.name, TEST)


def _one_class(categories: Sequence[Category], size: Size) -> list[Planned]:
    chosen = [each for each in categories if each.semantic][: size.categories]
    cells = [(name, "", {"detector": name}) for name in DETECTORS]
    return on_each(chosen, size, cells, preset=SEMANTIC, limit=_limit(size))


def _toy(categories: Sequence[Category], size: Size) -> list[Planned]:
    """The toy at 1:10, and a bank that begins with a random half of as many anomalies as normal images."""
    classes = [each for each in categories if each.semantic and each.dataset == "cifar10"]
    chosen = next((each for each in classes if each.name == TOY_CLASS), None)
    if chosen is None:
        return []
    cell = Cell(
        job="toy",
        category=str(chosen),
        detector="funad",
        preset=SEMANTIC,
        settings=ALONE,
        limit=replace(_limit(size), train=FEW.train if size.name == QUICK.name else 500),
        extra={},
    )
    as_published = {**ALONE, "cut": "minmax"}
    return [
        Planned(replace(cell, settings=settings, ratio=ratio), name)
        for name, ratio, settings in size.some(
            [
                ("1:10", 0.1, ALONE),
                ("1:10, cut as published", 0.1, as_published),
                ("50:50", 1.0, ALONE),
                ("50:50, cut as published", 1.0, as_published),
            ]
        )
    ]


def _draw_toy(entries: Sequence[Any], folder: Path) -> list[str]:
    """Score histograms before and after training, and the curves, a plot a variant."""
    from blemish.benchmark.plots import figure

    names = []
    for variant in dict.fromkeys(entry.variant for entry in entries):
        mine = [entry for entry in entries if entry.variant == variant]
        table = folder.parent / "runs" / mine[0].row["run"] / SCORES
        scores = pd.read_csv(table) if table.is_file() else None

        def fill(axes: Any, mine: Any = mine, scores: Any = scores) -> None:
            steps = [int(entry.row["part"].removeprefix("step ")) for entry in mine]
            for measure, label in (
                ("image_auroc", "AUROC"),
                ("bank_purity", "purity of the bank"),
                ("normals_in_bank", "normals in it"),
            ):
                axes[0].plot(steps, [entry.value(measure) for entry in mine], marker="o", label=label)
            axes[0].set(xlabel="step", ylim=(0, 1.02))
            axes[0].legend(fontsize="small")
            for axis, when in zip(axes[1:], ("before", "after") if scores is not None else (), strict=False):
                found = score_histograms(scores[when].to_numpy(), scores["anomalous"].to_numpy(bool))
                for kind, counts in found.counts.items():
                    axis.stairs(counts / max(counts.sum(), 1), found.edges, label=kind, fill=True, alpha=0.5)
                axis.set(title=f"{when} training", xlabel="logit")
                axis.legend(fontsize="small")

        plain = "".join(letter if letter.isalnum() else "-" for letter in variant)
        names.append(figure(folder / f"{plain}.png", fill, columns=3))
    return names


EXPERIMENTS = (
    Experiment("T8", ABOUT["T8"], _one_class, needs=NEEDS, measures={"image AUROC": "image_auroc", "AP": "image_ap"}),
    Experiment(
        "F4",
        ABOUT["F4"],
        _toy,
        needs="CIFAR-10",
        measures={"AUROC": "image_auroc", "purity of the bank": "bank_purity", "normals in it": "normals_in_bank"},
        paired=False,
        group="step",
        draw=_draw_toy,
    ),
)
