"""Training scores of the default detector on contaminated folders, with the truth, for whoever studies decisions.

Each cell is a folder as a user has it: all good training images of a set and some of its defects. The detector sees no
label; the truth is written beside the scores for `benchmarks/decisions.py` to judge by. Cells that are there already
are not made again. OUT/NAME.npz holds `path`, `score` (N,), `bad` (N,) and `maps` (N, h, w).

    python benchmarks/decision_cells.py ../shared/data --out results/decisions --kinds full defect small

Kinds: `full`, 0 to 40 % of all kinds of defect; `defect`, one kind of defect alone at 5 and 10 %; `small`, 12, 30 and
60 images drawn from a folder of 10 %, and as many good ones alone. `full` is what the model was made on, the others
accept it.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from blemish.benchmark.contamination import Manifest, contaminate
from blemish.benchmark.datasets import Category, open_datasets
from blemish.detectors import detector_class
from blemish.machine.runtime import use_runtime
from ranking import SETS

RATIOS = (0.0, 0.1, 0.05, 0.2, 0.4, 0.02)
SMALL = (12, 30, 60)


def manifests(category: Category, kinds: list[str], seed: int) -> Iterator[tuple[str, Manifest, list[str] | None]]:
    """The name of each cell, its manifest, and the images taken of it, None for all."""
    if "full" in kinds:
        for ratio in RATIOS:
            yield f"full-{category.name}-{ratio:g}-{seed}", contaminate(category, ratio, seed=seed), None
    if "small" in kinds:
        for ratio in (0.1, 0.0):
            manifest = contaminate(category, ratio, seed=seed)
            rng = np.random.default_rng(seed)
            parts = [[each.path for each in manifest.training if each.anomalous == bad] for bad in (False, True)]
            good, bad = ([part[at] for at in rng.permutation(len(part))] for part in parts)
            for count in SMALL:
                some = round(count * ratio)
                yield f"small-{category.name}-{count}-{ratio:g}-{seed}", manifest, good[: count - some] + bad[:some]
    if "defect" in kinds:
        for defect in sorted({each.defect for each in category.anomalies}):
            for ratio in (0.05, 0.1):
                manifest = contaminate(category, ratio, seed=seed, test_share=0.0, defects=[defect])
                yield f"defect-{category.name}-{defect}-{ratio:g}-{seed}", manifest, None


def main() -> None:
    """Make the cells that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", default=["full"])
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--detector", default="nearest_images")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    categories = open_datasets(given.data, list(given.sets))
    with use_runtime(threads=given.threads, cache=given.cache):
        for seed in given.seeds:
            for category in categories:
                for name, manifest, paths in manifests(category, given.kinds, seed):
                    file = given.out / f"{name}.npz"
                    if file.exists():
                        continue
                    images = category.images(paths) if paths else manifest.training_set(category)
                    detector = detector_class(given.detector)(random_state=seed).fit(images)
                    scores = detector.training_scores_
                    partial = file.with_suffix(".partial")
                    with partial.open("wb") as opened:
                        np.savez_compressed(
                            opened, path=np.array(scores.ids), score=scores.image,
                            stricter=detector.stricter_scores(scores.ids),
                            bad=category.truth(scores.ids) if paths else manifest.training_truth(scores.ids),
                        )  # fmt: skip
                    partial.replace(file)
                    print(name, flush=True)


if __name__ == "__main__":
    main()
