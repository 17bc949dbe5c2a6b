"""How well folders are decided without labels: the model, and the rules it was chosen over, on kept training scores.

Cells are made by `decision_cells.py`. Nothing but this script sees a label.

    python benchmarks/decisions.py results/decisions --kinds full
    python benchmarks/decisions.py results/decisions --kinds full --rules mad2 mad3 pythresh:MIXMOD
    python benchmarks/decisions.py results/decisions --kinds full --cells

A line a rule: `kept` is the F1 of the flags over the best F1 that any threshold would give; `count` how often the
estimated number of bad images is within a factor of 1.5 at 5 to 20 % contamination; `inside` how often the true number
lies in the interval; `clean` what is flagged in folders without a bad image, on the mean and at most; `none` how often
such folders show no sign of defects, and how often one of 5 % and more does (with a ranking above .9: `wrong`); `ece`
the expected calibration error of the chances over all cells that have them.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score

from blemish.calibration import CLEAN, decide
from blemish.scores.cuts import median_mad

MIDDLE = (0.04, 0.25)  # contamination as bad / good: 5, 10 and 20 %
PYTHRESH = ("MIXMOD", "CLF", "FILTER")


def best_f1(bad: np.ndarray, score: np.ndarray) -> float:
    """The F1 of the best threshold there is."""
    precision, recall, _ = precision_recall_curve(bad, score)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def of_model(score: np.ndarray, stricter: np.ndarray | None = None) -> dict[str, object]:
    """What `blemish fit` decides; without `stricter`, what it decides by one view."""
    found = decide(score, stricter=stricter)
    low, high = found.contamination_interval
    look = sum(band == "look" for band in found.bands(score))
    return {
        "flags": score > np.float32(found.threshold), "estimate": found.contamination, "low": low, "high": high,
        "answer": found.answer, "chance": found.chances(score), "look": look / len(score),
    }  # fmt: skip


def storey(score: np.ndarray) -> dict[str, object]:
    """Storey's good share on p-values against the lower half, mirrored; flags by Benjamini and Hochberg at 20 %."""
    middle = np.median(score)
    null = np.sort(np.abs(score[score <= middle] - middle))
    p = np.where(score <= middle, 1.0, (1 + len(null) - np.searchsorted(null, score - middle)) / (2 * (len(null) + 1)))
    share = max(0.0, 1 - float((p > 0.25).mean()) / 0.75)
    order = np.argsort(p)
    passed = p[order] * (1 - share) <= 0.2 * np.arange(1, len(p) + 1) / len(p)
    flags = np.zeros(len(p), dtype=bool)
    if passed.any():
        flags[order[: np.flatnonzero(passed)[-1] + 1]] = True
    return {"flags": flags, "estimate": share}


def gaussians(score: np.ndarray) -> dict[str, object]:
    """Two Gaussians on the logarithm of the scores, where a Bayesian criterion prefers them to one by 10."""
    from sklearn.mixture import GaussianMixture

    logs = np.log(score - score.min() + 1)[:, None]
    one, two = (GaussianMixture(k, random_state=0, n_init=3).fit(logs) for k in (1, 2))
    if one.bic(logs) - two.bic(logs) < 10:
        return {"flags": np.zeros(len(score), dtype=bool)}
    upper = int(np.argmax(two.means_[:, 0]))
    chance = two.predict_proba(logs)[:, upper]
    return {"flags": (chance > 0.5) & (score > np.median(score)), "estimate": float(two.weights_[upper])}


def pythresh(kind: str) -> Callable[[np.ndarray], dict[str, object]]:
    """A rule of PyThresh (pip install pythresh)."""

    def flags(score: np.ndarray) -> dict[str, object]:
        made = getattr(import_module(f"pythresh.thresholds.{kind.lower()}"), kind)()
        order = np.argsort(score, kind="stable")
        found = np.zeros(len(score), dtype=bool)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[order] = np.asarray(made.eval(score[order].astype(float))) > 0
        return {"flags": found}

    return flags


def combined(score: np.ndarray) -> dict[str, object]:
    """The majority of PyThresh's three."""
    votes = [pythresh(kind)(score)["flags"] for kind in PYTHRESH]
    return {"flags": np.sum(votes, axis=0) >= 2}


