"""PatchCore: the distance to the nearest patch of a coreset of all patches of the images learned from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.one_class import Learned, OneClass
from blemish.detectors.parts.distances import squared_distances
from blemish.detectors.parts.patch_memory import Bank, Memory, empty_memory, on_grid
from blemish.detectors.parts.sampling import TrainingPart, even_plan
from blemish.detectors.parts.scoring_head import PatchScorer, State
from blemish.detectors.parts.views import View, ViewFeatures
from blemish.detectors.settings import check_least, documented
from blemish.machine.errors import RequestError
from blemish.machine.runtime import runtime, side_by_side

Coreset = Literal["greedy", "approximate", "random"]
DIMENSIONS = 128  # of the random projection that distances are compared in, PatchCore Sec. 3.2
CANDIDATES = 10  # random points for each pick of the approximate coreset
FARTHEST = 4096  # points that are looked at between two passes over all: 2 MB of them, which a core's cache holds
COPY = 1e-5  # of the mean squared distance from the middle: nearer is the same point, and rounding
ROWS = 1024  # points a core compares with the new picks at a time: 9 MB of distances to 2,000 of them


@documented
@dataclass(kw_only=True)
class PatchCore(OneClass):
    """The distance of each patch to the nearest of a coreset: few patches that represent those of all images.

    All images count as good. Their patches are thinned out to a memory, so that each is near one that is kept; a
    patch that is far from all of them is anomalous.

    Parameters
    ----------
    share : float, default 0.03
        Share of the patches that the coreset keeps, above 0, at most 1. With 1 %, as in PatchCore's paper, the ranking
        of parts that vary much hangs on chance (benchmarks/detectors.md).
    entries : int, default 10,000
        Most patches that it keeps, 10 or more.
    candidates : int, default 250,000
        Patches that the coreset is chosen from, drawn evenly from the images; 1,000 or more.
    coreset : "greedy" (default), "approximate" or "random"
        "greedy" takes the farthest patch again and again; "approximate" does so among a random tenfold; "random" takes
        any.
    neighbours : int, default 9
        Entries around the nearest one that tell how crowded it is there (b of the paper's re-weighting); 0 leaves the
        distance as it is.

    Source: PatchCore (Roth et al., CVPR 2022, arXiv 2106.08265).

    Examples
    --------
    >>> import numpy as np
    >>> from blemish.images import ImageSet
    >>> features = np.random.default_rng(0).normal(size=(24, 16, 8)).astype("float32")  # 24 images of 4 x 4 patches
    >>> features[22, 5] += 9  # a defect in a new image
    >>> detector = PatchCore(backbone="given").fit(ImageSet.of_features(features[:20]))
    >>> detector.score(ImageSet.of_features(features[20:])).ranking()[0]
    'image-000002'
    """

    share: float = 0.03
    entries: int = 10_000
    candidates: int = 250_000
    coreset: Coreset = "greedy"
    neighbours: int = 9

    name: ClassVar[str] = "patchcore"
    summary: ClassVar[str] = "distance to the nearest patch of a coreset of all images, which count as good"
    source: ClassVar[str] = "PatchCore (CVPR 2022, arXiv 2106.08265)"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, entries=10, candidates=1000, neighbours=0)
        if not 0 < self.share <= 1:
            raise RequestError(f"'share' must be above 0 and at most 1; got {self.share}.")

    def _plan(self, ids: Sequence[str]) -> Mapping[str, int]:
        return even_plan(ids, self.candidates, self.random_state)

    def _learn(self, parts: Sequence[TrainingPart], features: ViewFeatures) -> Sequence[Learned]:
        width = features.grid[1]
        return [self._learn_one(part, features.view, width) for part in parts]

    def _learn_one(self, part: TrainingPart, view: View, width: int) -> Learned:
        """The memory of a part, on a grid of `width` columns."""
        sample = part.sample
        embedding = view.embedding(sample.values.shape[1]).learn(sample.values)
        embedded, places = embedding(sample.values), sample.places
        del sample  # its values are as large as all that follows
        weights, step = self._nominal(embedded, part, width)
        pool = torch.nonzero(weights)[:, 0]
        if len(pool) > self.candidates:
            some = np.random.default_rng(self.random_state).permutation(len(pool))[: self.candidates]
            pool = pool[torch.from_numpy(np.sort(some))]
        if len(pool) < len(embedded):
            embedded = embedded[pool]
        if step:
            embedded = torch.cat([embedded, on_grid(places[pool], width) * step], dim=1)
        count, progress = max(1, min(self.entries, round(self.share * len(pool)))), runtime().progress
        picks = coreset(embedded, count, self.coreset, self.random_state, lambda *at: progress(part.stage, *at))
        chosen = pool[picks]
        bank = Bank(embedding, embedded[picks], 1 / weights[chosen])
        memory = Memory.of(bank, self.neighbours, step)
        return Learned(memory, lambda: memory.unseen(part, width, chosen, self.random_state), unseen=True)

    def _nominal(self, embedded: Tensor, part: TrainingPart, width: int) -> tuple[Tensor, float]:  # noqa: ARG002
        """What the distance to each patch of the part counts for, (n,), 0 keeping it out; and a step on the grid."""
        return torch.ones(len(embedded)), 0.0

    def _empty(self, view: View, state: State) -> PatchScorer:
        return empty_memory(view, state)


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
