"""Are fresh good images flagged as often as learned ones? Folders of 12, 30, 100 and 300 good images.

For each set and seed, so many good images are drawn from those there are; the rest are fresh. The threshold is the
label-free one of the folder. Asked for: the share of fresh ones above it within a factor of 1.5, or one image, of the
share of learned ones.

    python benchmarks/fresh.py ../shared/data --cache CACHE
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from blemish import calibration
from blemish.benchmark.datasets import open_datasets
from blemish.detectors import detector_class
from blemish.machine.runtime import use_runtime
from markdown_table import markdown
from ranking import SETS

SIZES = (12, 30, 100, 300)


def main() -> None:
    """Print a row for each set and size, means over seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--detector", default="nearest_images")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    rows = []
    with use_runtime(cache=given.cache):
        for category in open_datasets(given.data, list(given.sets)):
            good = sorted(each.path for each in (*category.train, *category.normals))
            for size in given.sizes:
                if size > len(good) - 30:
                    continue
                for seed in given.seeds:
                    order = np.random.default_rng(seed).permutation(len(good))
                    learned, fresh = ([good[at] for at in some] for some in (order[:size], order[size : size + 300]))
                    detector = detector_class(given.detector)(random_state=seed).fit(category.images(learned))
                    own = detector.training_scores_
                    training = own.image
                    scores = detector.score(category.images(fresh)).image
                    threshold = calibration.decide(training, stricter=detector.stricter_scores(own.ids)).threshold
                    rows.append({
                        "set": category.name, "images": size, "learned": (training > threshold).mean(),
                        "fresh": (scores > threshold).mean(), "median of fresh": float(np.median(scores)),
                        "beyond the 95 % of learned": float((scores > np.quantile(training, 0.95)).mean()),
                    })  # fmt: skip
    print(markdown(pd.DataFrame(rows).groupby(["set", "images"], sort=False).mean().reset_index(), 3))


if __name__ == "__main__":
    main()
