"""FUN-AD against the memory bank it starts from, and against one that learned from clean images.

For each set, contamination and seed: one fit on the manifest's training images serves all protocols, and both
detectors, since `memory_bank` is the first half of `funad` (`FunAD.memory_bank`). Besides "no_overlap" and "overlap"
there is "overlap, known": images that were learned from keep their cross-fitted scores, as `blemish score` has it.
Rows are appended to RESULTS as they come; those that stand there are not computed again.

    python benchmarks/funad.py ../shared/data --results benchmarks/funad.csv --cells results/cells
    python benchmarks/funad.py ../shared/data --results benchmarks/funad_oracle.csv --oracle --ratios 0.1 --seeds 0
    python benchmarks/funad.py --table benchmarks/funad.csv
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from blemish.detectors.memory_bank import MemoryBank

from blemish.benchmark.contamination import MODES, OVERLAP, Manifest, contaminate
from blemish.benchmark.datasets import open_datasets
from blemish.benchmark.datasets.category import Category
from blemish.benchmark.metrics import image_metrics, pixel_metrics
from blemish.detectors import FeatureDetector
from blemish.detectors.funad import FunAD
from blemish.images import ImageSet
from blemish.runtime import use_runtime
from blemish.scores import Scores
from markdown_table import markdown
from ranking import SETS
from training_cells import cell_file, keep_cell

RATIOS = (0.0, 0.05, 0.1, 0.2, 0.4)
RULES = ("average", "last", "entropy", "agreement", "synthetic")


def metrics_of(scores: Scores, category: Category, manifest: Manifest) -> Iterator[dict[str, object]]:
    """Image and pixel AUROC of the detector's own scores, for each protocol."""
    for mode in MODES:
        part = scores.subset(manifest.test_paths(category, mode))
        image = image_metrics(category.truth(part.ids), part.image)
        pixel = pixel_metrics(part, category.mask)
        yield {"mode": mode, "image_auroc": image["image_auroc"], "pixel_auroc": pixel["pixel_auroc"]}


def known_kept(detector: FeatureDetector, training: ImageSet, test: ImageSet, scores: Scores) -> Scores:
    """The scores as `blemish score` gives them: see `Run.scored`."""
    known = {training.content[name]: detector.training_scores_[name] for name in detector.training_scores_.ids}
    image = [known.get(test.content[name], own) for name, own in zip(scores.ids, scores.image, strict=True)]
    return replace(scores, image=np.array(image, dtype=np.float32))


def ranking_of(detector: FunAD, manifest: Manifest) -> float | None:
    """AUROC of the training ranking."""
    scores = detector.training_scores_
    truth = manifest.training_truth(scores.ids)
    return image_metrics(truth, scores.image)["image_auroc"] if truth.any() else None


def rows_of(
    category: Category, ratio: float, seed: int, clean: Scores | None, cells: Path | None
) -> tuple[list[dict[str, object]], Scores]:
    """One fit and all that is measured with it, and the bank's scores. `clean` is None at a ratio of 0."""
    manifest = contaminate(category, ratio, seed=seed)
    training = manifest.training_set(category)
    start = time.perf_counter()
    detector = FunAD(random_state=seed).fit(training)
    seconds = time.perf_counter() - start
    if cells:
        keep_cell(cell_file(cells, category.name, detector.name, ratio, seed), detector.training_scores_, manifest)
    bank = detector.memory_bank()
    test = manifest.test_set(category, "overlap")  # holds every image of the other protocol, too
    of_bank, of_funad = bank.score(test), detector.score(test)
    compared = {"memory_bank": of_bank, "funad": of_funad, "memory_bank, clean": clean or of_bank}
    rows = []
    about = {"set": category.name, "ratio": ratio, "reached": round(manifest.reached, 3), "seed": seed}
    for name, scores in compared.items():
        ranked = {"memory_bank": bank, "funad": detector}.get(name)
        more = {"ranking": ranking_of(ranked, manifest) if ranked else None, "fit_seconds": round(seconds, 1)}
        measured = list(metrics_of(scores, category, manifest))
        if ranked and ratio:
            kept = metrics_of(known_kept(ranked, training, test, scores), category, manifest)
            measured += [{**row, "mode": f"{OVERLAP}, known"} for row in kept if row["mode"] == OVERLAP]
        rows += [{**about, "detector": name, **row, **more} for row in measured]
    return rows, of_bank


def clean_bank(category: Category, seed: int) -> Scores:
    """Test scores of the bank that learned from clean images."""
    manifest = contaminate(category, 0.0, seed=seed)
    bank = MemoryBank(random_state=seed).fit(manifest.training_set(category))
    return bank.score(manifest.test_set(category, "overlap"))


