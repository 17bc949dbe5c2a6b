"""Plots of an experiment: figures over what is swept, or by variant."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from blemish.benchmark.contamination import MODES
from blemish.benchmark.experiments.experiment import Entry, Experiment
from blemish.benchmark.significance import LEVEL, Ranks, ranks
from blemish.benchmark.summary import PROTOCOLS, frame, wide
from blemish.benchmark.summary import figure as summary_figure

WIDTH, HEIGHT, DPI = 7.0, 4.2, 110  # inches, dots an inch
MEASURE = "image_auroc"  # what ranks, levels and seconds are drawn of


def draw(experiment: Experiment, entries: Sequence[Entry], folder: Path) -> list[str]:
    """Write the plots; returns their file names."""
    if experiment.draw is not None:
        return experiment.draw(entries, folder)
    if not experiment.paired:
        return []
    modes = [mode for mode in (*MODES, "") if any(entry.row["mode"] == mode for entry in entries)]
    names = [_of_mode(experiment, [e for e in entries if e.row["mode"] == mode], mode, folder) for mode in modes]
    return names + [name for mode in modes for name in draw_ranks(entries, mode, folder)]


def draw_ranks(entries: Sequence[Entry], mode: str, folder: Path) -> list[str]:
    """The critical-difference plot of one protocol: mean ranks over sets and ratios, of the mean over seeds.

    Variants that lack a cell are left out, and named. Nothing is drawn below three variants or two blocks.
    """
    data = frame(entry for entry in entries if entry.row["mode"] == mode)
    values = wide(data, MEASURE)
    found = ranks(values.dropna(axis=1).groupby(level=["label", "group"], sort=False).mean())
    if found is None:
        return []
    lacking = [str(name) for name in values if values[name].isna().any()]
    title = f"{PROTOCOLS[mode] or 'Image AUROC'}: mean rank by image AUROC over {found.blocks} blocks of set and ratio"
    title += f"\nbars join what does not differ (Nemenyi, p < {LEVEL:g}; Friedman p = {found.p:.2g})"
    title += f"\nwithout {', '.join(lacking)}: cells are missing" if lacking else ""
    return [figure(folder / f"ranks_{mode or 'figures'}.png", lambda axes: _fill_ranks(axes[0], found, title))]


def draw_levels(entries: Sequence[Entry], folder: Path) -> list[str]:
    """Quality against contamination, an axis a protocol: means of variants with all cells, deviations over seeds."""
    data = frame(entries)
    modes = [mode for mode in MODES if (data["mode"] == mode).any()]
    if not modes or data[MEASURE].isna().all():
        return []

    def fill(axes: Any) -> None:
        for axis, mode in zip(axes, modes, strict=True):
            shown = data[data["mode"] == mode]
            for variant in dict.fromkeys(shown["variant"]):
                points = []
                for group in dict.fromkeys(shown["group"]):
                    values = wide(shown[shown["group"] == group], MEASURE, shown)
                    if variant in values and (found := summary_figure(values[variant])).value is not None:
                        ratio = float(shown.loc[shown["group"] == group, "ratio"].iloc[0])
                        points.append((100 * ratio, 100 * found.value, 100 * (found.deviation or 0.0)))
                if points:
                    at, means, deviations = zip(*sorted(points), strict=True)
                    axis.errorbar(at, means, deviations, marker="o", markersize=3, capsize=2, label=variant)
            axis.set_title(f"{PROTOCOLS[mode]}: image AUROC in per cent, mean over sets", fontsize="small")
            axis.set_xlabel("anomalies / normal training images, %")
        axes[0].legend(fontsize="x-small")

    return [figure(folder / "contamination.png", fill, len(modes))]


def draw_seconds(entries: Sequence[Entry], folder: Path) -> list[str]:
    """Quality against the seconds of a fit, an axis a protocol: means of variants with all cells over all ratios."""
    data = frame(entries).dropna(subset=["fit_seconds"])
    modes = [mode for mode in MODES if (data["mode"] == mode).any()]
    if not modes or data["machine"].nunique() > 1 or data[MEASURE].isna().all():
        return []

    def fill(axes: Any) -> None:
        for axis, mode in zip(axes, modes, strict=True):
            shown = data[data["mode"] == mode]
            quality, seconds = wide(shown, MEASURE), wide(shown, "fit_seconds")
            for variant in quality.dropna(axis=1):
                at, height = seconds[variant].mean(), 100 * quality[variant].mean()
                axis.plot([at], [height], "o")
                axis.annotate(f" {variant}", (at, height), fontsize="x-small")
            axis.set_xscale("log")
            axis.margins(x=0.25)
            axis.set_title(f"{PROTOCOLS[mode]}: image AUROC in per cent, mean over sets and ratios", fontsize="small")
            axis.set_xlabel("seconds of a fit, features ready")

    return [figure(folder / "seconds.png", fill, len(modes))]


def _fill_ranks(axis: Any, found: Ranks, title: str) -> None:
    """Names beside an axis of ranks, and a bar below it for each longest run of variants that do not differ."""
    places = list(found.means)
    axis.plot(places, [0] * len(places), "o", color="black")
    for row, (name, place) in enumerate(found.means.items(), start=1):
        axis.plot([place, place], [0, row], color="grey", linewidth=0.8)
        axis.text(place, row, f" {name} ({place:.2f})", va="bottom", fontsize="small")
    last, level = -1, 0
    for start, place in enumerate(places):
        end = max(at for at, other in enumerate(places) if other - place <= found.critical)
        if end > max(start, last):
            level -= 1
            axis.plot([place, places[end]], [level * 0.5] * 2, color="black", linewidth=3)
            last = end
    axis.set(xlim=(0.8, len(places) + 0.8), xlabel=f"mean rank, 1 is best; critical difference {found.critical:.2f}")
    axis.set_ylim(level * 0.5 - 0.7, len(places) + 1)
    axis.set_title(title, fontsize="small")
    axis.set_yticks([])


def figure(path: Path, fill: Callable[[Any], None], columns: int = 1) -> str:
    """A figure of `columns` axes, drawn by `fill` and written to `path`; returns its name."""
    from matplotlib.figure import Figure  # without pyplot: no window, no state

    drawn = Figure((WIDTH * max(1.0, 0.7 * columns), HEIGHT), layout="constrained")
    fill(drawn.subplots(1, columns, squeeze=False)[0])
    drawn.savefig(path, dpi=DPI)
    return path.name


def _of_mode(experiment: Experiment, entries: Sequence[Entry], mode: str, folder: Path) -> str:
    data = frame(entries)
    groups, variants = list(dict.fromkeys(data["group"])), list(dict.fromkeys(data["variant"]))

    def fill(axes: Any) -> None:
        for axis, (label, measure) in zip(axes, experiment.measures.items(), strict=True):
            for variant in variants:
                points = [_mean(data, variant, group, measure) for group in groups]
                if len(groups) > 1:
                    axis.plot(range(len(groups)), points, marker="o", label=variant)
                else:
                    said = "cells are missing" if points[0] is None else f"{points[0]:.1f}"
                    axis.bar_label(axis.barh(variant, points[0] or 0.0), [said], padding=2, fontsize="small")
                    axis.margins(x=0.15)
            axis.set_title(f"{label} in per cent{', ' + mode.replace('_', ' ') if mode else ''}")
            if len(groups) > 1:
                axis.set_xticks(range(len(groups)), groups)
                axis.set_xlabel(experiment.group)
                axis.legend(fontsize="small")
            else:
                axis.invert_yaxis()

    return figure(folder / f"{mode or 'figures'}.png", fill, len(experiment.measures))


def _mean(data: pd.DataFrame, variant: str, group: str, measure: str) -> float | None:
    """The mean in per cent, as the table has it; None where cells are missing that others have."""
    values = wide(data[data["group"] == group], measure, data)
    value = summary_figure(values[variant]).value if variant in values else None
    return None if value is None else 100 * value
