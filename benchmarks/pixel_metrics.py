"""Time and memory of pixel metrics at full resolution: 600 images of 512 x 512, maps of 64 x 64, no files.

python benchmarks/pixel_metrics.py
"""

import resource
import time

import numpy as np
from scipy.ndimage import gaussian_filter

from blemish.benchmark.metrics import pixel_metrics
from blemish.machine.runtime import use_runtime
from blemish.scores import Scores

COUNT, SIDE, GRID = 600, 512, 64


def mask_of(name: str, size: tuple[int, int]) -> np.ndarray:
    """Two defects in every third image."""
    mask = np.zeros(size[::-1], bool)
    if int(name) % 3 == 0:
        mask[100:150, 200:230] = mask[300:310, 300:310] = True
    return mask


def main() -> None:
    """Print seconds on one and two threads, and the most memory held."""
    rng = np.random.default_rng(0)
    maps = np.stack([gaussian_filter(rng.random((GRID, GRID), dtype=np.float32), 1) ** 4 for _ in range(COUNT)])
    boxes = np.tile(np.float32([0, 0, 1, 1]), (COUNT, 1))
    ids = tuple(str(number) for number in range(COUNT))
    scores = Scores(ids, maps.reshape(COUNT, -1).max(1), maps, boxes, np.tile(np.int64([SIDE, SIDE]), (COUNT, 1)))
    for threads in (1, 2):
        with use_runtime(threads=threads):
            wall, cpu = time.perf_counter(), time.process_time()
            found = pixel_metrics(scores, mask_of)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{threads} threads: {wall:.1f} s ({cpu:.1f} s of CPU), {peak:.0f} MiB in all, AUPRO {found['aupro']:.3f}"
        )


if __name__ == "__main__":
    main()
