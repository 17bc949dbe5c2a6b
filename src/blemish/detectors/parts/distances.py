"""Distances between patches, and the smallest of many."""

from typing import NamedTuple

import torch
from torch import Tensor

CELLS = 2**24  # distances held at a time: 64 MB in float32
GROUP = 8  # columns of a row that are looked through at once for its smallest value


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

    They are in the groups of columns whose least values are the smallest, and a group's least is found in one plain
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
