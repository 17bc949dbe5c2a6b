"""The job of F4: how FUN-AD's network comes to tell classes apart, and how its bank turns normal."""

import csv
from typing import Any

import numpy as np

from blemish.benchmark.fitting import fitted
from blemish.benchmark.jobs import Task
from blemish.benchmark.metrics import image_metrics
from blemish.detectors.funad import FunAD
from blemish.machine.errors import RequestError

STEPS = 11  # rows at most, evenly spaced, both ends among them
SCORES = "scores.csv"  # path, anomalous, and the score before and after training


def toy(task: Task) -> list[dict[str, Any]]:
    """A row for some of the steps at which all training images were scored: AUROC, purity of the bank, normals in it.

    `bank_purity` is the share of normal images in the bank, `normals_in_bank` the share of the normal images that it
    holds. The detector must be FUN-AD with one view and one net; `scores.csv` holds the logits of the ends.
    """
    detector, costs = fitted(task)
    if not isinstance(detector, FunAD):
        raise RequestError(f"The toy shows how funad learns; {detector.name} has no network and bank to look at.")
    _, manifest = task.images()
    curve = detector.trained_views_[0].nets[0].trained.curve
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
    with (task.folder / SCORES).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "anomalous", "before", "after"))
        for name, bad, before, after in zip(names, truth, first, last, strict=True):
            table.writerow((name, int(bad), f"{before:.6g}", f"{after:.6g}"))
    return rows
