"""The job of S1: how many images per second a fitted detector scores, from decoded images, nothing kept."""

import tempfile
import time
from pathlib import Path
from typing import Any

from blemish.benchmark.contamination import OVERLAP
from blemish.benchmark.fitting import fitted
from blemish.benchmark.jobs import Task
from blemish.machine.runtime import use_runtime

WARM_UP, TIMED = 8, 64  # images


def speed(task: Task) -> list[dict[str, Any]]:
    """Seconds of fitting, and images scored per second: reading, features, scores and maps at patch size."""
    category, manifest = task.images()
    detector, costs = fitted(task)
    paths = manifest.test_paths(category, OVERLAP)
    with tempfile.TemporaryDirectory() as empty, use_runtime(cache=Path(empty), keep_features=False):
        detector.score(category.images(paths[:WARM_UP]))
        test = category.images(paths[:TIMED])
        start = time.perf_counter()
        detector.score(test)
        seconds = time.perf_counter() - start
    return [{**costs, "score_seconds": seconds, "images_per_second": len(test) / seconds, "test_images": len(test)}]
