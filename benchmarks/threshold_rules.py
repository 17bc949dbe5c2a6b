"""How well each rule draws the line without labels, on contaminated folders whose truth is kept aside.

Each cell (set, contamination, seed) is fitted once, as a user would fit it, and its training scores are kept as
OUT/cells/*.csv; rules are then run on the kept scores, so that a new rule costs seconds. Finished cells are not fitted
again. Contamination is anomalies / good training images. Nothing but this script sees a label.

    python benchmarks/threshold_rules.py ../shared/data --out results/threshold --seeds 0 1 2
    python benchmarks/threshold_rules.py ../shared/data --out results/threshold --summary

OUT/threshold_rules.csv has a row a cell and rule: `kept` is the F1 of the flags over the best F1 that any threshold
would give, `factor` the estimated contamination over the true one, `flagged_share` what counts in a clean folder.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score

from blemish.benchmark.contamination import contaminate
from blemish.benchmark.datasets import Category, open_datasets
from ranking import SETS
from training_cells import cell_file, keep_cell, read_cell

RATIOS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4)
PYTHRESH = ("FILTER", "IQR", "MTT", "KARCH", "GESD", "CLF")
COLUMNS = (
    "set", "detector", "ratio", "seed", "rule", "images", "bad", "auroc", "supported", "threshold", "threshold_low",
    "threshold_high", "flagged_share", "f1", "best_f1", "kept", "estimate", "estimate_low", "estimate_high", "truth",
    "factor",
)  # fmt: skip


def best_f1(bad: np.ndarray, score: np.ndarray) -> float:
    """The F1 of the best threshold there is."""
    precision, recall, _ = precision_recall_curve(bad, score)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def fitted(category: Category, ratio: float, seed: int, given: argparse.Namespace) -> pd.DataFrame:
    """Scores and truth of a cell, from an earlier run, one of `contaminated.py --cells`, or a fit now."""
    file = cell_file(given.out / "cells", category.name, given.detector, ratio, seed)
    if not file.is_file():
        from blemish import jobs

        manifest = contaminate(category, ratio, seed=seed)
        settings = dict(text.split("=", 1) for text in given.set)
        run = jobs.fit(
            manifest.training_set(category), detector=given.detector, seed=seed, cache=given.cache,
            threads=given.threads,
            settings={name: float(value) if "." in value else int(value) for name, value in settings.items()},
        )  # fmt: skip
        keep_cell(file, run.scores, manifest)
    return read_cell(file)


def judged(table: pd.DataFrame, rule: str, false_alarms: float | None) -> dict[str, object]:
    """What a rule says of a cell, against the truth."""
    from blemish.calibration import decide

    score, bad = table["score"].to_numpy(np.float32), table["bad"].to_numpy(bool)
    decision = decide(score, rule=rule, false_alarms=false_alarms)
    flags, some = score > decision.threshold, bool(bad.any())
    f1, best = (float(f1_score(bad, flags)), best_f1(bad, score)) if some else (float("nan"), float("nan"))
    low, high = decision.threshold_interval or (float("nan"),) * 2
    least, most = decision.contamination_interval or (float("nan"),) * 2
    return {
        "images": len(table), "bad": int(bad.sum()), "auroc": roc_auc_score(bad, score) if some else float("nan"),
        "supported": int(decision.supported), "threshold": decision.threshold, "threshold_low": low,
        "threshold_high": high, "flagged_share": float(flags.mean()), "f1": f1, "best_f1": best,
        "kept": f1 / best if some else float("nan"), "estimate": decision.contamination, "estimate_low": least,
        "estimate_high": most, "truth": float(bad.mean()),
        "factor": decision.contamination / bad.mean() if some else float("nan"),
    }  # fmt: skip


def summary(rows: pd.DataFrame) -> str:
    """The figures that the default rule is chosen by, a line a rule."""
    lines = ["| rule | F1 kept, 2 to 40 % | lowest cell | within 1.5, 5 to 20 % | most flagged at 0 % | unsupported |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for rule, part in rows.groupby("rule"):
        some, middle, clean = part[part["ratio"] > 0], part[part["ratio"].between(0.05, 0.2)], part[part["ratio"] == 0]
        within = middle["factor"].between(1 / 1.5, 1.5)
        lines.append(
            f"| {rule} | {some['kept'].mean():.3f} | {some['kept'].min():.3f} | {within.sum()} of {len(within)} | "
            f"{clean['flagged_share'].max():.3f} | {(part['supported'] == 0).sum()} of {len(part)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Fit what is missing, judge every rule, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--ratios", nargs="+", type=float, default=RATIOS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--detector", default="funad")
    parser.add_argument("--set", nargs="*", default=[], help="NAME=NUMBER, settings of the detector")
    parser.add_argument("--rules", nargs="+", help="instead of all")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--summary", action="store_true", help="only print what is there")
    given = parser.parse_args()
    table = given.out / "threshold_rules.csv"
    if not given.summary:
        from blemish.calibration import NAMES

        rules = [(name, name, None) for name in given.rules or (*NAMES, *(f"pythresh:{each}" for each in PYTHRESH))]
        if not given.rules:
            rules += [(f"tail {share:g}", "tail", share) for share in (0.005, 0.02, 0.05)]
        given.out.mkdir(parents=True, exist_ok=True)
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for category in open_datasets(given.data, list(given.sets)):
                for ratio in given.ratios:
                    for seed in given.seeds:
                        cell = fitted(category, ratio, seed, given)
                        about = {"set": category.name, "detector": given.detector, "ratio": ratio, "seed": seed}
                        for label, rule, share in rules:
                            writer.writerow({**about, "rule": label, **judged(cell, rule, share)})
                        file.flush()
                        print(f"{category.name} {ratio:g} {seed} done", flush=True)
    print(summary(pd.read_csv(table)))


if __name__ == "__main__":
    main()
