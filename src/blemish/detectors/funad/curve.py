"""What happened while a net learned, step by step; the files that show it; and how pure its banks were."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.funad.pseudo_labels import PseudoLabels
from blemish.machine.errors import RequestError, writing_to

MEANS = ("classification", "smoothness", "positives", "unsure")
COLUMNS = ("step", "minibatches", *MEANS, "normal_images", "bank_images")
MOST_ROWS, MOST_SCORED = 200, 40
BINS = 40  # of the histograms of image scores
HELD = "bank_images.csv"  # in a Run's training/: path, then a column NET@STEP for each bank, 1 where it held the image


@dataclass
class LearningCurve:
    """Rows of `COLUMNS`, one each time the bank's images were chosen, with the means of the steps until the next.

    Attributes
    ----------
    rows : of `COLUMNS`; `positives` and `unsure` are shares of the minibatches' patches.
    normal, held : of each row, (N,) bool, the images that looked normal and those whose patches the bank holds.
    scored : steps at which the net scored all images, with the largest logit of each, (N,).
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    normal: list[Tensor] = field(default_factory=list)
    held: list[Tensor] = field(default_factory=list)
    scored: list[tuple[int, Tensor]] = field(default_factory=list)

    def rebuilt(self, step: int, normal: Tensor, held: Tensor) -> None:
        """Begin a row; with a bank rebuilt every step, rows are as many as `MOST_ROWS`, each for some steps."""
        if len(self.rows) >= MOST_ROWS:
            self._join_rows()
        if _due([int(row["step"]) for row in self.rows], step, MOST_ROWS):
            row = {"step": step, "normal_images": int(normal.sum()), "bank_images": int(held.sum())}
            self.rows.append({name: row.get(name, 0) for name in COLUMNS})
            self.normal.append(normal.cpu())
            self.held.append(held.cpu())

    def _join_rows(self) -> None:
        """Make one row of every two."""
        for first, second in zip(self.rows[::2], self.rows[1::2], strict=False):
            first["minibatches"] += second["minibatches"]
            for name in MEANS:
                first[name] += (second[name] - first[name]) * second["minibatches"] / max(1, first["minibatches"])
        for joined in (self.rows, self.normal, self.held):
            del joined[1::2]

    def step(self, classification: float, smoothness: float, labels: PseudoLabels) -> None:
        """Add a minibatch to the last row."""
        row = self.rows[-1]
        row["minibatches"] += 1
        shares = [float(mask.float().mean()) for mask in (labels.anomalous, labels.unsure)]
        for name, value in zip(MEANS, (classification, smoothness, *shares), strict=True):
            row[name] += (value - row[name]) / row["minibatches"]

    def score(self, step: int, scores: Tensor, *, last: bool = False) -> None:
        """Keep the images' scores of a step; of many steps, at most `MOST_SCORED` of them, and the last."""
        if len(self.scored) >= MOST_SCORED:
            del self.scored[1::2]
        if last or _due([at for at, _ in self.scored], step, MOST_SCORED):
            self.scored.append((step, scores.cpu()))

    def tensors(self) -> dict[str, Tensor]:
        """The images' part, for a checkpoint."""
        parts = {"curve.normal": self.normal, "curve.held": self.held}
        stacked = {name: torch.stack(values) for name, values in parts.items() if values}
        if self.scored:
            stacked["curve.scored"] = torch.stack([scores for _, scores in self.scored])
            stacked["curve.scored_at"] = torch.tensor([step for step, _ in self.scored])
        return stacked

    @classmethod
    def restored(cls, rows: list[dict[str, float]], tensors: dict[str, Tensor]) -> "LearningCurve":
        """From the rows and `tensors`, at a step where a row begins."""
        found = {name: list(tensors[f"curve.{name}"].cpu()) for name in ("normal", "held") if rows}
        scored: list[tuple[int, Tensor]] = []
        if "curve.scored" in tensors:
            steps = tensors["curve.scored_at"].tolist()
            scored = list(zip(steps, tensors["curve.scored"].cpu(), strict=True))
        return cls(rows, found.get("normal", []), found.get("held", []), scored)


