"""Whether a promised rate of false alarms holds: known good images held out of a folder, at random, many times.

Each split takes 30 or 100 good images as `--normals` and 60 others as new ones; the rest and some defects are the
folder. The detector is fitted on folder and normals as `blemish fit` does, and new images are scored. Rows that stand
in RESULTS are not made again.

    python benchmarks/promise.py ../shared/data --results promise.csv --splits 50
    python benchmarks/promise.py --summary promise.csv
    python benchmarks/promise.py --cells results/decisions --splits 200

The last draws the splits from the good images of folders that `decision_cells.py` kept, contaminated by 10 %: their
leave-one-out scores stand for those of normals and of new images, so nothing is fitted.

With four sets and 50 splits there are 200 splits for each number of normals. `rate` is what is promised with a
confidence of 97.5 %, `realised` the share of the new good images that was flagged.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from blemish.benchmark.datasets import Category, open_datasets
from blemish.calibration import promised
from blemish.detectors import detector_class
from blemish.jobs.preparing import is_normal, with_normals
from blemish.machine.runtime import use_runtime
from markdown_table import markdown
from ranking import SETS

COUNTS = (30, 100)
NEW, REST, BAD = 60, 60, 12  # good images that are new, good and bad ones in the folder
WANTED = 0.05


def split_of(category: Category, count: int, seed: int) -> dict[str, object]:
    """One split: fit with the normals, promise, and see what new good images do."""
    rng = np.random.default_rng([seed, count])
    good = [each.path for each in (*category.train, *category.normals)]
    good = [good[at] for at in rng.permutation(len(good))]
    bad = [category.anomalies[at].path for at in rng.permutation(len(category.anomalies))[:BAD]]
    normals, new, rest = good[:count], good[count : count + NEW], good[count + NEW :]
    folder = with_normals(category.images([*rest[:REST], *bad]), category.images(normals))
    detector = detector_class("nearest_images")(random_state=seed)
    scores = detector.fit(folder).training_scores_
    known = np.array([is_normal(name) for name in scores.ids])
    threshold, promise = promised(scores.image[known], WANTED)
    fresh = detector.score(category.images(new)).image
    return {
        "set": category.name, "normals": count, "seed": seed, "rate": promise.rate, "expected": promise.expected,
        "realised": float((fresh > threshold).mean()), "new": len(fresh), "folder": len(scores),
    }  # fmt: skip


def split_of_cell(file: Path, count: int, seed: int) -> dict[str, object]:
    """One split of the good images of a folder that was fitted before."""
    cell = np.load(file)
    good = np.random.default_rng([seed, count]).permutation(cell["score"][~cell["bad"].astype(bool)])
    threshold, promise = promised(good[:count], WANTED)
    return {
        "set": file.stem.split("-")[1], "normals": count, "seed": seed, "rate": promise.rate,
        "expected": promise.expected, "realised": float((good[count:] > threshold).mean()), "new": len(good) - count,
    }  # fmt: skip


def summary(rows: pd.DataFrame) -> str:
    """In how many splits the promise held."""
    rows = rows.assign(held=rows["realised"] <= rows["rate"])
    keys = ["normals"]
    parts = [rows.groupby(each) for each in (keys, ["normals", "set"])]
    return "\n".join(
        markdown(
            part[["rate", "expected", "realised", "held"]].mean().join(part.size().rename("splits")).reset_index(), 3
        )
        for part in parts
    )


def main() -> None:
    """Make the rows that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--summary", type=Path)
    parser.add_argument("--cells", type=Path)
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    if given.summary:
        print(summary(pd.read_csv(given.summary)))
        return
    if given.cells:
        files = sorted(given.cells.glob("full-*-0.1-0.npz"))
        rows = [split_of_cell(file, count, seed) for file in files for count in COUNTS for seed in range(given.splits)]
        print(summary(pd.DataFrame(rows)))
        return
    if not given.data or not given.results:
        parser.error("name the data and --results FILE, or --summary FILE")
    known = pd.read_csv(given.results) if given.results.exists() else pd.DataFrame(columns=["set", "normals", "seed"])
    done = set(known[["set", "normals", "seed"]].itertuples(index=False, name=None))
    categories = open_datasets(given.data, list(given.sets))
    with use_runtime(threads=given.threads, cache=given.cache):
        for seed in range(given.splits):
            for category in categories:
                for count in COUNTS:
                    if (category.name, count, seed) in done:
                        continue
                    row = pd.DataFrame([split_of(category, count, seed)])
                    row.to_csv(given.results, mode="a", header=not given.results.exists(), index=False)
                    print(*row.iloc[0].tolist(), flush=True)


if __name__ == "__main__":
    main()