RULES: dict[str, Callable[[np.ndarray], dict[str, object]]] = {
    "model": of_model,
    "one view": of_model,
    **{f"mad{k:g}": (lambda score, k=k: {"flags": score > median_mad(score, k)}) for k in (2, 2.5, 3)},
    "gaussians": gaussians,
    "storey": storey,
    **{f"pythresh:{kind}": pythresh(kind) for kind in PYTHRESH},
    "pythresh:all": combined,
}


def judged(file: Path, rule: str) -> dict[str, object]:
    """What a rule says of a cell, against the truth."""
    cell = np.load(file)
    score, bad = cell["score"], cell["bad"].astype(bool)
    start = time.perf_counter()
    found = RULES[rule](score, *([cell["stricter"]] if rule == "model" else []))
    flags, some = np.asarray(found["flags"]), bool(bad.any())
    truth, estimate = float(bad.mean()), float(found.get("estimate", flags.mean()))
    best = best_f1(bad, score) if some else np.nan
    return {
        "cell": file.stem, "rule": rule, "images": len(bad), "bad": int(bad.sum()), "share": bad.sum() / (~bad).sum(),
        "auroc": roc_auc_score(bad, score) if some else np.nan, "answer": found.get("answer", ""),
        "flagged": float(flags.mean()), "kept": f1_score(bad, flags) / best if some else np.nan, "estimate": estimate,
        "low": found.get("low", np.nan), "high": found.get("high", np.nan), "truth": truth,
        "look": found.get("look", np.nan), "seconds": time.perf_counter() - start,
        "chance": found.get("chance"), "truths": bad,
    }  # fmt: skip


def calibration_error(rows: pd.DataFrame, bins: int = 10) -> float:
    """The mean distance of promised chances from shares that are bad, over all images of cells with chances."""
    some = rows[[chance is not None for chance in rows["chance"]]]
    if some.empty:
        return np.nan
    chance, bad = np.concatenate(list(some["chance"])), np.concatenate(list(some["truths"]))
    part = np.minimum((chance * bins).astype(int), bins - 1)
    gaps = [abs(chance[part == at].mean() - bad[part == at].mean()) * (part == at).sum() for at in np.unique(part)]
    return float(sum(gaps) / len(chance))


def summary(rows: pd.DataFrame) -> dict[str, object]:
    """The figures of a rule."""
    some, clean = rows[rows["bad"] > 0], rows[rows["bad"] == 0]
    middle = some[some["share"].between(*MIDDLE)]
    close = (middle["estimate"] / middle["truth"]).between(1 / 1.5, 1.5).sum()
    inside = (rows["low"] - 1e-9 <= rows["truth"]) & (rows["truth"] <= rows["high"] + 1e-9)
    wrong = (some["answer"] == CLEAN) & (some["share"] > MIDDLE[0]) & (some["auroc"] > 0.9)
    return {
        "kept": f"{some['kept'].mean():.3f}", "lowest": f"{some['kept'].min():.2f}",
        "count": f"{close} of {len(middle)}", "inside": f"{inside.mean():.2f}" if rows["low"].notna().all() else "",
        "clean": f"{clean['flagged'].mean():.3f}, {clean['flagged'].max():.3f}" if len(clean) else "",
        "none": f"{(clean['answer'] == CLEAN).sum()} of {len(clean)}" if (rows["answer"] != "").all() else "",
        "wrong": f"{wrong.sum()} of {len(some)}" if (rows["answer"] != "").all() else "",
        "ece": f"{calibration_error(rows):.3f}", "seconds": f"{rows['seconds'].mean():.2f}",
    }  # fmt: skip


def main() -> None:
    """Judge the rules on the cells that are there and print a table."""
    from markdown_table import markdown

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells_folder", type=Path)
    parser.add_argument("--kinds", nargs="+", default=["full"])
    parser.add_argument("--rules", nargs="+", default=["model"], choices=list(RULES))
    parser.add_argument("--cells", action="store_true", help="print each cell, too")
    given = parser.parse_args()
    table = []
    for kind in given.kinds:
        files = sorted(given.cells_folder.glob(f"{kind}-*.npz"))
        for rule in given.rules:
            rows = pd.DataFrame([judged(file, rule) for file in files])
            table.append({"kind": kind, "rule": rule, "cells": len(rows), **summary(rows)})
            if given.cells:
                print(markdown(rows.drop(columns=["chance", "truths"]), 3), flush=True)
            print(table[-1], flush=True)
    print(markdown(pd.DataFrame(table), 3))


if __name__ == "__main__":
    main()
