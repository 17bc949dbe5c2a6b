"""How good a Run is on the images that somebody labelled, and how two Runs differ. Looks only; nothing is fitted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import Decision, ReliabilityBin, reliability
from blemish.detectors.funad.curve import BankPurity, bank_purity
from blemish.images import ANOMALOUS, UNKNOWN
from blemish.images.labels import labels_of, latest, read
from blemish.machine.errors import RequestError, writing_to
from blemish.report.histogram import reliability_chart
from blemish.runs.artifact import TRAINING, read_config
from blemish.runs.run import Run, folder_of
from blemish.runs.stored_scores import read_scores
from blemish.scores import above

RESAMPLES = 500
PERCENTILES = (2.5, 97.5)  # of bootstrap samples
MOVED = 10  # images listed that changed their rank the most
Array = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class RunScores:
    """What is known of a folder of results: scores and SHA-256 by id, and the decision."""

    scores: Mapping[str, float]
    content: Mapping[str, str]
    decision: Decision


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Metrics on the labelled images; `print` shows them in sentences.

    Attributes
    ----------
    images, bad : how many are labelled, and how many of them bad.
    auroc, average_precision : of the ranking, with the interval of 95 % of bootstrap samples; None with one kind only.
    precision, recall, f1, false_alarms : of the flags at the threshold; None where there is nothing to divide by.
    precision_interval, recall_interval, f1_interval, false_alarms_interval : they are in these with a confidence of
        95 % if the labelled images are like all others: Wilson's, and for F1 of bootstrap samples.
    best_f1, best_threshold : what a threshold chosen with these labels would have given, for comparison only.
    bank_purity : of each bank that `funad` rebuilt as it learned, how many of its images are normal; see `BankPurity`.
    reliability : what the chances promised and what came of it, each image judged without its own label.
    notes : sentences a person should read.
    """

    images: int
    bad: int
    threshold: float
    auroc: float | None
    auroc_interval: Interval | None
    average_precision: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    false_alarms: float | None
    best_f1: float | None
    best_threshold: float | None
    bank_purity: tuple[BankPurity, ...]
    notes: tuple[str, ...]
    precision_interval: Interval | None = None
    recall_interval: Interval | None = None
    f1_interval: Interval | None = None
    false_alarms_interval: Interval | None = None
    reliability: tuple[ReliabilityBin, ...] = ()

    def __repr__(self) -> str:
        return (
            f"Evaluation({self.images} labelled images, {self.bad} bad; AUROC {_number(self.auroc)}, recall "
            f"{_number(self.recall)}, precision {_number(self.precision)}, F1 {_number(self.f1)})"
        )

    def __str__(self) -> str:
        return "\n".join([
            f"{self.images} labelled images, {self.bad} of them bad.",
            f"Ranking: AUROC {_number(self.auroc)}{_between(self.auroc_interval)}, average precision "
            f"{_number(self.average_precision)}.",
            f"Flags above {self.threshold:.4g}: found {_number(self.recall)}{_between(self.recall_interval)} of the "
            f"bad ones, flagged {_number(self.false_alarms)}{_between(self.false_alarms_interval)} of the good; "
            f"precision {_number(self.precision)}{_between(self.precision_interval)}, F1 {_number(self.f1)}"
            f"{_between(self.f1_interval)}.",
            f"The best threshold for these labels is {_number(self.best_threshold)}, with F1 {_number(self.best_f1)}.",
            *(
                f"Of {each.count} images with a chance of about {each.promised:.0%} of being bad, {each.bad:.0%} were."
                for each in self.reliability
            ),
            *_of_banks(self.bank_purity),
            *self.notes,
        ])  # fmt: skip


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two Runs on the images that both scored; `print` shows it in sentences.

    Attributes
    ----------
    images : how many both scored; `only_one` of either alone.
    agreement : Spearman's rank correlation of the scores.
    flagged : by both, by the first only, by the second only.
    moved : (id, rank in the first, rank in the second) of those whose rank changed most.
    auroc : of first and second on labelled images, and `difference` with its 95 % interval; None without labels.
    """

    images: int
    only_one: int
    agreement: float
    flagged: tuple[int, int, int]
    moved: tuple[tuple[str, int, int], ...]
    auroc: tuple[float, float] | None = None
    difference: tuple[float, float, float] | None = None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Comparison({self.images} images in both, rank correlation {self.agreement:.3f})"

    def __str__(self) -> str:
        both, one, other = self.flagged
        lines = [
            f"{self.images} images in both, {self.only_one} in one only. Rank correlation {self.agreement:.3f}.",
            f"Flagged by both {both}, by the first only {one}, by the second only {other}.",
        ]
        if self.auroc and self.difference:
            change, low, high = self.difference
            lines.append(
                f"AUROC {self.auroc[0]:.3f} and {self.auroc[1]:.3f}; the second is better by {change:+.3f} "
                f"({low:+.3f} to {high:+.3f})."
            )
        lines += [f"  {name}: rank {before} -> {after}" for name, before, after in self.moved if before != after]
        return "\n".join([*lines, *self.notes])


def evaluate(run: str | Path | Run, labels: str | Path | Mapping[str, str] | None = None) -> Evaluation:
    """Metrics of the scores in `run` on labels: how good the ranking and the flags are.

    Parameters
    ----------
    run : a Run, or the folder that `fit` or `score` left.
    labels : a table with the columns path and label (good or bad), or a dict from id to one of these words;
        `labels.csv` of the Run by default, where the review keeps its labels.

    Raises `RequestError` if no labelled image was scored.
    """
    folder = folder_of(run)
    found = _scored(folder)
    truth, notes = _truth(found, labels_of(folder, labels))
    names = sorted(truth)
    bad = np.array([truth[name] == ANOMALOUS for name in names])
    scores = np.array([found.scores[name] for name in names])
    flags = above(scores, found.decision.threshold)
    hits, false = int((flags & bad).sum()), int((flags & ~bad).sum())
    auroc, interval = _auroc(scores, bad)
    best = _best(scores, bad)
    banks = bank_purity(folder / TRAINING, dict(zip(names, bad.tolist(), strict=True)))
    if not bad.any() or bad.all():
        notes.append("The labels are of one kind only, so the ranking cannot be judged.")
    return Evaluation(
        len(names), int(bad.sum()), found.decision.threshold, auroc, interval, _precision(scores, bad),
        _share(hits, hits + false), _share(hits, int(bad.sum())), _share(2 * hits, hits + false + int(bad.sum())),
        _share(false, int((~bad).sum())), *best, banks, tuple(notes), _wilson(hits, hits + false),
        _wilson(hits, int(bad.sum())), _f1_interval(flags, bad), _wilson(false, int((~bad).sum())),
        _reliability(found, truth),
    )  # fmt: skip


def compare(
    first: str | Path | Run, second: str | Path | Run, labels: str | Path | Mapping[str, str] | None = None
) -> Comparison:
    """How two Runs rank and flag the images that both scored; `labels` as in `evaluate`, none by default.

    Raises `RequestError` if there are none.
    """
    from scipy.stats import rankdata, spearmanr

    one, other = _scored(folder_of(first)), _scored(folder_of(second))
    names = sorted(set(one.scores) & set(other.scores))
    if len(names) < 2:
        raise RequestError(f"'{first}' and '{second}' share {len(names)} images; compare two Runs of one folder.")
    a, b = (np.array([each.scores[name] for name in names]) for each in (one, other))
    places = [rankdata(-values, method="ordinal").astype(int) for values in (a, b)]
    flags = [above(values, each.decision.threshold) for values, each in ((a, one), (b, other))]
    most = np.argsort(-abs(places[0] - places[1]), kind="stable")[:MOVED]
    agreement = float(spearmanr(a, b).statistic) if np.ptp(a) and np.ptp(b) else 1.0
    result: dict[str, Any] = {
        "images": len(names),
        "only_one": len(set(one.scores) ^ set(other.scores)),
        "agreement": agreement,
        "flagged": (
            int((flags[0] & flags[1]).sum()), int((flags[0] & ~flags[1]).sum()), int((~flags[0] & flags[1]).sum())
        ),
        "moved": tuple((names[row], int(places[0][row]), int(places[1][row])) for row in most),
    }  # fmt: skip
    return Comparison(**result, **(_difference(one, other, labels) if labels is not None else {}))


def _scored(folder: Path) -> RunScores:
    decision = read_config(folder).get("decision")
    if not isinstance(decision, dict):
        raise RequestError(f"'{folder}' holds no scores with a threshold; give what `fit` or `score` wrote.")
    stored = read_scores(folder)
    scores = dict(zip(stored.scores.ids, stored.scores.image.astype(float).tolist(), strict=True))
    return RunScores(scores, dict(zip(scores, stored.content, strict=True)), Decision.from_json(decision))


def _truth(found: RunScores, labels: str | Path | Mapping[str, str]) -> tuple[dict[str, int], list[str]]:
    rows, notes = read(labels)
    last, more = latest(rows, found.content)
    truth = {name: row.meaning for name, row in last.items() if row.meaning != UNKNOWN}
    if not truth:
        place = "" if isinstance(labels, Mapping) else f" in '{labels}'"
        raise RequestError(f"None of the {len(rows)} labels{place} says good or bad of an image that was scored.")
    notes += more
    if len(truth) < len(found.scores):
        notes.append(
            f"{len(truth)} of {len(found.scores)} images are labelled. If they were picked from the ranking's top, "
            "these figures are not for all images."
        )
    return truth, notes


def _auroc(scores: Array, bad: NDArray[np.bool_]) -> tuple[float | None, Interval | None]:
    if not bad.any() or bad.all():
        return None, None
    return _area(scores, bad), _resampled(lambda rows: _area(scores[rows], bad[rows]), bad)


def _resampled(figure: Callable[[NDArray[np.int64]], float], bad: NDArray[np.bool_]) -> Interval:
    """The bootstrap interval of a metric; samples with only good or only bad images are left out."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(bad), len(bad)) for _ in range(RESAMPLES)]
    found = [figure(rows) for rows in draws if 0 < bad[rows].sum() < len(rows)]
    low, high = np.percentile(found, PERCENTILES) if found else (np.nan, np.nan)
    return float(low), float(high)


