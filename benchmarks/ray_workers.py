"""`fit` alone, and with one and two workers of a Ray cluster on this machine: seconds, and whether scores are equal.

python benchmarks/ray_workers.py ../shared/data/mvtec_bottle/train/good --results ray.csv
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

import blemish
from blemish.purification import PurifySettings
from kept_rows import is_kept, keep, show


def main() -> None:
    """Fit with features made anew, and purify, each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--results", type=Path, default=Path("ray.csv"))
    given = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        words = {"detector": "nearest_images", "threads": 1}
        start = time.perf_counter()
        alone = blemish.fit(given.images, cache=folder / "alone", **words)
        seconds = time.perf_counter() - start
        pure = blemish.purify(given.images, how=PurifySettings(), cache=folder / "alone", **words)
        keep(given.results, {"workers": 0, "fit_s": round(seconds, 1), "purify_s": "", "equal": 1})
        for workers in (1, 2):
            if is_kept(given.results, workers=workers):
                continue
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
            for _ in range(workers):
                cluster.add_node(num_cpus=1)
            ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
            try:
                cache = folder / f"ray-{workers}"
                start = time.perf_counter()
                run = blemish.fit(given.images, cache=cache, ray=cluster.address, **words)
                fitted = time.perf_counter()
                found = blemish.purify(given.images, how=PurifySettings(), cache=cache, ray=cluster.address, **words)
                done = time.perf_counter()
            finally:
                ray.shutdown()
                cluster.shutdown()
            equal = np.array_equal(run.scores.image, alone.scores.image) and np.array_equal(found.scores, pure.scores)
            row = {"workers": workers, "fit_s": round(fitted - start, 1), "purify_s": round(done - fitted, 1)}
            keep(given.results, {**row, "equal": int(equal)})
    show(given.results)


if __name__ == "__main__":
    main()
