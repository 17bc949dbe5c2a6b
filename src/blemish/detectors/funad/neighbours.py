"""Nearest neighbours as chunked matrix products on the device, a patch's own kept out."""

import torch
from torch import Tensor

from blemish.detectors.nearest import squared_distances

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
    parts = []
    for start in range(0, len(queries), rows):
        if rough:
            dots = (queries[start : start + rows].bfloat16() @ entries.bfloat16().T).float()
            squared = (entries * entries).sum(1) - 2 * dots
        else:
            squared = squared_distances(queries[start : start + rows], entries)
        squared = squared.masked_fill(mine[start : start + rows, None] == owners[None, :], torch.inf)
        parts.append(squared.min(dim=1))
    least, where = torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])
    if rough:
        exact = (queries - entries[where]).square().sum(dim=1)
        least = torch.where(least.isinf(), least, exact)
    return least, where
