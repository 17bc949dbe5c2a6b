"""Rate of scoring beside the backbone alone, in turns, and the cost of a fit from process start to report.

python benchmarks/core_speed.py ../shared/data/mvtec_bottle
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import blemish
from blemish.features import features_of
from blemish.images import ImageSet
from blemish.machine.runtime import use_runtime
from ranking import contaminated, processor


def main() -> None:
    """Fit 230 images of the set in a process of its own, then score in turns with the backbone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--fit", nargs=argparse.REMAINDER, default=[], help="the rest is passed on to `blemish fit`")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, run = Path(place) / "images", Path(place) / "run"
        folder.mkdir()
        truth = contaminated(given.set, folder, 0.1, 0)
        words = [sys.executable, "-m", "blemish", "fit", str(folder), "--out", str(run), "--quiet", *given.fit]
        start = time.perf_counter()
        subprocess.run([*words, "--cache", str(Path(place) / "cache")], check=True)
        seconds, config = time.perf_counter() - start, json.loads((run / "config.json").read_text())
        print(f"{processor()}: fit of {len(truth)} images {seconds:.1f} s, {config['peak_memory_mib']} MiB")
        print({name: round(each, 1) for name, each in config["seconds"].items()})
        loaded = blemish.load(run)
        paths = sorted(folder.iterdir())[: given.count]
        spec = loaded.detector.feature_specs()[0]
        rates: dict[str, list[float]] = {"backbone alone": [], "score": []}
        with use_runtime(cache=Path(place) / "other", keep_features=False):

            def backbone() -> None:
                for _ in features_of(ImageSet.of(paths), spec).batches():
                    pass

            for work in 2 * (backbone, lambda: loaded.score(paths)):
                work()
            for _ in range(given.turns):
                for name, work in (("backbone alone", backbone), ("score", lambda: loaded.score(paths))):
                    start = time.perf_counter()
                    work()
                    rates[name].append(len(paths) / (time.perf_counter() - start))
        alone, scored = (median(rates[name]) for name in rates)
        print(f"images a second: backbone alone {alone:.1f}, score {scored:.1f}, share {scored / alone:.2f}")


if __name__ == "__main__":
    main()
