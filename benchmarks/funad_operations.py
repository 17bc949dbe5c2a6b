"""Operations of the preset `paper` and of the default on the same features, counted by torch's counter.

Both train on one view of DINO ViT-B/8's shapes: N images of 28 x 28 patches of 768, a global vector of 768. A few steps
of each kind are run and counted; the schedule says how many of them a training has. The default has a net for each of
three folds; `paper` has one net, in which the bank is rebuilt before every minibatch.

    python benchmarks/funad_operations.py --images 230
"""

import argparse
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from blemish.detectors.funad import PAPER, FunAD
from blemish.detectors.funad.pool import FARTHEST, Pool
from blemish.detectors.funad.schedule import Schedule
from blemish.detectors.funad.training import Training
from blemish.images import UNKNOWN

PATCHES, WIDTH = 784, 768


def random_pool(images: int, patches: int, wholes: int, *, banks: bool) -> Pool:
    """Patches of the shapes in question; what they hold does not change what is counted."""
    rng = torch.Generator().manual_seed(0)
    count = images * patches
    return Pool(
        torch.randn((count, WIDTH), generator=rng),
        torch.arange(images).repeat_interleave(patches),
        torch.arange(patches).repeat(images),
        torch.full((count,), UNKNOWN),
        torch.randn((images, wholes), generator=rng),
        torch.arange(images),
        torch.zeros(images, dtype=torch.bool),
        torch.rand(count, generator=rng) if banks else None,
        torch.rand(images, generator=rng) if banks else None,
    )


def counted(work: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products in `work`, backward pass included."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def of_training(training: Training) -> float:
    """Operations of a training: rebuilds and steps counted once before and once after the warm-up, times how many."""
    schedule, total = training.schedule, 0.0
    warm = round(schedule.warm_up * training.steps)
    for first, steps in ((0, warm), (warm, training.steps - warm)):
        if steps:
            training.done = first - first % schedule.rebuild_every
            rebuild = counted(training._rebuild)
            on_refresh = counted(training._step)
            training.done = first - first % schedule.rebuild_every + 1  # a step between refreshes, if there are any
            between = counted(training._step) if schedule.refresh_every > 1 else on_refresh
            refreshed = -(-steps // schedule.refresh_every)
            total += rebuild * -(-steps // schedule.rebuild_every)
            total += on_refresh * refreshed + between * (steps - refreshed)
    return total


def main() -> None:
    """Print both counts and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=230)
    given = parser.parse_args()
    published = Schedule(**{name: value for name, value in PAPER.items() if name in Schedule.__dataclass_fields__})
    paper = of_training(Training(random_pool(given.images, PATCHES, WIDTH, banks=False), published, 0))
    print(f"paper: {paper:.3e} operations, {published.steps_for(given.images)} minibatches", flush=True)
    ours = FunAD()
    learned = given.images * (ours.folds - 1) // ours.folds
    of_each = min(PATCHES, ours.pool_patches // given.images + FARTHEST)
    fast = ours.folds * of_training(Training(random_pool(learned, of_each, 0, banks=True), ours, 0))
    print(f"default: {fast:.3e} operations in {ours.folds} nets")
    print(f"paper / default: {paper / fast:,.0f}")


if __name__ == "__main__":
    main()
