"""Which patches of the pool are a minibatch."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from blemish.detectors.funad.pool import Pool
from blemish.detectors.funad.schedule import Schedule
from blemish.images import ANOMALOUS

FAR_SHARE = 50  # one in so many patches counts as far from the first banks
KNOWN_SHARE = 3  # one in so many of those drawn as far is known to be a defect, where a person found some


class Minibatches(ABC):
    """Draws rows of a pool with a generator whose state is all that it remembers, but for `left`."""

    left: Tensor

    @abstractmethod
    def rows(self, rng: torch.Generator) -> Tensor:
        """Rows (n,) of the next minibatch."""


class OfPatches(Minibatches):
    """Patches of any images at random, a share of them among the most distant 2 %."""

    def __init__(self, pool: Pool, schedule: Schedule) -> None:
        self.count = len(pool.patches)
        self.left = torch.empty(0, dtype=torch.long)
        far = schedule.hard_share if pool.distances is not None else 0.0
        self.hard = round(far * schedule.batch)
        self.anywhere = schedule.batch - self.hard
        self.far = torch.empty(0, dtype=torch.long)
        if pool.distances is not None:
            self.far = pool.distances.argsort(descending=True)[: max(1, self.count // FAR_SHARE)]
            known = torch.nonzero(pool.given == ANOMALOUS)[:, 0]
            if len(known):  # a handful among thousands would hardly ever be drawn
                times = max(1, len(self.far) // ((KNOWN_SHARE - 1) * len(known)))
                self.far = torch.cat([self.far, known.repeat(times)])

    def rows(self, rng: torch.Generator) -> Tensor:
        """See `Minibatches`."""
        drawn = torch.randint(self.count, (self.anywhere,), generator=rng, device=rng.device)
        if self.hard:
            far = self.far[torch.randint(len(self.far), (self.hard,), generator=rng, device=rng.device)]
            drawn = torch.cat([drawn, far])
        rows: Tensor = torch.unique(drawn)
        return rows


class OfImages(Minibatches):
    """All patches of some images; every image once an epoch, the last incomplete minibatch dropped, as published."""

    def __init__(self, pool: Pool, schedule: Schedule) -> None:
        self.images, self.owners = pool.images, pool.owners
        self.size = min(schedule.batch, len(self.images))
        self.left = torch.empty(0, dtype=torch.long, device=pool.owners.device)

    def rows(self, rng: torch.Generator) -> Tensor:
        """See `Minibatches`."""
        if len(self.left) < self.size:
            self.left = self.images[torch.randperm(len(self.images), generator=rng, device=rng.device)]
        taken, self.left = self.left[: self.size], self.left[self.size :]
        return torch.isin(self.owners, taken).nonzero()[:, 0]


def minibatches(pool: Pool, schedule: Schedule) -> Minibatches:
    """The kind that the schedule names."""
    return (OfPatches if schedule.minibatch == "patches" else OfImages)(pool, schedule)
