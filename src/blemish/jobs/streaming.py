"""Many images: learn from a sample that grows more slowly than the folder, and score the rest in a stream.

What a detector learns saturates long before a folder of 100,000 images does. The rest is scored as new images are: no
part that scores an image has learned from it, which is what cross-fitting asks for, and nothing of it is kept on disk.
"""

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.detectors import Detector
from blemish.images import UNKNOWN, ImageSet
from blemish.machine.errors import JobError, RequestError, writing_to
from blemish.machine.runtime import quiet, runtime, use_runtime
from blemish.scores import Scores

ALL_OF = 1000  # images up to which a folder is learned from as a whole
TOGETHER = 256  # images whose scores and maps are in memory together


def sample_size(count: int, sample: int | None = None) -> int:
    """How many of `count` images to learn from: all up to `ALL_OF`, then as their square root, or `sample`."""
    if sample is not None:
        return min(count, sample)
    return count if count <= ALL_OF else round(math.sqrt(ALL_OF * count))


def split(
    images: ImageSet, detector: Detector, *, sample: int | None, disk: int | None, seed: int
) -> tuple[ImageSet, ImageSet | None]:
    """The images to learn from, at random, those with a label among them, and the rest; None where there is none.

    `disk` bounds the bytes of their features. Raises `RequestError` if that is too few.
    """
    most = sample_size(len(images), sample)
    if disk is not None:
        each = detector.feature_bytes(images)
        most = min(most, disk // each if each else most)
    if most < min(detector.min_images, len(images)):
        raise RequestError(
            f"{most} images are too few to learn from, {detector.name} needs at least {detector.min_images}; raise "
            "`sample` or `disk`."
        )
    if most >= len(images):
        return images, None
    images = images.settled()
    labelled = [name for name in images.ids if images.labels.get(name, UNKNOWN) != UNKNOWN]
    others = sorted(set(images.ids).difference(labelled), key=lambda name: (images.content[name], name))
    order = np.random.default_rng([seed, len(others)]).permutation(len(others))
    chosen = {*labelled, *(others[at] for at in order[: max(0, most - len(labelled))])}
    return images.subset(chosen), images.subset(set(images.ids).difference(chosen))


def with_rest(learned: Scores, detector: Detector, rest: ImageSet) -> Scores:
    """The training scores and the scores of the rest, in the order of the ids; maps are on disk, not in memory."""
    ids = sorted((*learned.ids, *rest.ids))
    row = {name: at for at, name in enumerate(ids)}
    maps = _on_disk((len(ids), *learned.maps.shape[1:]))
    image = np.full(len(ids), np.nan, dtype=np.float32)
    boxes, sizes = np.zeros((len(ids), 4), np.float32), np.zeros((len(ids), 2), np.int64)
    skipped = dict(learned.skipped)

    def place(scores: Scores) -> None:
        for at, name in enumerate(scores.ids):  # one by one: no copy of all maps
            to = row[name]
            image[to], maps[to], boxes[to], sizes[to] = (
                scores.image[at], scores.maps[at], scores.boxes[at], scores.sizes[at]
            )  # fmt: skip
        skipped.update(scores.skipped)

    place(learned)
    progress = runtime().progress
    with use_runtime(keep_features=False, progress=quiet):
        for start in range(0, len(rest), TOGETHER):
            names = rest.ids[start : start + TOGETHER]
            try:
                place(detector.score(rest.subset(names)))
            except JobError as error:  # none of them can be read
                skipped.update(dict.fromkeys(names, str(error)))
            progress("scoring the rest", start + len(names), len(rest))
    found = Scores(tuple(ids), np.nan_to_num(image), maps, boxes, sizes, skipped)
    scored = np.isfinite(image)
    return found if scored.all() else replace(found.subset([ids[at] for at in np.flatnonzero(scored)]), skipped=skipped)


def _on_disk(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array in a file that is gone when nobody holds it any more."""
    folder = Path(runtime().cache)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(4 * math.prod(shape))
            return np.memmap(file, dtype=np.float32, mode="r+", shape=shape)
