"""F5: FUN-AD and others side by side: image, mask and maps, and figures by size of the defect."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blemish.benchmark.catalogue import ABOUT
from blemish.benchmark.cells import Cell
from blemish.benchmark.datasets import Category
from blemish.benchmark.experiments.experiment import Experiment, Planned, Size, defective
from blemish.benchmark.experiments.fun_ad import BASELINES
from blemish.benchmark.pictures import MAPS, QUARTERS

CELL = 1.7  # inches of a picture in the sheet


def _sized(categories: Sequence[Category], size: Size) -> list[Planned]:
    masked = [each for each in defective(categories) if any(sample.mask for sample in each.anomalies)]
    return [
        Planned(
            Cell(
                job="quarters", category=str(category), detector=name, preset=size.preset, limit=size.limit,
            ),
            name,
        )
        for category in masked[: size.ablated]
        for name in ("funad", *BASELINES)
    ]  # fmt: skip


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
