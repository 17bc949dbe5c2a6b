"""How long what is planned will take: from earlier runs, else from rough seconds an image."""

import json
from collections.abc import Mapping
from statistics import median

from blemish.benchmark.cells import Cell
from blemish.benchmark.results import DONE, Results
from blemish.benchmark.run import Plan, todo

# CPU seconds of a run per image of training and test, features ready; the second is of the quick form. Rough: the first
# of the one-class detectors come from benchmarks/detectors.md, the others were judged from fits of 150 to 840 images on
# a shared machine; the second were measured on 71 images by the quick form (benchmarks/papers.md).
SECONDS: Mapping[str, tuple[float, float]] = {
    "nearest_images": (0.02, 0.02),
    "patchcore": (0.06, 0.018),
    "softpatch": (0.07, 0.04),
    "padim": (0.04, 0.05),
    "inreach": (0.2, 0.043),
    "simplenet": (0.24, 0.052),
    "funad": (0.1, 0.05),
}
PURIFIED = 2.0  # times as long as without a purification
FEATURES = 0.08  # seconds of one core per image
SEMANTIC, SEMANTIC_FEATURES = 0.01, 0.02  # the same where an image is one patch
CHOICES = 2.0  # times as long where every snapshot is measured
GUESS = 0.4  # seconds per image where nothing was measured
WITHOUT_IMAGES = 5.0  # seconds of a run that needs no images


def expected_seconds(plan: Plan, results: Results) -> tuple[float, int]:
    """Seconds that what is still to do will take on one core, and for how many of those runs that is a guess.

    Earlier runs of `results` tell best: they are of this machine.
    """
    earlier = _rates(results)
    seconds, guesses = 0.0, 0
    waiting = todo(plan, results)
    for step in waiting:
        cell = step.cell
        known = earlier.get((cell.job, cell.detector, cell.preset, _purify_text(cell)))
        rate = median(known) if known else _measured(cell)
        guesses += rate is None
        seconds += (GUESS if rate is None else rate) * step.images() or WITHOUT_IMAGES
    looked_at = {
        str(step.category): step.images() * (SEMANTIC_FEATURES if step.category.semantic else FEATURES)
        for step in waiting
        if step.category is not None
    }
    return seconds + sum(looked_at.values()), guesses


def _measured(cell: Cell) -> float | None:
    """Seconds per image of a run such as this; None if nobody measured one."""
    if not cell.detector:
        return 0.0  # statistics of features
    if cell.preset == "semantic":
        return SEMANTIC
    if cell.detector not in SECONDS or cell.preset not in ("", "quick"):
        return None
    rate = SECONDS[cell.detector][cell.preset == "quick"]
    return rate * (PURIFIED if cell.purify is not None else 1) * (CHOICES if cell.extra.get("choices") else 1)


def _rates(results: Results) -> dict[tuple[str, str, str, str], list[float]]:
    """Seconds per image of earlier runs by job, detector, preset and purification."""
    rates: dict[tuple[str, str, str, str], list[float]] = {}
    for row in results.rows:
        images = [float(row[name]) for name in ("train_images", "test_images") if row.get(name)]
        if row["status"] == DONE and row.get("cpu_seconds") and images:
            kind = (row["job"], row["detector"], row["preset"], row["purify"])
            rates.setdefault(kind, []).append(float(row["cpu_seconds"]) / sum(images))
    return rates


def _purify_text(cell: Cell) -> str:
    return "" if cell.purify is None else json.dumps(dict(cell.purify), sort_keys=True)
