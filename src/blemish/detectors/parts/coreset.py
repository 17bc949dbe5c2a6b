"""Coresets, few points in place of many: by the farthest point, as PatchCore takes them, and cheaper ones."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from blemish.detectors.parts.distances import squared_distances
from blemish.machine.runtime import side_by_side

Coreset = Literal["greedy", "approximate", "random"]
DIMENSIONS = 128  # of the random projection that distances are compared in, PatchCore Sec. 3.2
CANDIDATES = 10  # random points for each pick of the approximate coreset
FARTHEST = 4096  # points that are looked at between two passes over all: 2 MB of them, which a core's cache holds
COPY = 1e-5  # of the mean squared distance from the middle: nearer is the same point, and rounding
ROWS = 1024  # points a core compares with the new picks at a time: 9 MB of distances to 2,000 of them


def coreset(
    points: Tensor, count: int, kind: Coreset, seed: int, tell: Callable[[int, int], None] | None = None
) -> Tensor:
    """Rows (at most `count`, int64) of the points (n, D), a coreset in place of all of them.

    "greedy" takes the point farthest from those taken, again and again (minimax facility location; PatchCore,
    arXiv 2106.08265, Sec. 3.2), "approximate" does so among a random tenfold of `count`, "random" takes any. Copies
    of a point are not taken twice by the first two, so fewer than `count` may come. `tell(done, count)` is called on
    the way.
    """
    random = torch.Generator().manual_seed(seed)
    if kind == "random" or count >= len(points):
        return _some(len(points), count, random)
    some = torch.arange(len(points))
    if kind == "approximate":
        some = _some(len(points), CANDIDATES * count, random)
        points = points[some]
    start = int(torch.randint(len(some), (), generator=random))
    picks: Tensor = some[farthest_points(projected(points, random), count, start, tell)]
    return picks


def _some(total: int, count: int, random: torch.Generator) -> Tensor:
    """Random rows, in order."""
    chosen: Tensor = torch.randperm(total, generator=random)[:count].sort().values
    return chosen


def projected(points: Tensor, random: torch.Generator) -> Tensor:
    """Points (n, D) in at most `DIMENSIONS` random directions; distances stay about the same."""
    channels = points.shape[1]
    if channels <= DIMENSIONS:
        return points
    directions = torch.randn(channels, DIMENSIONS, generator=random) / DIMENSIONS**0.5
    return torch.mm(points, directions)


def farthest_points(points: Tensor, count: int, start: int, tell: Callable[[int, int], None] | None = None) -> Tensor:
    """Rows of up to `count` points, each the farthest from those before it, the first being `start`.

    The textbook loop reads all points for every pick, and waits for memory. But distances to the nearest pick only
    ever fall: as long as the farthest of the few thousand that were farthest is not nearer than the last of them
    was, nothing outside can be farther. So most picks look at those alone, and all points are compared with many
    picks in one matrix product. Up to rounding, the picks are those of the textbook loop.
    """
    points = points - points.mean(0)  # smaller numbers, less rounding
    copied = COPY * float(torch.linalg.vector_norm(points)) ** 2 / len(points)
    picks = [start]
    nearest = _to_nearest(points, points[start : start + 1])
    while len(picks) < count:
        far, rows = nearest.topk(min(FARTHEST, len(points)))
        if far[0] <= copied:
            break  # nothing but copies of what was taken
        floor = max(copied, float(far[-1]) if len(rows) < len(points) else 0.0)
        fresh = _among(points[rows], far, floor, count - len(picks))
        picks += rows[fresh].tolist()
        if len(picks) < count:
            nearest = torch.minimum(nearest, _to_nearest(points, points[rows[fresh]]))
            nearest[rows[fresh]] = 0  # rounding must not make a point its own neighbour
        if tell:
            tell(len(picks), count)
    return torch.tensor(picks)


def _among(points: Tensor, far: Tensor, floor: float, count: int) -> Tensor:
    """Farthest points among few, as long as they are farther than `floor`; `far` are their distances so far."""
    squares = points.square().sum(1)
    picks: list[int] = []
    while len(picks) < count:
        value, at = far.max(0)
        if picks and value <= floor:
            break
        picks.append(int(at))
        away = torch.addmv(squares, points, points[at], alpha=-2).add_(squares[at])
        far = torch.minimum(far, away, out=away)
        far[at] = 0
    return torch.tensor(picks)


def _to_nearest(points: Tensor, entries: Tensor) -> Tensor:
    """Squared distances (n,) of the points to the nearest entry, in bounded memory."""

    def one(start: int) -> Tensor:
        return squared_distances(points[start : start + ROWS], entries).amin(1)

    return torch.cat(side_by_side(one, range(0, len(points), ROWS)))
