"""Rank contaminated folders without labels, as a user would, and measure it with the labels kept aside.

For each set below DATA (MVTec layout) and each seed: all of train/good plus anomalies drawn from the test set at
RATIO are put into one flat folder with neutral names, `blemish fit` runs on it as a process of its own, and the
ranking in its scores.csv is compared with the truth. Nothing but this script sees a label.

    python benchmarks/ranking.py ../shared/data --seeds 0 1 2 --table ranking.md
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score

SETS = ("mvtec_bottle", "mvtec_screw", "mvtec_transistor", "magnetic_tile")
COLUMNS = (
    "set", "settings", "ratio", "seed", "images", "bad", "auroc", "flagged", "f1", "best_f1", "estimate", "truth",
    "seconds", "peak_mib", "score_per_s",
)  # fmt: skip


def contaminated(source: Path, target: Path, ratio: float, seed: int) -> dict[str, bool]:
    """Link train/good and `ratio` times as many anomalies into `target`; returns whether each name is bad."""
    good = sorted((source / "train" / "good").iterdir())
    bad = sorted(path for path in (source / "test").rglob("*.*") if path.parent.name != "good")
    rng = np.random.default_rng(seed)
    count = round(ratio * len(good))
    if count > len(bad):  # the protocol's `shrink`: drop normals until the ratio holds
        count = len(bad)
        good = [good[i] for i in sorted(rng.choice(len(good), round(count / ratio), replace=False))]
    chosen = good + [bad[i] for i in sorted(rng.choice(len(bad), count, replace=False))]
    truth = {}
    for number, at in enumerate(rng.permutation(len(chosen))):
        name = f"{number:05d}{chosen[at].suffix}"
        (target / name).symlink_to(chosen[at].resolve())
        truth[name] = bool(at >= len(good))
    return truth


def run_once(source: Path, ratio: float, seed: int, settings: list[str], cache: Path) -> dict[str, object]:
    """Fit one folder in a process of its own; returns a row of the table."""
    blemish = [sys.executable, "-m", "blemish"]
    with tempfile.TemporaryDirectory() as place:
        folder, run = Path(place) / "folder", Path(place) / "run"
        folder.mkdir()
        truth = contaminated(source, folder, ratio, seed)
        start = time.perf_counter()
        fit = [*blemish, "fit", str(folder), "--out", str(run), "--seed", str(seed), "--quiet", *settings]
        subprocess.run([*fit, "--cache", str(cache)], check=True)
        seconds = time.perf_counter() - start
        with (run / "scores.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        bad = np.array([truth[row["path"]] for row in rows])
        score = np.array([float(row["score"]) for row in rows])
        flagged = np.array([row["flagged"] == "1" for row in rows])
        config = json.loads((run / "config.json").read_text())
        some = bad.any()
        precision, recall, _ = precision_recall_curve(bad, score) if some else ([0.0], [0.0], None)
        best = np.max(2 * np.array(precision) * recall / np.maximum(np.array(precision) + recall, 1e-9))
        return {
            "set": source.name,
            "settings": " ".join(settings) or "default",
            "ratio": ratio,
            "seed": seed,
            "images": len(rows),
            "bad": int(bad.sum()),
            "auroc": round(float(roc_auc_score(bad, score)), 4) if some else "",
            "flagged": int(flagged.sum()),
            "f1": round(float(f1_score(bad, flagged)), 3) if some else "",
            "best_f1": round(float(best), 3) if some else "",
            "estimate": round(config["decision"]["contamination"], 3),
            "truth": round(float(bad.mean()), 3),
            "seconds": round(seconds, 1),
            "peak_mib": config["peak_memory_mib"],
            "score_per_s": round(scoring_rate(run, folder), 1),
        }


def scoring_rate(run: Path, folder: Path, count: int = 64) -> float:
    """Images scored a second from files, nothing kept from the fit, process start apart."""
    import blemish

    loaded = blemish.load(run)
    paths = sorted(folder.iterdir())
    with tempfile.TemporaryDirectory() as empty:
        from blemish.machine.runtime import use_runtime

        with use_runtime(cache=Path(empty), keep_features=False):
            loaded.score(paths[:4])
            start = time.perf_counter()
            loaded.score(paths[:count])
            return min(count, len(paths)) / (time.perf_counter() - start)


def table(rows: list[dict[str, object]], command: str) -> str:
    """The rows as Markdown, under a line that says how they came about."""
    head = (
        f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, {processor()}.\n\n"
    )
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(str(row[column]) for column in COLUMNS) + " |" for row in rows]
    return head + "\n".join(lines) + "\n"


def processor() -> str:
    """What the system calls the CPU."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    """Run all sets and seeds, one after the other; append the table to a file if one is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--ratio", nargs="+", type=float, default=[0.1])
    parser.add_argument("--cache", type=Path, help="keep features here; by default they are made anew for each run")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--fit", nargs=argparse.REMAINDER, default=[], help="the rest is passed on to `blemish fit`")
    given = parser.parse_args()
    rows = []
    for name in given.sets:
        for ratio in given.ratio:
            for seed in given.seeds:
                with tempfile.TemporaryDirectory() as empty:
                    row = run_once(given.data / name, ratio, seed, given.fit, given.cache or Path(empty))
                rows.append(row)
                print(json.dumps(row), flush=True)
    text = table(rows, " ".join(["python", *sys.argv]))
    print(text)
    if given.table:
        with given.table.open("a", encoding="utf-8") as file:
            file.write("\n" + text)


if __name__ == "__main__":
    main()