def _due(kept: list[int], step: int, most: int) -> bool:
    """Whether something is to be kept of `step`: all until there are many, then at the distance of the last two."""
    return len(kept) < max(2, most // 2) or step - kept[-1] >= kept[-1] - kept[-2]


def write_curves(folder: Path, curves: Mapping[str, LearningCurve], ids: Sequence[str]) -> None:
    """What nets, by name, did with the images `ids`: tables, and plots of them.

    `curve.csv` and `score_histogram.csv` are drawn; `bank_images.csv` is for `blemish evaluate`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    import pandas as pd

    rows = [{"net": name, **row} for name, curve in curves.items() for row in curve.rows]
    pd.DataFrame(rows, columns=["net", *COLUMNS]).to_csv(folder / "curve.csv", index=False)
    counted = [
        (name, step, low, high, count)
        for name, curve in curves.items()
        for step, counts, edges in histograms(curve)
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    table = pd.DataFrame(counted, columns=["net", "step", "low", "high", "images"])
    table.to_csv(folder / "score_histogram.csv", index=False, float_format="%.4f")
    _write_held(folder / HELD, curves, ids)
    _plot(folder / "curve.png", curves)
    _plot_histograms(folder / "score_histogram.png", curves)


def _write_held(file: Path, curves: Mapping[str, LearningCurve], ids: Sequence[str]) -> None:
    """Write which of the images `ids` each bank held. Synthetic images, which come last, are left out."""
    import pandas as pd

    columns = {
        f"{net}@{int(row['step'])}": held[: len(ids)].numpy().astype(np.uint8)
        for net, curve in curves.items()
        for row, held in zip(curve.rows, curve.held, strict=True)
    }
    pd.DataFrame({"path": list(ids), **columns}).to_csv(file, index=False, lineterminator="\n")


def histograms(curve: LearningCurve) -> list[tuple[int, list[int], list[float]]]:
    """For each step at which all images were scored: the step, counts and edges of the scores, 0..1."""
    found = []
    for step, logits in curve.scored:
        scores = logits[logits.isfinite()].double().sigmoid().numpy()
        counts, edges = np.histogram(scores, BINS, (0.0, 1.0))
        found.append((step, counts.tolist(), edges.tolist()))
    return found


def _plot(path: Path, curves: Mapping[str, LearningCurve]) -> None:
    from matplotlib.figure import Figure

    shown = (*MEANS, "bank_images")
    figure = Figure(figsize=(4 * len(shown), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(shown)), shown, strict=True):
        for net, curve in curves.items():
            axes.plot([row["step"] for row in curve.rows], [row[name] for row in curve.rows], label=net)
        axes.set(title=name.replace("_", " "), xlabel="step")
    figure.axes[-1].legend(fontsize="x-small")
    figure.savefig(path, dpi=100)


def _plot_histograms(path: Path, curves: Mapping[str, LearningCurve]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(curves), 3), layout="constrained")
    for axes, (name, curve) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        rows = histograms(curve)
        counts = np.array([row[1] for row in rows], dtype=float)
        axes.imshow(np.log1p(counts), aspect="auto", origin="lower", extent=(0, 1, 0, len(rows)))
        axes.set(title=name, xlabel="image score", yticks=np.arange(len(rows)) + 0.5)
        axes.set_yticklabels([str(step) for step, *_ in rows], fontsize="x-small")
    figure.savefig(path, dpi=100)


@dataclass(frozen=True)
class BankPurity:
    """A bank at one step: of the `images` in it whose truth is known, the share that is normal; None of no images."""

    net: str
    step: int
    images: int
    purity: float | None


def bank_purity(training: Path, anomalous: Mapping[str, bool]) -> tuple[BankPurity, ...]:
    """The purity of each bank, from what is known of some images by path; none where `training` has no table of banks.

    Raises `RequestError` if the file cannot be read.
    """
    import pandas as pd

    file = training / HELD
    if not file.is_file():
        return ()
    try:
        table = pd.read_csv(file, dtype={"path": str}, keep_default_na=False).set_index("path")
        labelled = table.loc[[path for path in table.index if path in anomalous]].astype(bool)
        banks = [(*name.rsplit("@", 1), labelled.index[labelled[name]]) for name in labelled]
        return tuple(
            BankPurity(
                net, int(step), len(held), 1 - sum(anomalous[path] for path in held) / len(held) if len(held) else None
            )
            for net, step, held in banks
        )
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"'{file}' cannot be read ({error}); fit again with `force`.") from None


def write_purity(folder: Path, banks: Sequence[BankPurity]) -> None:
    """`bank_purity.csv` and `bank_purity.png`, the purity over the steps.

    Raises `RequestError` if there are no banks, `JobError` if the disk refuses.
    """
    import pandas as pd
    from matplotlib.figure import Figure

    if not banks:
        raise RequestError("The Run has no table of rebuilt banks; `purity` needs a Run of the detector funad.")
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame([asdict(each) for each in banks])
        table.to_csv(folder / "bank_purity.csv", index=False, lineterminator="\n")
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for net, rows in table.groupby("net", sort=False):
            axes.plot(rows["step"], rows["purity"].astype(float), marker=".", label=net)
        axes.set(xlabel="step", ylabel="share of normal images in the bank")
        axes.legend(fontsize="x-small")
        figure.savefig(folder / "bank_purity.png", dpi=100)
