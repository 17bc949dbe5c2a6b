"""What a few reviewed images are worth: a simulated reviewer who answers with the truth.

For each set and seed a contaminated folder is fitted; images are picked one after the other, by the page's proposals
("teach"), from the top of the ranking ("top") or at random ("random"), and labelled; after 10 and after 30 the folder
is fitted again with the labels. Rows that are in OUT/review.csv already are not made again.

    python benchmarks/review.py ../shared/data --out results/review --sets mvtec_screw magnetic_tile --seeds 0 1 2
    python benchmarks/review.py ../shared/data --out results/review --summary

`auroc` is that of the ranking of the whole folder by score, labels not used to reorder it; `auroc_rest` of the images
nobody reviewed. `f1` is that of the decisions on the whole folder, where a label overrules the threshold; `f1_rest`
that of the flags on the images nobody reviewed. Nothing but the simulated reviewer sees a label.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score, roc_auc_score

from ranking import SETS, contaminated

COUNTS = (0, 10, 30)
WAYS = ("teach", "top", "random")
COLUMNS = (
    "set", "detector", "ratio", "seed", "way", "reviewed", "reviewed_bad", "auroc", "auroc_rest", "f1", "f1_rest",
    "threshold", "estimate", "truth",
)  # fmt: skip


def picked(run, truth: dict[str, bool], way: str, count: int, seed: int) -> dict[str, bool]:
    """The names that are reviewed and what is said of them, one after the other as on the page."""
    from blemish.calibration import folder_chances, two_groups
    from blemish.images import ANOMALOUS, NORMAL, UNKNOWN
    from blemish.review.ranking import describe, propose

    names = run.scores.ranking()
    if way != "teach":
        order = names if way == "top" else np.random.default_rng(seed).permutation(names).tolist()
        return {name: truth[name] for name in order[:count]}
    scores = run.scores.subset(names)
    model = two_groups(scores.image)
    described, labels, alone = describe(scores), np.full(len(names), UNKNOWN), np.arange(len(names))
    for _ in range(count):
        chance = folder_chances(model.knowing(scores.image, labels), scores.image).of(scores.image)
        (row,) = propose(scores.image, chance, run.threshold_, labels, described, alone, 1)
        labels[row] = ANOMALOUS if truth[names[row]] else NORMAL
    return {names[row]: truth[names[row]] for row in np.flatnonzero(labels != UNKNOWN)}


def measured(run, truth: dict[str, bool], said: dict[str, bool]) -> dict[str, object]:
    """Ranking and decisions of a fit against the truth."""
    names = list(run.scores.ids)
    bad = np.array([truth[name] for name in names])
    rest = np.array([name not in said for name in names])
    flags = run.scores.image > run.threshold_
    decided = np.array([said.get(name, bool(flag)) for name, flag in zip(names, flags, strict=True)])
    some = bad[rest].any() and not bad[rest].all()
    return {
        "reviewed": len(said), "reviewed_bad": sum(said.values()), "auroc": roc_auc_score(bad, run.scores.image),
        "auroc_rest": roc_auc_score(bad[rest], run.scores.image[rest]) if some else float("nan"),
        "f1": f1_score(bad, decided), "f1_rest": f1_score(bad[rest], flags[rest]) if some else float("nan"),
        "threshold": run.threshold_, "estimate": run.contamination_, "truth": float(bad.mean()),
    }  # fmt: skip


def cell(source: Path, ratio: float, seed: int, given: argparse.Namespace, made: set[tuple[str, ...]]):
    """Rows of one folder: without labels, and for each way and count."""
    import blemish

    about = {"set": source.name, "detector": given.detector, "ratio": ratio, "seed": seed}
    wanted = [(way, count) for count in given.counts for way in (given.ways if count else ["none"])]
    wanted = [each for each in wanted if key({**about, "way": each[0], "reviewed": each[1]}) not in made]
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as place:
        folder, file = Path(place) / "folder", Path(place) / "labels.csv"
        folder.mkdir()
        truth = contaminated(source, folder, ratio, seed)
        how = {"detector": given.detector, "seed": seed, "cache": given.cache}
        first = blemish.fit(folder, **how, threads=given.threads)
        for way, count in wanted:
            said = picked(first, truth, way, count, seed) if count else {}
            run = first
            if count:
                lines = [f"{name},{'bad' if bad else 'good'}" for name, bad in said.items()]
                file.write_text("path,label\n" + "\n".join(lines) + "\n")
                run = blemish.fit(folder, **how, threads=given.threads, labels=file)
            yield {**about, "way": way, **measured(run, truth, said)}


def key(row: dict[str, object]) -> tuple[str, ...]:
    """What a row is known by."""
    return tuple(str(row[name]) for name in ("set", "detector", "ratio", "seed", "way", "reviewed"))


def main() -> None:
    """Make the rows that are missing, and print their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.1])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS)
    parser.add_argument("--ways", nargs="+", default=WAYS)
    parser.add_argument("--detector", default="nearest_images")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--summary", action="store_true", help="only print what is there")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    table = given.out / "review.csv"
    made: set[tuple[str, ...]] = set()
    if table.is_file():
        with table.open(encoding="utf-8", newline="") as file:
            made = {key(row) for row in csv.DictReader(file)}
    if not given.summary:
        with table.open("a", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if not made:
                writer.writeheader()
            for name in given.sets:
                for ratio in given.ratios:
                    for seed in given.seeds:
                        for row in cell(given.data / name, ratio, seed, given, made):
                            writer.writerow(row)
                            file.flush()
                            print(row, flush=True)
    means = pd.read_csv(table).groupby(["set", "way", "reviewed"])[["auroc", "auroc_rest", "f1", "f1_rest"]].mean()
    print(means.round(3).to_string())


if __name__ == "__main__":
    main()
