"""What a job will cost, before it starts: a few of its own images are timed, and the rest is proportion."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from blemish.detectors import Detector
from blemish.detectors.nearest_images.scorer import MOST_PATCHES
from blemish.features import features_of
from blemish.features.store import FeatureStore
from blemish.images import ImageSet
from blemish.machine.runtime import intra_op_threads, runtime

PROBES = 8  # images timed, after one that loads the network
WORTH_TELLING = 60.0  # seconds
FEWEST = 50  # images whose features are missing: with fewer, timing some would be a large part of the job
BASE_GIB = 1.5  # torch, networks and what the images are compared with
MAP_BYTES = 40_000  # an image: its maps in each view (7 KB), their smoothed copies and the drawn one
PRODUCT = (4_000, 328)  # entries and width of the matrix product by which the machine's speed at learning is known
# Learning in such products for each view that ranks: once, for each image, and for comparing an image with others
LEARNING = {"funad": (110.0, 0.2, 0.04), "nearest_images": (5.0, 0.15, 0.04)}  # benchmarks/line.md
USUAL_PATCHES = 256  # of an image that is looked at as a whole, at 256 pixels; what LEARNING was measured with
DRAWING = 0.4  # of that for a view that only draws: it has no nets


@dataclass(frozen=True)
class Estimate:
    """Of a job that learns from `sample` of `images` images: seconds, and GiB of disk and memory."""

    images: int
    sample: int
    features: float
    learning: float
    disk: float
    memory: float

    @property
    def seconds(self) -> float:
        """From start to report."""
        return self.features + self.learning

    def __str__(self) -> str:
        """One sentence."""
        return (
            f"{self.images:,} images will take about {duration(self.seconds)}, {duration(self.features)} of it for "
            "features, "
            f"{self.disk:.2g} GiB in the cache, and {self.memory:.1f} GiB of memory."
        )


def tell_cost(detector: Detector, images: ImageSet, rest: int, tell: Callable[[str], None]) -> None:
    """Say what learning from `images` and scoring `rest` others will cost, if that is more than a minute.

    Nothing is reported for a job on a cluster, on features computed elsewhere, or on features that are kept already.
    """
    specs = detector.feature_specs()
    if not specs or not detector.reads_images or runtime().ray:
        return
    images = images.settled()
    store = FeatureStore.at(runtime().cache, specs[0].resolved(images), images)
    missing = store.missing(images.content[name] for name in images.ids)
    if len(missing) * _times(detector, images) < FEWEST:
        return
    probe = images.subset(name for name in images.ids if images.content[name] in missing)
    cost = estimated(detector, probe, len(images) + rest, len(images), made=len(missing) + rest)
    if cost.seconds > WORTH_TELLING:
        tell(str(cost))


def estimated(detector: Detector, images: ImageSet, count: int, sample: int, *, made: int) -> Estimate:
    """The cost of learning from `sample` of `count` images such as `images`, features of `made` being made.

    The learning of detectors that were not measured counts as 0.

    A few of `images` are timed.

    Their features are kept if the features of the job are, so nothing is done twice.
    """
    probe, each, size = images.settled(), 0.0, 0
    names = probe.ids[: 1 + min(PROBES, max(1, len(probe) // 6))]
    for spec in detector.feature_specs():
        next(features_of(probe.subset(names[:1]), spec).batches(), None)  # loads the network
        timed, start = features_of(probe.subset(names[1:]), spec), time.perf_counter()
        next(timed.batches(), None)
        each += (time.perf_counter() - start) / (len(names) - 1)
        size += spec.resolved(probe).bytes_each()
    once, by_image, by_comparison = LEARNING.get(detector.name, (0.0, 0.0, 0.0))
    views = sum(1.0 if view.ranks else DRAWING for view in detector.views)
    patches = _times(detector, probe)  # each is compared with up to MOST_PATCHES of the other image
    compared = patches * min(patches, MOST_PATCHES / USUAL_PATCHES)
    products = views * (once + sample * (by_image * patches + by_comparison * compared))
    learning = products * _product_seconds() / runtime().threads
    memory = BASE_GIB + sample * MAP_BYTES / 2**30
    return Estimate(count, sample, made * each, learning, sample * size / 2**30, memory)


def _times(detector: Detector, images: ImageSet) -> float:
    """How many times as many patches an image has as one that is looked at as a whole."""
    specs, views = [spec.resolved(images) for spec in detector.feature_specs()], detector.views
    grids = [view.grid(spec.size or (1, 1)) for view in views for spec in specs if spec.pixels == view.pixels]
    return max(1.0, max((rows * columns for rows, columns in grids), default=0) / USUAL_PATCHES)


def _product_seconds() -> float:
    """Seconds that one core takes for the product of `PRODUCT`, the best of a few."""
    queries, seconds = torch.ones(PRODUCT), []
    with intra_op_threads(1):
        for _ in range(3):
            start = time.perf_counter()
            queries @ queries.T
            seconds.append(time.perf_counter() - start)
    return min(seconds)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
