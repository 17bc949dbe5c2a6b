"""Scoring on a Ray cluster, a part of the images a task."""

from typing import Any

import numpy as np

from blemish.detectors import Detector
from blemish.images import ImageSet
from blemish.machine.errors import JobError, RequestError, none_read
from blemish.machine.ray_tasks import in_tasks
from blemish.machine.runtime import runtime
from blemish.runs.exported import ExportedModel
from blemish.scores import Scores

TASK_IMAGES = 32  # scored by a worker of a cluster together


def scored_in_tasks(detector: Detector, images: ImageSet) -> Scores:
    """`detector.score(images)` on the cluster of the runtime, a part of the images a task.

    Raises `JobError` if none of them could be read.
    """
    if isinstance(detector, ExportedModel):
        raise RequestError("An exported model is tied to this machine; leave out `ray`, or give the Run itself.")
    names = [images.ids[at : at + TASK_IMAGES] for at in range(0, len(images), TASK_IMAGES)]
    found: list[Scores] = []
    skipped: dict[str, str] = {}
    packed = (images.packed(some) for some in names)  # one by one: all at once would be all files in memory
    for done, part in enumerate(in_tasks(_scored_part, detector, packed), start=1):
        for each in part:
            if isinstance(each, Scores):
                found.append(each)
                skipped |= each.skipped
            else:
                skipped |= each
        runtime().progress("scoring", min(done * TASK_IMAGES, len(images)), len(images))
    if not found:
        raise none_read(len(images), skipped)
    parts = ("image", "maps", "boxes", "sizes")
    arrays: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in found]) for name in parts}
    return Scores(tuple(name for each in found for name in each.ids), **arrays, skipped=skipped)


def _scored_part(detector: Detector, images: ImageSet) -> list[Scores | dict[str, str]]:
    """On a worker: scores, and where no image of a part can be read, why."""
    try:
        return [detector.score(images)]
    except JobError as error:
        if len(images) == 1:
            return [{images.ids[0]: str(error)}]
        return [each for name in images.ids for each in _scored_part(detector, images.subset([name]))]
