"""Training curves as files: CSV, plots, and TensorBoard events where it is installed."""

import csv
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from blemish.detectors.funad.bank_purity import HELD, write_held
from blemish.detectors.funad.curve import COLUMNS, MEANS, Curve

BINS = 40


def write_curves(folder: Path, curves: Mapping[str, Curve], ids: Sequence[str]) -> None:
    """What nets, by name, did with the images `ids`: tables, plots of them, and events if tensorboard is there.

    `curve.csv` and `score_histogram.csv` are drawn; `bank_images.csv` is for `blemish evaluate`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "curve.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("net", *COLUMNS))
        table.writerows((name, *(row[key] for key in COLUMNS)) for name, curve in curves.items() for row in curve.rows)
    with (folder / "score_histogram.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("net", "step", "low", "high", "images"))
        for name, curve in curves.items():
            for step, counts, edges in histograms(curve):
                table.writerows(
                    (name, step, f"{low:.4f}", f"{high:.4f}", count)
                    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
                )
    write_held(folder / HELD, curves, ids)
    _plot(folder / "curve.png", curves)
    _plot_histograms(folder / "score_histogram.png", curves)
    if importlib.util.find_spec("tensorboard"):
        _write_events(folder, curves)


def histograms(curve: Curve) -> list[tuple[int, list[int], list[float]]]:
    """For each step at which all images were scored: the step, counts and edges of the scores, 0..1."""
    found = []
    for step, looks in curve.scored:
        scores = looks[looks.isfinite()].double().sigmoid().numpy()
        counts, edges = np.histogram(scores, BINS, (0.0, 1.0))
        found.append((step, counts.tolist(), edges.tolist()))
    return found


def _plot(path: Path, curves: Mapping[str, Curve]) -> None:
    shown = (*MEANS, "bank_images")
    figure = Figure(figsize=(4 * len(shown), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(shown)), shown, strict=True):
        for net, curve in curves.items():
            axes.plot([row["step"] for row in curve.rows], [row[name] for row in curve.rows], label=net)
        axes.set(title=name.replace("_", " "), xlabel="step")
    figure.axes[-1].legend(fontsize="x-small")
    figure.savefig(path, dpi=100)


def _plot_histograms(path: Path, curves: Mapping[str, Curve]) -> None:
    figure = Figure(figsize=(3 * len(curves), 3), layout="constrained")
    for axes, (name, curve) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        rows = histograms(curve)
        counts = np.array([row[1] for row in rows], dtype=float)
        axes.imshow(np.log1p(counts), aspect="auto", origin="lower", extent=(0, 1, 0, len(rows)))
        axes.set(title=name, xlabel="image score", yticks=np.arange(len(rows)) + 0.5)
        axes.set_yticklabels([str(step) for step, *_ in rows], fontsize="x-small")
    figure.savefig(path, dpi=100)


def _write_events(folder: Path, curves: Mapping[str, Curve]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for name, curve in curves.items():
        with SummaryWriter(str(folder / name)) as writer:
            for row in curve.rows:
                for key in COLUMNS[1:]:
                    writer.add_scalar(key, row[key], int(row["step"]))
            for step, looks in curve.scored:
                writer.add_histogram("image scores", looks[looks.isfinite()].sigmoid(), step)