def _area(scores: Array, bad: NDArray[np.bool_]) -> float:
    """The AUROC by ranks, many times quicker than scikit-learn's, which the bootstrap needs."""
    from scipy.stats import rankdata

    ranks, count = rankdata(scores), int(bad.sum())
    return float((ranks[bad].sum() - count * (count + 1) / 2) / (count * (len(bad) - count)))


def _precision(scores: Array, bad: NDArray[np.bool_]) -> float | None:
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(bad, scores)) if bad.any() and not bad.all() else None


def _best(scores: Array, bad: NDArray[np.bool_]) -> tuple[float | None, float | None]:
    from sklearn.metrics import precision_recall_curve

    if not bad.any():
        return None, None
    precision, recall, cuts = precision_recall_curve(bad, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    at = int(np.argmax(f1[: len(cuts)]))
    return float(f1[at]), float(cuts[at])


def _difference(one: RunScores, other: RunScores, labels: str | Path | Mapping[str, str]) -> dict[str, Any]:
    truth, notes = _truth(one, labels_of(Path(), labels))
    names = sorted(set(truth) & set(other.scores))
    bad = np.array([truth[name] == ANOMALOUS for name in names])
    if not bad.any() or bad.all():
        notes.append("The labels are of one kind only, so the rankings cannot be compared.")
        return {"notes": tuple(notes)}
    a, b = (np.array([each.scores[name] for name in names]) for each in (one, other))
    pair = _area(a, bad), _area(b, bad)
    between = _resampled(lambda rows: _area(b[rows], bad[rows]) - _area(a[rows], bad[rows]), bad)
    return {"auroc": pair, "difference": (pair[1] - pair[0], *between), "notes": tuple(notes)}


def _reliability(found: RunScores, truth: Mapping[str, int]) -> tuple[ReliabilityBin, ...]:
    labels = np.array([truth.get(name, UNKNOWN) for name in found.scores])
    return tuple(reliability(np.array(list(found.scores.values())), labels))


def write_reliability(folder: Path, bins: Sequence[ReliabilityBin]) -> None:
    """Leave `reliability.csv` and `reliability.png` in `folder`. Raises `RequestError` without bins."""
    import pandas as pd

    if not bins:
        raise RequestError("`reliability` needs ten labelled images at least; review some more.")
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame([asdict(each) for each in bins])
        table.to_csv(folder / "reliability.csv", index=False, float_format="%.4f")
        reliability_chart(bins).savefig(folder / "reliability.png", dpi=150)


def _wilson(part: int, whole: int) -> Interval | None:
    from scipy.stats import binomtest

    if not whole:
        return None
    found = binomtest(part, whole).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def _f1_interval(flags: NDArray[np.bool_], bad: NDArray[np.bool_]) -> Interval | None:
    rows = np.random.default_rng(0).integers(0, len(bad), (RESAMPLES, len(bad)))
    hits, called = (flags & bad)[rows].sum(1), flags[rows].sum(1) + bad[rows].sum(1)
    if not called.any():
        return None
    low, high = np.percentile(2 * hits[called > 0] / called[called > 0], PERCENTILES)
    return float(low), float(high)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _between(interval: Interval | None) -> str:
    return f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""


def _of_banks(banks: Sequence[BankPurity]) -> list[str]:
    """A sentence on the first and the last banks, if there are any."""
    if not banks:
        return []
    steps = {each.step for each in banks}
    found = [
        f"{_mean([each.purity for each in banks if each.step == step])} at step {step}"
        for step in sorted({min(steps), max(steps)})
    ]
    return [f"Good, of the labelled images in the banks of funad: {', '.join(found)}."]


def _mean(values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    return _number(sum(found) / len(found) if found else None)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
