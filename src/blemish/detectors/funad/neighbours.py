"""Nearest neighbours as chunked matrix products on the device, a patch's own kept out."""

import torch
from torch import Tensor

from blemish.detectors.nearest import smallest

CELLS = 2**24  # distances held at a time: 64 MB in float32


def nearest(
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
