"""The nets of all views, trained side by side, and the snapshot of each that the stopping rule chooses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.detectors.funad.checkpoint import Checkpoint, hash_of
from blemish.detectors.funad.lesson import Lesson
from blemish.detectors.funad.local_net import LocalNet
from blemish.detectors.funad.pool import Pool
from blemish.detectors.funad.precision import image_scores
from blemish.detectors.funad.schedule import Schedule
from blemish.detectors.funad.stopping import best_snapshot
from blemish.detectors.funad.training import Trained, Training
from blemish.machine.errors import RequestError
from blemish.machine.runtime import intra_op_threads, runtime, side_by_side

TWIN = 1000  # added to the seed for the second net of the stopping rule "agreement"

Learned = tuple[Trained, int | None]
"""A net's training, and the snapshot that the stopping rule chose."""


def learned(
    lessons: Sequence[Lesson], schedule: Schedule, seed: int, settings: Mapping[str, Any]
) -> list[list[Learned]]:
    """The nets of each lesson, one a core: their matrices are too small to be shared out.

    A checkpoint is taken up if it was made by the same `settings` of the detector.
    """
    nets = [(lesson, net) for lesson in lessons for net in range(len(lesson.inside))]
    seeds = [seed, seed + TWIN][: 2 if schedule.stop == "agreement" else 1]
    total = len(seeds) * sum(schedule.steps_for(lesson.images_of(net)) for lesson, net in nets)
    done: dict[tuple[int, int, int], int] = {}
    progress = runtime().progress

    def one(which: tuple[Lesson, int]) -> Learned:
        lesson, net = which
        pool = lesson.pool_of(net)

        def trained(seed: int, twin: str) -> Trained:
            def tell(steps: int) -> None:
                done[lesson.view, net, seed] = steps
                progress("nets", sum(done.values()), total)

            training = Training(pool.to(runtime().device), schedule, seed)
            checkpoint = _checkpoint(lesson, f"view{lesson.view}-net{net}{twin}", settings)
            checkpoint.take_up(training)
            with torch.enable_grad():
                return training.run(tell, checkpoint.keep)

        found = [trained(each, "-twin" if each != seed else "") for each in seeds]
        return found[0], _chosen(schedule, pool, found, lesson.validation_of(net))

    if runtime().device != "cpu" or len(nets) == 1:
        with intra_op_threads(runtime().threads):  # a net alone has all cores
            results = [one(which) for which in nets]
    else:
        results = side_by_side(one, nets)
    of_view = iter(results)
    return [[next(of_view) for _ in lesson.inside] for lesson in lessons]


def _checkpoint(lesson: Lesson, name: str, settings: Mapping[str, Any]) -> Checkpoint:
    """Where the state of a net is kept; nowhere without a folder for it."""
    place, images, spec = runtime().checkpoints, lesson.features.images, lesson.features.features.spec
    made = [str(spec.source().tolist()), str(spec.size), str(images.decoding)]  # of the same files others can be made
    known = [f"{images.content[name]}{images.labels.get(name, '')} {images.groups[name]}" for name in images.ids]
    about = {**settings, "images": hash_of(sorted([*known, *([images.roi.key] if images.roi else [])]))}
    about |= {"features": hash_of(made)}
    return Checkpoint(place / f"{name}.safetensors" if place else None, about)


def _chosen(schedule: Schedule, pool: Pool, trained: Sequence[Trained], validation: Pool | None) -> int | None:
    """The snapshot that the stopping rule chooses, None for a rule that chooses none."""
    if schedule.stop in ("average", "last"):
        return None

    def looks(net: LocalNet) -> NDArray[np.float64]:
        return image_scores(net, pool)[pool.images].double().numpy()

    def of_drawn(net: LocalNet) -> NDArray[np.float64]:
        if validation is None:
            raise RequestError("the rule needs drawn images")
        return image_scores(net, validation).double().numpy()

    drawn = of_drawn if validation else None
    return best_snapshot(schedule.stop, trained[0], looks, twin=trained[-1], drawn=drawn)
