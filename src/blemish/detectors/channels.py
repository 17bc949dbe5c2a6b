"""Channels of corresponding patches: the same spot of the product seen in many images, as InReaCh links them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.detectors.nearest import squared_distances
from blemish.machine.runtime import side_by_side
from blemish.scores.cuts import median_mad

LOOSE = 3.0  # deviations above the median spread from which a channel ties together what does not belong together


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
