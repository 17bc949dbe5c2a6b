"""F5: FUN-AD and others side by side: image, mask and maps, and figures by size of the defect."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file

from blemish.benchmark.contamination import NO_OVERLAP
from blemish.benchmark.datasets import Category
from blemish.benchmark.experiment_names import ABOUT
from blemish.benchmark.experiments.experiment import Experiment, Planned, Size, defective, on_each
from blemish.benchmark.experiments.fun_ad import BASELINES
from blemish.benchmark.fit_job import fitted, scored
from blemish.benchmark.jobs import Task
from blemish.benchmark.metrics import bin_edges, image_metrics, pixel_counts
from blemish.machine.errors import RequestError, saved_as_usual
from blemish.scores import Scores

MAPS = (
    "maps.safetensors"  # image, mask and map of one image of each quarter, and `levels`, what is drawn dark and bright
)
QUARTERS = ("smallest quarter", "second quarter", "third quarter", "largest quarter")
SIDE = 256  # longer side of a map that is kept to be shown
LEVELS = (0.5, 0.999)  # quantiles of all maps of a detector: one scale for all of its pictures
CELL = 1.7  # inches of a picture in the sheet


def quarters(task: Task) -> list[dict[str, Any]]:
    """A row for each quarter of the defects by size, without overlap: its anomalies against all normal images.

    One image of each quarter is left in `maps.safetensors` with its mask and map.
    """
    category, manifest = task.images()
    detector, costs = fitted(task)
    tested = manifest.test_paths(category, NO_OVERLAP)
    scores, seconds = scored(detector, category.images(tested))
    normals = [name for name in tested if not category.truth([name])[0]]
    by_quarter = split_by_size(category, [name for name in tested if category.truth([name])[0]])
    edges = bin_edges(scores.maps)
    normal_counts = pixel_counts(scores, category.mask, normals, edges)
    rows: list[dict[str, Any]] = []
    pictures: dict[str, NDArray[Any]] = {"levels": np.quantile(scores.maps, LEVELS).astype(np.float32)}
    for number, (quarter, names) in enumerate(by_quarter.items()):
        part = scores.subset([*normals, *names])
        counts = normal_counts + pixel_counts(scores, category.mask, names, edges)
        row = {**image_metrics(category.truth(part.ids), part.image), **counts.metrics()}
        rows.append({**costs, **seconds, **row, "part": quarter, "mode": NO_OVERLAP, "test_images": len(part)})
        pictures |= _pictures(category, scores, names[len(names) // 2], number)
    arrays = {name: np.ascontiguousarray(values) for name, values in pictures.items()}
    saved_as_usual(lambda path: save_file(arrays, path), task.folder / MAPS)
    return rows


def _pictures(category: Category, scores: Scores, name: str, number: int) -> dict[str, NDArray[Any]]:
    """An image with its mask and map at the size that is shown."""
    width, height = (int(side) for side in scores.sizes[scores.index(name)])
    scale = SIDE / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rgb = Image.fromarray(category.images([name]).read(name)).resize(size)
    mask = category.mask(name, size)
    return {
        f"image{number}": np.asarray(rgb),
        f"mask{number}": np.zeros(size[::-1], np.uint8) if mask is None else mask.astype(np.uint8),
        f"map{number}": scores.map(name, size),
    }


def split_by_size(category: Category, names: Sequence[str]) -> Mapping[str, list[str]]:
    """The anomalies with a mask in four equal parts, the smallest share of defective pixels first.

    Raises `RequestError` if there are fewer than four.
    """
    sizes = {}
    for name in names:
        mask = category.mask(name, (SIDE, SIDE))
        if mask is not None and mask.any():
            sizes[name] = float(mask.mean())
    if len(sizes) < len(QUARTERS):
        raise RequestError(f"{category} has {len(sizes)} test anomalies with a mask; quarters need at least four.")
    ordered = sorted(sizes, key=lambda name: (sizes[name], name))
    parts = np.array_split(np.arange(len(ordered)), len(QUARTERS))
    return {quarter: [ordered[at] for at in part] for quarter, part in zip(QUARTERS, parts, strict=True)}


def _sized(categories: Sequence[Category], size: Size) -> list[Planned]:
    masked = [each for each in defective(categories) if any(sample.mask for sample in each.anomalies)]
    cells = [(name, "", {"detector": name}) for name in ("funad", *BASELINES)]
    return on_each(masked[: size.ablated], replace(size, seeds=1), cells, job="quarters", limit=size.limit)


def _sheets(entries: Sequence[Any], folder: Path) -> list[str]:
    """A sheet a category: a row an image, of each quarter one; columns are the image, its mask and the maps."""
    labels = dict.fromkeys(entry.planned.label for entry in entries)
    return [
        name for label in labels for name in _sheet([e for e in entries if e.planned.label == label], label, folder)
    ]


def _sheet(entries: Sequence[Any], label: str, folder: Path) -> list[str]:
    from matplotlib.figure import Figure
    from safetensors.numpy import load_file

    held: dict[str, Any] = {}
    for entry in entries:
        path = folder.parent / "runs" / entry.row["run"] / MAPS
        if entry.row["seed"] == "0" and path.is_file() and entry.planned.variant not in held:
            held[entry.planned.variant] = load_file(path)
    if not held:
        return []
    first = next(iter(held.values()))
    drawn = Figure((CELL * (2 + len(held)), CELL * len(QUARTERS)), layout="constrained")
    axes = drawn.subplots(len(QUARTERS), 2 + len(held), squeeze=False)
    for row in range(len(QUARTERS)):
        axes[row][0].imshow(first[f"image{row}"])
        axes[row][1].imshow(first[f"mask{row}"], cmap="gray", vmin=0, vmax=1)
        for column, maps in enumerate(held.values(), start=2):
            low, high = maps["levels"]
            axes[row][column].imshow(maps[f"map{row}"], cmap="inferno", vmin=low, vmax=high)
    for axis, title in zip(axes[0], ("image", "mask", *held), strict=True):
        axis.set_title(title, fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    name = f"{label}.png"
    drawn.savefig(folder / name, dpi=110)
    return [name]


EXPERIMENTS = (
    Experiment("F5", ABOUT["F5"], _sized, needs="categories with masks", group="size of the defect", draw=_sheets),
)
