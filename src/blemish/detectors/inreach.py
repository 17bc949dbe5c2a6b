"""InReaCh: a memory of the patches that recur across the images, found by linking what corresponds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.parts.distances import squared_distances
from blemish.detectors.parts.patch_memory import on_grid
from blemish.detectors.parts.sampling import TrainingPart, whole_images
from blemish.detectors.patchcore import PatchCore
from blemish.detectors.settings import check_least, documented
from blemish.machine.errors import RequestError
from blemish.machine.runtime import side_by_side
from blemish.scores.cuts import median_mad

LOOSE = 3.0  # deviations above the median spread from which a channel ties together what does not belong together


@documented
@dataclass(kw_only=True)
class InReaCh(PatchCore):
    """The distance to the patches that recur across the images, so that some bad images may be among them.

    From a few seed images, each patch is linked to its mutual nearest neighbours in the others. A pattern that recurs
    gives a channel through many images; a defect is linked to little, and stays out of the memory.

    Parameters
    ----------
    seeds : int, default 5
        Images whose patches begin channels, 1 or more.
    span : float, default 0.2
        Share of the images that a channel must reach, above 0, at most 1.
    position : float, default 0.0
        What a typical displacement within channels counts for, in typical distances within channels: where
        products are in the same position, the place of a patch counts, too. 0 leaves it out.
    most_images : int, default 500
        Images that are learned from, at random where there are more; 8 or more.
    neighbours : int, default 0
        Entries around the nearest one that tell how crowded it is there; 0 leaves the distance as it is.

    Source: InReaCh (McIntosh and Albu, ICCV 2023).

    Examples
    --------
    >>> import numpy as np
    >>> from blemish.images import ImageSet
    >>> features = np.random.default_rng(0).normal(size=(24, 16, 8)).astype("float32")  # 24 images of 4 x 4 patches
    >>> features[22, 5] += 9  # a defect in a new image
    >>> detector = InReaCh(backbone="given").fit(ImageSet.of_features(features[:20]))
    >>> detector.score(ImageSet.of_features(features[20:])).ranking()[0]
    'image-000002'
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

    def _nominal(self, embedded: Tensor, part: TrainingPart, width: int) -> tuple[Tensor, float]:
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


@dataclass(frozen=True)
class Channels:
    """One channel for each patch (p) of one seed image.

    Attributes
    ----------
    seeds : (p,) rows of the patches.
    linked : (p, N) row of the mutual nearest patch in each image, -1 where there is none.
    away : (p, N) distance to it, 0 where there is none.
    """

    seeds: Tensor
    linked: Tensor
    away: Tensor

    @property
    def span(self) -> Tensor:
        """How many other images each channel reaches, (p,)."""
        return (self.linked >= 0).sum(1)

    @property
    def spread(self) -> Tensor:
        """The mean distance of each channel's patches from its seed, (p,); 0 of an empty one."""
        return self.away.sum(1) / self.span.clamp_min(1)


def channels_of(embedded: Tensor, images: Sequence[Tensor], seed: int, like: Tensor) -> Channels:
    """Link the patches of image `seed` with their mutual nearest neighbours in each other image.

    `images` are the rows of each image's patches in `embedded` (n, D); those that are true in `like` (N,), the seed
    itself among them, are left out.
    """
    here = images[seed]
    mine = embedded[here]

    def one(number: int) -> tuple[Tensor, Tensor]:
        linked, away = torch.full((len(here),), -1), torch.zeros(len(here))
        if not like[number]:
            squared = squared_distances(mine, embedded[images[number]])  # (p, q)
            # The least of its row and of its column: several times as quick as looking for where the least are.
            mutual = (squared == squared.amin(1, keepdim=True)) & (squared == squared.amin(0))
            patch, other = mutual.nonzero().unbind(1)
            linked[patch] = images[number][other]
            away[patch] = squared[patch, other].sqrt()
        return linked, away

    found = side_by_side(one, range(len(images)))
    linked, away = (torch.stack(each, dim=1) for each in zip(*found, strict=True))
    return Channels(here, linked, away)


@dataclass(frozen=True)
class Nominal:
    """What the channels that span many images and are tight hold.

    Attributes
    ----------
    rows : of their patches, each once, in order.
    pairs : (l, 2) rows of seed and linked patch, for each link.
    typical : the median distance of a link; 0 if there is none.
    """

    rows: Tensor
    pairs: Tensor
    typical: float


def nominal(found: Sequence[Channels], span: float) -> Nominal:
    """The channels that reach at least a share `span` of the images and whose spread is not far above the others'.

    Where no channel spans as much, those that span most are taken.
    """
    spans, spreads = torch.cat([each.span for each in found]), torch.cat([each.spread for each in found])
    wide = spans >= min(span * found[0].linked.shape[1], int(spans.max()))
    tight = spreads <= median_mad(spreads[wide].numpy(), LOOSE)
    rows, pairs, away = [], [], []
    for each, kept in zip(found, torch.split(wide & tight, [len(each.seeds) for each in found]), strict=True):
        channel, image = torch.nonzero((each.linked >= 0) & kept[:, None]).unbind(1)
        rows.append(each.seeds[kept])
        pairs.append(torch.stack([each.seeds[channel], each.linked[channel, image]], dim=1))
        away.append(each.away[channel, image])
    links = torch.cat(pairs)
    typical = float(torch.cat(away).median()) if len(links) else 0.0
    return Nominal(torch.unique(torch.cat([*rows, links[:, 1]])), links, typical)
