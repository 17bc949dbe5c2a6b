"""Plots of an experiment: figures over what is swept, or by variant."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from blemish.benchmark.contamination import MODES
from blemish.benchmark.experiments.experiment import Experiment

if TYPE_CHECKING:
    from blemish.benchmark.table_entries import Entry

WIDTH, HEIGHT, DPI = 7.0, 4.2, 110  # inches, dots an inch


def draw(experiment: Experiment, entries: Sequence["Entry"], folder: Path) -> list[str]:
    """Write the plots; returns their file names."""
    if experiment.draw is not None:
        return experiment.draw(entries, folder)
    if not experiment.paired:
        return []
    modes = [mode for mode in (*MODES, "") if any(entry.row["mode"] == mode for entry in entries)]
    return [_of_mode(experiment, [e for e in entries if e.row["mode"] == mode], mode, folder) for mode in modes]


def figure(path: Path, fill: Callable[[Any], None], columns: int = 1) -> str:
    """A figure of `columns` axes, drawn by `fill` and written to `path`; returns its name."""
    from matplotlib.figure import Figure  # without pyplot: no window, no state

    drawn = Figure((WIDTH * max(1.0, 0.7 * columns), HEIGHT), layout="constrained")
    fill(drawn.subplots(1, columns, squeeze=False)[0])
    drawn.savefig(path, dpi=DPI)
    return path.name


def _of_mode(experiment: Experiment, entries: Sequence["Entry"], mode: str, folder: Path) -> str:
    groups = list(dict.fromkeys(entry.group for entry in entries))
    variants = list(dict.fromkeys(entry.variant for entry in entries))

    def fill(axes: Any) -> None:
        for axis, (label, measure) in zip(axes, experiment.measures.items(), strict=True):
            for variant in variants:
                points = [_mean(entries, variant, group, measure) for group in groups]
                if len(groups) > 1:
                    axis.plot(range(len(groups)), points, marker="o", label=variant)
                else:
                    axis.bar_label(axis.barh(variant, points[0] or 0.0), fmt="%.1f", padding=2, fontsize="small")
                    axis.margins(x=0.15)
            axis.set_title(f"{label} in per cent{', ' + mode.replace('_', ' ') if mode else ''}")
            if len(groups) > 1:
                axis.set_xticks(range(len(groups)), groups)
                axis.set_xlabel(experiment.group)
                axis.legend(fontsize="small")
            else:
                axis.invert_yaxis()

    return figure(folder / f"{mode or 'figures'}.png", fill, len(experiment.measures))


def _mean(entries: Sequence["Entry"], variant: str, group: str, measure: str) -> float | None:
    chosen = [e.value(measure) for e in entries if e.variant == variant and e.group == group]
    values = [value for value in chosen if value is not None]
    return 100 * mean(values) if values else None