def oracle_rows(category: Category, ratio: float, seed: int) -> Iterator[dict[str, object]]:
    """The test AUROC of every snapshot, and of what each label-free rule keeps; `oracle` is the best snapshot."""
    manifest = contaminate(category, ratio, seed=seed)
    training, test = manifest.training_set(category), manifest.test_set(category, "overlap")
    about = {"set": category.name, "ratio": ratio, "seed": seed}
    kept = {rule: FunAD(random_state=seed, stop=rule).fit(training) for rule in RULES[2:]}
    plain = kept["entropy"]
    candidates = {"average": plain.at("average"), "last": plain.at("last"), **kept}
    candidates |= {f"snapshot {number}": plain.at(number) for number in range(plain.snapshots)}
    for name, detector in candidates.items():
        for row in metrics_of(detector.score(test), category, manifest):
            yield {**about, "rule": name, **row}


def table(paths: list[Path], sets: Sequence[str], ratios: Sequence[float], seeds: Sequence[int]) -> str:
    """Means over seeds as Markdown: a row a set and detector, a column a contamination, image / pixel AUROC in %."""
    rows = pd.concat([pd.read_csv(path) for path in paths])
    rows = rows[rows["set"].isin(sets) & rows["ratio"].isin(ratios) & rows["seed"].isin(seeds)]
    if "rule" in rows:
        return oracle_table(rows)
    rows = rows.drop_duplicates(["set", "ratio", "seed", "detector", "mode"])
    seeds = rows.groupby("set")["seed"].unique()
    parts = [f"Seeds: {'; '.join(f'{name} {sorted(found.tolist())}' for name, found in seeds.items())}.\n"]
    by_set = rows.groupby(["set", "mode", "detector", "ratio"])[["image_auroc", "pixel_auroc"]].mean()
    for mode in dict.fromkeys(rows["mode"]):
        found = by_set.xs(mode, level="mode")
        mean = pd.concat({"MEAN": found.groupby(["detector", "ratio"]).mean()}, names=["set"])
        percent = 100 * pd.concat([mean, found])
        pairs = percent.apply(lambda row: f"{row['image_auroc']:.1f} / {row['pixel_auroc']:.1f}", axis=1)
        parts += [f"**{mode}**\n", markdown(pairs.unstack("ratio").fillna("").reset_index())]
    plain = rows[rows["mode"].isin(MODES)]
    every = plain.groupby("detector")[["image_auroc", "pixel_auroc"]].mean()
    ranking = rows.dropna(subset="ranking").groupby(["set", "detector", "ratio"])["ranking"].mean().unstack("ratio")
    parts += ["**means over sets, levels and both protocols**\n", markdown(every.reset_index(), 4)]
    return "\n".join([*parts, "**AUROC of the training ranking**\n", markdown(ranking.reset_index(), 4)])


def oracle_table(rows: pd.DataFrame) -> str:
    """Each rule, the last epoch and the oracle side by side."""
    rows = rows.assign(both=(rows["image_auroc"] + rows["pixel_auroc"]) / 2)
    keys = ["set", "ratio", "seed", "mode"]
    snapshots = rows[rows["rule"].str.startswith("snapshot")]
    best = snapshots.loc[snapshots.groupby(keys)["both"].idxmax()].assign(rule="oracle (sees test labels)")
    shown = pd.concat([rows[rows["rule"].isin(RULES)], best])
    return markdown(shown.groupby(["rule"])[["image_auroc", "pixel_auroc", "both"]].mean().reset_index(), 4)


def main() -> None:
    """Measure what is missing, or print the table of what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--table", nargs="+", type=Path, help="print what these files hold of sets, ratios and seeds")
    parser.add_argument("--oracle", action="store_true", help="compare stopping rules")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--ratios", nargs="+", type=float, default=RATIOS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--cells", type=Path, help="keep the training scores here; see training_cells.py")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.table:
        print(table(given.table, given.sets, given.ratios, given.seeds))
        return
    if not given.data or not given.results:
        parser.error("name the data and --results FILE, or --table FILE")
    done = pd.read_csv(given.results) if given.results.exists() else pd.DataFrame()
    categories = {category.name: category for category in open_datasets(given.data, list(given.sets))}
    with use_runtime(cache=given.cache, threads=given.threads):
        for seed in given.seeds:
            for name in given.sets:
                clean: Scores | None = None
                for ratio in given.ratios:
                    if len(done) and ((done["set"] == name) & (done["ratio"] == ratio) & (done["seed"] == seed)).any():
                        continue
                    if given.oracle:
                        rows = list(oracle_rows(categories[name], ratio, seed))
                    else:
                        clean = clean or (clean_bank(categories[name], seed) if ratio else None)
                        rows, of_bank = rows_of(categories[name], ratio, seed, clean, given.cells)
                        clean = clean or of_bank
                    append(rows, given.results)
                    print(name, ratio, seed, flush=True)


def append(rows: list[dict[str, object]], path: Path) -> None:
    """Add the rows to a CSV file, with a header if it is new."""
    pd.DataFrame(rows).to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.5f")


if __name__ == "__main__":
    main()
