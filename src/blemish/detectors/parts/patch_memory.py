"""A memory bank of normal patches, and how the distances to it become scores."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from blemish.detectors.parts.distances import smallest, squared_distances
from blemish.detectors.parts.embedding import Standardised
from blemish.detectors.parts.sampling import TrainingPart
from blemish.detectors.parts.scoring_head import PatchScorer, State
from blemish.detectors.parts.views import View
from blemish.machine.runtime import side_by_side

UNSEEN = 16_000  # patches whose distances to the other images' entries tell what unseen patches would get
ROWS = 512  # of those at a time
COMPARED = 3  # nearest entries whose spacing counts: two, and the one that says how much


class Bank(nn.Module):
    """Normal patches, in an embedding learned from the same images.

    `measured` gives the Euclidean distance to the nearest entry, divided by what the distance counts for there. That
    is taken from the nearest entries, the nearer the more: taken from the nearest alone it would jump where two
    entries are equally near, and the last bit of a feature would decide.
    """

    def __init__(self, embedding: Standardised, entries: Tensor, spacing: Tensor) -> None:
        super().__init__()
        self.embedding: Standardised = embedding
        self.entries: Tensor = nn.Buffer(entries)  # (M, D)
        self.spacing: Tensor = nn.Buffer(spacing)  # (M,), the divisor
        self.squares: Tensor = nn.Buffer((entries * entries).sum(1))  # (M,)

    def measured(self, queries: Tensor, barred: Tensor | None = None) -> "Measured":
        """Embedded patches (n, D) against all entries; those that are true in `barred` (n, M) are passed over."""
        # |q|^2 is the same for all entries, so it can stay out; the product finds the nearest entries, and the
        # difference then measures them: the product alone loses all digits of small distances
        products = torch.addmm(self.squares, queries, self.entries.T, alpha=-2)
        open_to = products if barred is None else products.masked_fill(barred, torch.inf)
        found = smallest(open_to, min(COMPARED, len(self.entries)))
        each = (queries[:, None] - self.entries[found.indices]).square().sum(dim=2).sqrt()
        each = each.masked_fill(found.values.isinf(), torch.inf)
        plain, at = each.min(dim=1)
        # an entry counts by how much nearer it is than the furthest of them, so that none enters or leaves at a jump
        weights = (each.amax(dim=1, keepdim=True) - each).nan_to_num(nan=0.0, posinf=1.0)
        total = weights.sum(dim=1)
        nearest = found.indices.gather(1, at[:, None])[:, 0]
        blended = (weights * self.spacing[found.indices]).sum(dim=1) / total
        return Measured(plain / torch.where(total > 0, blended, self.spacing[nearest]), plain, nearest, products)


class Measured(NamedTuple):
    """Patches against a bank.

    Attributes
    ----------
    distances : (n,), to the nearest entry, in the spacing there.
    plain : (n,), the same before it is divided.
    nearest : (n,), which entry that is.
    products : (n, M); with |query|^2 added, the squared distances to all entries, less exact.
    """

    distances: Tensor
    plain: Tensor
    nearest: Tensor
    products: Tensor


class Memory(PatchScorer):
    """The distance to the nearest entry of a bank, re-weighted by how crowded the bank is there.

    A patch near an entry that has others around it is more likely to be normal than one equally near to a lone
    entry: with d the distance and d_1 .. d_b those to the b entries nearest to the nearest one, the score is
    (1 - exp d / sum exp d_i) d (PatchCore Eq. 7). The paper does so with the highest patch of an image; the image
    scores of blemish come from more than one patch, so here each is treated alike. The factor is between 1 - 1/b
    and 1.

    Where `step` is above 0, a step on the grid counts as that much of a distance.
    """

    def __init__(self, bank: Bank, around: Tensor, step: float = 0.0) -> None:
        super().__init__()
        self.bank: Bank = bank
        self.around: Tensor = nn.Buffer(around)  # (M, b) int64, the entries nearest to each, itself first
        self.step: Tensor = nn.Buffer(torch.tensor(step))

    @classmethod
    def of(cls, bank: Bank, neighbours: int, step: float = 0.0) -> "Memory":
        """Find the `neighbours` entries nearest to each; 0 leaves distances as they are."""
        count = min(neighbours, len(bank.entries))

        def nearest(queries: Tensor) -> Tensor:
            return smallest(squared_distances(queries, bank.entries), count).indices

        return cls(bank, torch.cat(side_by_side(nearest, torch.split(bank.entries, ROWS))), step)

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002, ARG002
        """Patches (B, h, w, D) and global vectors (B, G) to patch scores (B, h, w)."""
        count, height, width = patches.shape[:3]
        places = torch.arange(height * width, device=patches.device).expand(count, -1).flatten()
        embedded = self.bank.embedding(patches.flatten(0, 2))
        return self.distances(self.placed(embedded, places, width)).view(count, height, width)

    def placed(self, embedded: Tensor, places: Tensor, width: int) -> Tensor:
        """Embedded patches (n, D) with their places (n,) in a grid of `width` columns, if places count: (n, D + 2)."""
        if self.bank.entries.shape[1] == embedded.shape[1]:
            return embedded
        return torch.cat([embedded, on_grid(places, width) * self.step], dim=1)

    def distances(self, queries: Tensor, barred: Tensor | None = None) -> Tensor:
        """Of embedded and placed patches (n, D), (n,); entries true in `barred` (n, M) are passed over."""
        distances, plain, nearest, products = self.bank.measured(queries, barred)
        if self.around.shape[1] < 2:
            return distances
        squared = products.gather(1, self.around[nearest]) + queries.square().sum(1, keepdim=True)
        away = squared.clamp_min(0).sqrt()  # (n, b)
        highest = torch.maximum(away.amax(1), plain)  # taken off before the exponentials, which overflow above 88
        share = (plain - highest).exp() / (away - highest[:, None]).exp().sum(1).clamp_min(1e-30)
        return distances * (1 - share.clamp_max(1 / away.shape[1]))

    def unseen(self, part: TrainingPart, width: int, entries: Tensor, seed: int) -> Tensor:
        """What some patches of the part would get, had their groups no entries; `entries` are rows of its sample."""
        sample, groups = part.sample, part.groups
        some = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))[:UNSEEN]
        owners = groups[entries]

        def one(rows: Tensor) -> Tensor:
            rows = rows[(groups[rows][:, None] != owners).any(1)]  # not where all entries are the group's own
            barred = groups[rows][:, None] == owners
            queries = self.placed(self.bank.embedding(sample.values[rows]), sample.places[rows], width)
            return self.distances(queries, barred)

        return torch.cat(side_by_side(one, torch.split(some, ROWS)))


def on_grid(places: Tensor, width: int) -> Tensor:
    """Row and column (n, 2) of places (n,) in a grid of `width` columns."""
    return torch.stack([places // width, places % width], dim=1)


def empty_memory(view: View, state: State) -> Memory:
    """A memory of the shapes that `state` holds."""
    entries = state["bank.entries"]
    embedding = view.embedding(len(state["bank.embedding.mean"]))
    bank = Bank(embedding, torch.zeros_like(entries), torch.ones(len(entries)))
    return Memory(bank, torch.zeros_like(state["around"]))
