"""InReaCh: a memory of the patches that recur across the images, found by linking what corresponds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.channels import channels_of, nominal
from blemish.detectors.memory import on_grid
from blemish.detectors.one_class import Part, whole_images
from blemish.detectors.patchcore import PatchCore
from blemish.detectors.settings import check_least
from blemish.machine.errors import RequestError


@dataclass(kw_only=True)
class InReaCh(PatchCore):
    """The distance to the patches of channels that span many images and are tight (McIntosh and Albu, ICCV 2023).

    From a few seed images, each patch is linked to its mutual nearest neighbours in the others. A pattern that
    recurs gives a channel through many images; a defect is linked to little, and stays out of the memory.

    Attributes
    ----------
    seeds : images whose patches begin channels.
    span : share of the images that a channel must reach.
    position : what a typical displacement within channels counts for, in typical distances within channels: where
        products lie alike, the place of a patch counts, too. 0 leaves it out.
    most_images : images that are learned from, at random where there are more.
    """

    neighbours: int = 0
    seeds: int = 5
    span: float = 0.2
    position: float = 0.0
    most_images: int = 500

    name: ClassVar[str] = "inreach"
    summary: ClassVar[str] = "distance to patches that recur across the images, found by mutual nearest neighbours"
    source: ClassVar[str] = "InReaCh (ICCV 2023)"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, seeds=1, position=0.0, most_images=self.min_images)
        if not 0 < self.span <= 1:
            raise RequestError(f"'span' must be above 0 and at most 1; got {self.span}.")

    def _plan(self, ids: Sequence[str]) -> Mapping[str, int]:
        return whole_images(ids, self.most_images, self.random_state)

    def _nominal(self, embedded: Tensor, part: Part, width: int) -> tuple[Tensor, float]:
        sample, group_of = part.sample, part.groups
        by_image = torch.split(torch.arange(len(sample.owners)), torch.bincount(sample.owners).tolist())
        images = [rows for rows in by_image if len(rows)]
        groups = torch.stack([group_of[rows[0]] for rows in images])
        seeds = np.random.default_rng(self.random_state).permutation(len(images))[: self.seeds]
        found = [channels_of(embedded, images, seed, groups == groups[seed]) for seed in seeds.tolist()]
        recurring = nominal(found, self.span)
        weights = torch.zeros(len(embedded))
        weights[recurring.rows] = 1
        if not self.position or not len(recurring.pairs):
            return weights, 0.0
        places = sample.places[recurring.pairs]
        moved = (on_grid(places[:, 0], width) - on_grid(places[:, 1], width)).float().square().sum(1).sqrt()
        return weights, self.position * recurring.typical / max(1.0, float(moved.median()))
