"""Distances to the nearest of some patches, and banks of patches that stand for what is normal."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from blemish.detectors.parts.embedding import Standardised

COMPARED = 3  # nearest entries whose spacing counts: two, and the one that says how much
CELLS = 2**24  # distances held at a time: 64 MB in float32
CELLS = 2**24  # distances held at a time: 64 MB in float32
GROUP = 8  # columns of a row that are looked through at once for its smallest value


class Bank(nn.Module):
    """Patches that stand for what is normal, in an embedding learned from the same images.

    `measured` gives the Euclidean distance to the nearest entry, divided by what the distance counts for there. That
    is taken from the nearest entries, the nearer the more: taken from the nearest alone it would jump where two
    entries are equally near, and the last bit of a feature would decide.
    """

    def __init__(self, embedding: Standardised, entries: Tensor, spacing: Tensor) -> None:
        super().__init__()
        self.embedding: Standardised = embedding
        self.register_buffer("entries", entries)  # (M, D)
        self.register_buffer("spacing", spacing)  # (M,), the divisor
        self.register_buffer("squares", (entries * entries).sum(1))  # (M,)
        self.entries: Tensor
        self.spacing: Tensor
        self.squares: Tensor

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


def squared_distances(queries: Tensor, entries: Tensor) -> Tensor:
    """Squared Euclidean distances (n, M) as one matrix product."""
    dots = torch.addmm((entries * entries).sum(1), queries, entries.T, alpha=-2)
    return (dots + (queries * queries).sum(1)[:, None]).clamp_min(0)


class Smallest(NamedTuple):
    """Values (n, k) of rows, the least first, and their columns (n, k)."""

    values: Tensor
    indices: Tensor


def smallest(rows: Tensor, count: int) -> Smallest:
    """The `count` smallest values of each of the rows (n, M): `topk`, in a third of its time.

    They lie in the groups of columns whose least values are the smallest, and a group's least is found in one plain
    pass. Of equal values any may be taken, as by `topk`.
    """
    groups = rows.shape[1] // GROUP
    if groups <= 2 * count or torch.compiler.is_compiling():
        return Smallest(*rows.topk(count, dim=1, largest=False))
    whole = groups * GROUP
    least = rows[:, :whole].reshape(-1, GROUP, groups).amin(1)  # of columns g, g + groups, g + 2 groups, ...
    near = least.topk(count, dim=1, largest=False).indices
    inside = (near[:, None] + torch.arange(0, whole, groups, device=rows.device)[:, None]).flatten(1)
    rest = torch.arange(whole, rows.shape[1], device=rows.device).expand(len(rows), -1)
    columns = torch.cat([inside, rest], dim=1)
    found = rows.gather(1, columns).topk(count, dim=1, largest=False)
    return Smallest(found.values, columns.gather(1, found.indices))


def nearest_of_others(
    queries: Tensor, entries: Tensor, *, mine: Tensor, owners: Tensor, rough: bool = False
) -> tuple[Tensor, Tensor]:
    """Squared distance (n,) of queries (n, d) to the nearest entry (M, d) of another owner, and its row (n,).

    `mine` (n,) and `owners` (M,) say whose each query and entry is. Infinite, with row 0, where there is no other.
    `rough` searches with products in bfloat16 and measures the entry found exactly: the neighbour may be another
    that is about as near.
    """
    if not len(entries):
        return queries.new_full((len(queries),), torch.inf), mine.new_zeros(len(queries))
    rows = max(1, CELLS // len(entries))
    squares = (entries * entries).sum(1)
    parts = []
    for start in range(0, len(queries), rows):
        some = queries[start : start + rows]
        # a query's own square is the same for all entries, so it is added to the least alone
        if rough:
            apart = squares - 2 * (some.bfloat16() @ entries.bfloat16().T).float()
        else:
            apart = torch.addmm(squares, some, entries.T, alpha=-2)
        apart.masked_fill_(mine[start : start + rows, None] == owners[None, :], torch.inf)
        parts.append(smallest(apart, 1))
    least, where = (torch.cat(each)[:, 0] for each in zip(*parts, strict=True))
    none = least.isinf()
    least = (queries - entries[where]).square().sum(1) if rough else (least + queries.square().sum(1)).clamp_min(0)
    return least.masked_fill(none, torch.inf), where.masked_fill(none, 0)
