"""Which images show the same thing again: copies, and further shots of one part."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIDE = 32  # pixels of a print
ALIKE = 0.97  # cosine of what two prints have that the average print of the pile has not
ROWS = 512  # prints compared with all others at a time


def alike(prints: NDArray[np.uint8], content: Sequence[str]) -> NDArray[np.int64]:
    """The group (N,) of each image: the row of its first member. `prints` (N, SIDE, SIDE) are small grey pictures.

    Images of one product from one camera all look alike; what tells a part from the next is how it departs from their
    average. Images are of one group if these departures have nearly one direction, whatever the brightness, or if the
    content is equal; and so are the friends of friends.
    """
    count = len(prints)
    flat = prints.reshape(count, -1).astype(np.float32)
    flat -= flat.mean(axis=0)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = np.divide(flat, length, out=np.zeros_like(flat), where=length > 0)
    parent = np.arange(count)

    def first(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    def join(one: int, other: int) -> None:
        low, high = sorted((first(one), first(other)))
        parent[high] = low

    seen: dict[str, int] = {}
    for row, digest in enumerate(content):
        join(row, seen.setdefault(digest, row))
    for start in range(0, count, ROWS):
        near = flat[start : start + ROWS] @ flat[start:].T > ALIKE
        for one, other in zip(*np.nonzero(near), strict=True):
            if other > one:
                join(start + int(one), start + int(other))
    return np.array([first(row) for row in range(count)], dtype=np.int64)
