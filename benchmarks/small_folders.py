"""Small folders: ranking, new images and pixels, with images turned (`turned` of `nearest_images`) and without.

Folders are drawn from the bench's manifests of 10 %: so many images, a tenth of them bad, at least three. New images
are those of No overlap. Rows are appended to RESULTS as they come; those that stand there are not computed again.

    python benchmarks/small_folders.py ../shared/data --results small_folders.csv
    python benchmarks/small_folders.py --table small_folders.csv
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from blemish.benchmark.contamination import contaminate
from blemish.benchmark.datasets import open_datasets
from blemish.benchmark.datasets.category import Category
from blemish.benchmark.metrics import image_metrics, pixel_metrics
from blemish.detectors.nearest_images import NearestImages
from blemish.machine.runtime import use_runtime
from contaminated import append
from markdown_table import markdown
from ranking import SETS, processor

COUNTS, TURNED = (12, 30, 60), (0, 75)
KEYS = ["set", "images", "seed", "turned"]


def row_of(category: Category, count: int, seed: int, turned: int) -> dict[str, Any]:
    """One fit and its figures."""
    manifest, rng = contaminate(category, 0.1, seed=seed), np.random.default_rng(seed)
    parts = [[each.path for each in manifest.training if each.anomalous == bad] for bad in (False, True)]
    good, bad = ([part[at] for at in rng.permutation(len(part))] for part in parts)
    some = max(3, round(0.1 * count))
    images = category.images(good[: count - some] + bad[:some])
    start = time.perf_counter()
    detector = NearestImages(random_state=seed, turned=turned).fit(images)
    seconds, own = time.perf_counter() - start, detector.training_scores_
    new = detector.score(manifest.test_set(category, "no_overlap"))
    return {
        "set": category.name, "images": count, "seed": seed, "turned": turned, "any_angle": detector.at_any_angle_,
        "ranking": image_metrics(category.truth(own.ids), own.image)["image_auroc"],
        "new": image_metrics(category.truth(new.ids), new.image)["image_auroc"],
        "pixel": pixel_metrics(new, category.mask)["pixel_auroc"], "fit_seconds": seconds,
    }  # fmt: skip


def main() -> None:
    """Measure what is missing, or print the table of what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.table:
        mean = pd.read_csv(given.table).groupby(["set", "images", "turned"]).mean().drop(columns="seed")
        print(markdown(mean.unstack("turned").reset_index(), 3))
        return
    if not given.data or not given.results:
        parser.error("name the data and --results FILE, or --table FILE")
    print(processor(), flush=True)
    known = pd.read_csv(given.results) if given.results.exists() else pd.DataFrame(columns=KEYS)
    done = {tuple(row) for row in known[KEYS].itertuples(index=False)}
    with use_runtime(cache=given.cache, threads=given.threads):
        for seed in given.seeds:
            for category in open_datasets(given.data, list(SETS)):
                for count in given.counts:
                    for turned in TURNED:
                        if (category.name, count, seed, turned) not in done:
                            append([row_of(category, count, seed, turned)], given.results)


if __name__ == "__main__":
    main()
