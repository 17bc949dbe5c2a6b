"""The memory bank that is rebuilt as the net learns, from images that look normal now (FUN-AD Sec. 4.1; spec 3)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.detectors.funad.pool import Pool
from blemish.detectors.funad.pseudo_labels import PseudoLabels, normalised, pseudo_labels
from blemish.detectors.funad.schedule import Cut, Schedule
from blemish.detectors.parts.distances import nearest_of_others
from blemish.scores.cuts import median_mad

FAR_OUT = 3.0  # scaled median absolute deviations above the median, for the cut "mad"
LEAST_IMAGES = 8  # fewer would let single images decide what is normal
CALIBRATION = 1000  # patches of normal-looking images whose distances set the scale of the labels


def normal_looking(scores: NDArray[np.float32], cut: Cut, tau_bank: float = 0.5) -> NDArray[np.bool_]:
    """Which images (N,) look normal by their scores (N,): the set C of the paper.

    "minmax" is the published rule; one extreme image squeezes all others below the threshold. "mad" does not
    depend on the largest score.
    """
    if cut == "mad":
        return np.less_equal(scores, median_mad(scores, FAR_OUT))
    span = float(scores.max() - scores.min())
    return np.less(scores - scores.min(), tau_bank * span) if span > 0 else np.ones(len(scores), dtype=np.bool_)


def sampled(normal: NDArray[np.bool_], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of a random share of the normal-looking images (N,), at least `LEAST_IMAGES` where there are as many."""
    rows = np.flatnonzero(normal)
    count = max(min(LEAST_IMAGES, len(rows)), round(share * len(rows)))
    return np.sort(rng.choice(rows, count, replace=False))


@dataclass
class MemoryBank:
    """Patches of normal-looking images, which the pseudo-labels of all others are made with.

    Attributes
    ----------
    pool, schedule : of the training.
    normal, held : (N,) bool, the images that look normal, and those whose patches the bank holds.
    entries : rows of the pool that the bank holds.
    reference : rows of normal-looking images' patches, whose distances set the scale of the labels.
    owned : (n,) of each patch of the pool, whose entries it is not compared with, as a number.
    warm : whether labels come from the distances of `nearest_images` still, not from these entries.
    adapted, typical : the entries as the net's adaptor gives them, and the distances of `reference`, as last refreshed.
    """

    pool: Pool
    schedule: Schedule
    normal: Tensor
    held: Tensor
    entries: Tensor
    reference: Tensor
    owned: Tensor
    warm: bool
    adapted: Tensor = field(default_factory=lambda: torch.empty(0))
    typical: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def of(cls, pool: Pool, schedule: Schedule, image_scores: Tensor, rng: np.random.Generator, *, warm: bool) -> Self:
        """Choose the images that look normal by their scores (N,), and the patches that the bank holds."""
        images, device = pool.images, pool.patches.device
        scores = image_scores[images]
        if schedule.cut == "minmax" and not warm:
            scores = scores.sigmoid()  # the published scores, of which the range is taken, are no logits
        looks_normal = normal_looking(scores.cpu().numpy(), schedule.cut, schedule.tau_bank)
        looks_normal = looks_normal & ~pool.barred[images].cpu().numpy()
        normal, held = (torch.zeros(len(pool.groups), dtype=torch.bool, device=device) for _ in range(2))
        normal[images[torch.from_numpy(looks_normal).to(device)]] = True
        held[images[torch.from_numpy(sampled(looks_normal, schedule.bank_share, rng)).to(device)]] = True
        entries = torch.nonzero(held[pool.owners])[:, 0]
        reference = torch.nonzero(normal[pool.owners])[:, 0]
        entries, reference = _some(entries, schedule.bank_entries, rng), _some(reference, CALIBRATION, rng)
        return cls(pool, schedule, normal, held, entries, reference, pool.owned(schedule.exclude), warm)

    def refresh(self, adapted: Callable[[Tensor], Tensor]) -> None:
        """Pass the entries through the adaptor as it is now; `adapted` gives the adapted patches of rows."""
        if not self.warm:
            self.adapted = adapted(self.entries)
            if self.schedule.scale == "quantile":
                self.typical = self._distances(self.reference, adapted(self.reference))
        elif self.pool.distances is not None:
            self.typical = self.pool.distances[self.reference]

    def labels(self, rows: Tensor, adapted: Tensor) -> PseudoLabels:
        """Of a minibatch: rows (n,) of the pool, and their adapted patches (n, d)."""
        if self.warm and self.pool.distances is not None:
            distances = self.pool.distances[rows]
        else:
            distances = self._distances(rows, adapted)
        schedule = self.schedule
        scaled = normalised(distances, schedule.scale, self.typical)
        return pseudo_labels(scaled, schedule.tau_normal, schedule.tau_confident, self.pool.known_labels[rows])

    def _distances(self, rows: Tensor, adapted: Tensor) -> Tensor:
        """Squared distances (n,) to the nearest entry that is not the patch's own, its image's or its group's."""
        rough = self.schedule.precision == "bfloat16"
        with torch.autocast(adapted.device.type, enabled=False):
            return nearest_of_others(
                adapted.float(),
                self.adapted.float(),
                mine=self.owned[rows],
                owners=self.owned[self.entries],
                rough=rough,
            )[0]


def _some(rows: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """`count` of the rows at random; all of them for 0."""
    if not count or len(rows) <= count:
        return rows
    return rows[torch.from_numpy(rng.permutation(len(rows))[:count]).to(rows.device)]
