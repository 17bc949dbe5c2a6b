"""Seconds of one core that a run of the bench takes, by image: `benchmark/durations.py` holds them.

    python benchmarks/bench_seconds.py ../shared/data mvtec_bottle [DETECTOR ...]

Features are made beforehand. The seconds are those of the processor, so a busy machine lengthens them little.
"""

import sys
import tempfile
import time
from pathlib import Path

from blemish.benchmark.cells import Cell, Limit
from blemish.benchmark.datasets import open_datasets
from blemish.benchmark.fitting import ready
from blemish.benchmark.jobs import Task, job
from blemish.detectors import REGISTRY
from blemish.runtime import use_runtime

LIMIT = Limit(60, 20, 40)


def main(root: str, name: str, *detectors: str) -> None:
    """Print a line a detector, plain, purified and of the fast preset."""
    (category,) = open_datasets(root, [name])
    for detector in detectors or [each for each in REGISTRY if each != "dinomaly"]:
        for preset, purify in (("", None), ("fast", None), ("", {})):
            if purify is not None and detector != "patchcore":
                continue
            cell = Cell(category=str(category), detector=detector, limit=LIMIT, preset=preset, purify=purify)
            with tempfile.TemporaryDirectory() as folder:
                task = Task(cell, cell.of(category), cell.manifest(category), Path(folder))
                fitted, training, _ = ready(task)
                test = category.images(each.path for each in (*task.category.normals, *task.category.anomalies))
                for spec in fitted.feature_specs():
                    test.features(spec.resolved(training)).make()
                images = len(training) + len(test)
                start = time.process_time()
                job("fit")(task)
                seconds = time.process_time() - start
            print(
                detector,
                preset or "-",
                "plain" if purify is None else "purified",
                f"{seconds / images:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    with use_runtime(threads=1, cache=Path(tempfile.gettempdir()) / "blemish-bench-seconds"):
        main(*sys.argv[1:])
