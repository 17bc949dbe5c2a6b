"""The detector: compare the images of a folder with each other, then new images with those."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.feature_detector import FeatureDetector
from blemish.detectors.nearest_images.repeats import (
    FIRST_K,
    TRACED,
    by_farthest,
    near_copies,
    on_near_copies,
    repeating_k,
)
from blemish.detectors.nearest_images.scorer import (
    COUNTED,
    MOST_PATCHES,
    ImageNeighbours,
    NearestPatches,
    empty_neighbours,
    layouts_of,
    relative_distances,
    typical,
)
from blemish.detectors.nearest_images.turning import lie_at_any_angle, may_be_turned, quarters_of
from blemish.detectors.parts.fusion import ImageScore, highest_mean
from blemish.detectors.parts.sampling import draw_patches, even_plan, group_numbers
from blemish.detectors.parts.scoring_head import PatchScorer, State
from blemish.detectors.parts.views import DEEP_VIEWS, PatchBatch, View, ViewFeatures
from blemish.detectors.settings import check_least, documented
from blemish.features import FeatureSpec
from blemish.features.backbones import GIVEN
from blemish.images import ANOMALOUS, NORMAL, SUSPECTED, ImageSet
from blemish.images.gathering import Turned
from blemish.machine.errors import RequestError

EMBEDDING_PATCHES = 60_000  # for 54,000 covariances
FEWEST_SHAPING = 30  # groups of images that the embedding is learned from without those known to be good
UNUSUAL = 0.99  # of all patches are less unusual than a patch of a drawn defect that counts
FEWEST_FOR_FARTHEST = 200  # images: in smaller folders the eighth nearest is too different (benchmarks/threshold.md)
MOST_IMAGES = 2000  # that are compared with: 330 MB of the default features


@dataclass(frozen=True)
class FittedNeighbours:
    """What was learned of one view.

    Attributes
    ----------
    scorer : of new images.
    maps : (N, h, w), each image compared with all but its own group.
    near_copies : ids of images that may be shots of one part, part by part.
    stricter : by id, the score by the farthest image that is traced; none in folders of fewer than 200.
    """

    scorer: ImageNeighbours
    maps: Tensor
    near_copies: tuple[tuple[str, ...], ...]
    stricter: Mapping[str, float]


@documented
@dataclass(kw_only=True)
class NearestImages(FeatureDetector):
    """How far each patch is from its like in the k-th nearest of the images most like its own.

    An image is compared with all patches of the images that are most like it as a whole, its own group left out. So
    nothing has to be sampled, and a defect that a few images share stays far: it takes k of them to make it look
    normal. A new image is compared in the same way, so its score means what a training score means.

    Parameters
    ----------
    k : int, default 0
        The nearest image that counts, and the three after it, from 1 to `retrieved`. 0 chooses it for the folder: 2,
        unless the defects of the folder seem to repeat.
    retrieved : int, default 24
        Images that each image is compared with, the nearest by their layout, 1 or more.
    turned : int, default 40
        In folders of 12 to so many images whose parts lie at any angle, each image is compared with the others turned
        by quarters, too; 0 never does that.
    image_score : "top" (default), "max" or "extents"
        How a map becomes the image's score: the mean of the highest 5 % of patches ("top"); the highest patch ("max");
        or the larger of two, the mean of the highest 5 % and the mean of all ("extents").
    smoothing : float, default 0.3
        Sigma of the Gaussian that smooths maps, in patches, 0 to 10.

    Attributes
    ----------
    k_ : the k that was taken.
    at_any_angle_ : whether the parts seemed to lie at any angle, and images were turned.
    repeats_ : in about how many images each defect seems to be, 1 where none seem to repeat.
    near_copies_ : ids of images that may be shots of one part, part by part; after `fit` only.
    training_scores_ : Scores of the images of `fit`, each compared with all but its own group.

    Source: ours, from retrieval (SPADE, arXiv 2005.02357), the nearest patch in each image (MuSc, arXiv 2401.16753) and
    relative distances (LOF, Breunig et al., SIGMOD 2000).

    Examples
    --------
    >>> import numpy as np
    >>> from blemish.images import ImageSet
    >>> features = np.random.default_rng(0).normal(size=(20, 16, 8)).astype("float32")  # 20 images of 4 x 4 patches
    >>> features[3, 5] += 9  # a defect
    >>> detector = NearestImages(backbone="given").fit(ImageSet.of_features(features))
    >>> detector.training_scores_.ranking()[0]
    'image-000003'
    """

    views: tuple[View, ...] = DEEP_VIEWS
    image_score: ImageScore = "top"
    smoothing: float = 0.3
    k: int = 0
    retrieved: int = 24
    turned: int = 40

    name: ClassVar[str] = "nearest_images"
    summary: ClassVar[str] = "distance to the like patch in the k-th nearest of the images most like this one"
    source: ClassVar[str] = (
        "ours, from retrieval (SPADE, arXiv 2005.02357), the nearest patch in each image (MuSc, arXiv 2401.16753) and "
        "relative distances (LOF, SIGMOD 2000)"
    )
    budget_settings: ClassVar[Mapping[str, Any]] = {"retrieved": 12, "turned": 0}

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, k=0, retrieved=1, turned=0)
        if self.k > self.retrieved:
            raise RequestError(f"'k' must be at most 'retrieved', which is {self.retrieved}; got {self.k}.")

    @property
    def k_(self) -> int:
        """The k that was taken. Raises `NotFittedError` before `fit`."""
        return max((part.k for part in self.neighbours()), default=FIRST_K)

    @property
    def at_any_angle_(self) -> bool:
        """Whether the parts seemed to lie at any angle. Raises `NotFittedError` before `fit`."""
        return any(bool(part.quarters.any()) for part in self.neighbours())

    @property
    def repeats_(self) -> int:
        """In about how many images each defect seems to be, 1 where none seem to repeat. Raises `NotFittedError`."""
        return 1 if self.k or self.k_ == FIRST_K else self.k_ - 1

    @property
    def findings(self) -> tuple[str, ...]:
        """Sentences on defects that repeat and on near copies, for the report."""
        found = []
        if self.at_any_angle_:
            found.append(
                "Images look alike at any angle, so each was also compared with the others turned by quarters."
            )
        if self.repeats_ > 1:
            found.append(
                f"Defects seem to repeat in about {self.repeats_} images each, so a place has to be found "
                "in more images than that to look normal."
            )
        if copies := self.__dict__.get("near_copies_", ()):
            found.append(on_near_copies(copies, self.training_scores_.ids))
        return tuple(found)

    def neighbours(self) -> list[ImageNeighbours]:
        """What was learned of each view. Raises `NotFittedError` before `fit`."""
        return [part for part in self._fitted().head_.modules() if isinstance(part, ImageNeighbours)]

    def _fit_prepared(self, images: ImageSet, specs: Sequence[FeatureSpec]) -> Self:
        super()._fit_prepared(images, specs)
        turns = len(images) <= self.turned and self.backbone != GIVEN and not self.tile
        upright, quarters = may_be_turned(images) if turns else [], quarters_of(specs)
        view, scorer = self.views[0], self.neighbours()[0]
        spec = next(spec for spec in specs if spec.pixels == view.pixels)
        if upright and lie_at_any_angle(images, upright, quarters, view, scorer, spec):
            near_copies = self.__dict__["near_copies_"]
            super()._fit_prepared(images.with_turned(upright, quarters), specs)
            self._training_scores, self.near_copies_ = self.training_scores_.subset(images.ids), near_copies
        return self

    def _fit_views(self, features: list[ViewFeatures]) -> Sequence[tuple[PatchScorer, Tensor]]:
        return [(fitted.scorer, fitted.maps) for fitted in self.compare(features)]

    def compare(self, features: list[ViewFeatures]) -> list[FittedNeighbours]:
        """Compare the images with each other, one view at a time; `near_copies_` and stricter scores are then known."""
        fitted = [self._fit_view(view) for view in features]
        self.near_copies_, self._stricter = fitted[0].near_copies, fitted[0].stricter
        return fitted

    def _fit_view(self, features: ViewFeatures) -> FittedNeighbours:
        groups = group_numbers(features.images)
        rows = self.compared_with(features)
        drawn = features.drawn().flatten(1)
        scorer = self._gathered(features, rows, drawn)
        barred = groups[:, None] == groups[rows]
        # of more images than that, only those compared with show what the folder is like: the table stays as large
        traced = rows if len(groups) > MOST_IMAGES else torch.arange(len(groups))
        own = torch.searchsorted(traced, rows)  # rows of the table
        compared = self._compared(features, scorer, traced, barred)
        inside = features.valid().flatten(1)[traced]
        farthest = by_farthest(compared, inside, own, scorer.where)
        scorer.choose(self.k or repeating_k(compared, inside, farthest))
        counted = compared.between(*scorer.window)
        away = counted.distances.mean(2)
        scorer.spacing.copy_(away[own][:, scorer.where])
        scorer.typical.copy_(torch.stack([typical(away[inside]), typical(_to_nearest(scorer.layouts, barred[rows]))]))
        known = relative_distances(counted, scorer.spacing, scorer.typical[0])
        if drawn.any():
            far = float(np.quantile(known[inside].numpy(), UNUSUAL))
            self._know_defects(features, scorer, rows, drawn[rows] & (known[own] > far))
            known = known * self._nearer_to_defects(features, scorer, traced, away, barred)
        maps = torch.empty(len(groups), known.shape[1])
        maps[traced] = known
        self._compare_others(features, scorer, traced, barred, maps)
        ids = [features.images.ids[row] for row in traced]
        copies = near_copies(ids, compared, inside, own, len(scorer.where))
        stricter: Mapping[str, float] = {}
        if farthest is not None and len(rows) >= FEWEST_FOR_FARTHEST:
            stricter = dict(zip(ids, highest_mean(farthest, inside).tolist(), strict=True))
        return FittedNeighbours(scorer, maps.view(-1, *features.grid), copies, stricter)

    def compared_with(self, features: ViewFeatures) -> Tensor:
        """Rows of the images that are compared with: all but those known or thought to be bad, at random if many.

        An image that is known to be bad takes part where it was drawn which of its places show the defect.
        Of equal images one is enough. Raises `RequestError` if they are not at least two groups.
        """
        images, whole = features.images, torch.ones(len(features.images), dtype=torch.bool)
        if images.defects:  # of which some places are left
            whole = ~(features.valid() & ~features.drawn()).flatten(1).any(1)
        fine = [
            row for row, name in enumerate(images.ids)
            if images.labels.get(name) not in (ANOMALOUS, SUSPECTED) or (name in images.defects and not whole[row])
        ]  # fmt: skip
        rows = sorted({images.content[images.ids[row]]: row for row in reversed(fine)}.values())
        if len({images.groups[images.ids[row]] for row in rows}) < 2:
            raise RequestError(
                f"The labels leave {len(rows)} of {len(images)} images to compare with, which are not two different "
                "ones; label fewer images as bad, or add good ones."
            )
        if len(rows) > MOST_IMAGES:
            rows.sort(key=lambda row: images.content[images.ids[row]])  # whatever the names are
            reviewed = (NORMAL, ANOMALOUS)
            known = [row for row in rows if images.labels.get(images.ids[row]) in reviewed]
            others = [row for row in rows if images.labels.get(images.ids[row]) not in reviewed]
            drawn = np.random.default_rng(self.random_state).permutation(len(others))
            rows = sorted((known + [others[at] for at in drawn])[:MOST_IMAGES])
        return torch.tensor(rows)

    def _gathered(self, features: ViewFeatures, rows: Tensor, drawn: Tensor) -> ImageNeighbours:
        """A scorer that holds the images of `rows`, its distances still to be found.

        Patches that are `drawn` (N, P) show defects: no other patch is compared with them.
        """
        images, size = features.images, features.grid[0] * features.grid[1]
        names = [images.ids[row] for row in rows]
        # known good images do not shape the embedding, as new ones do not: benchmarks/threshold.md
        others = [name for name in names if images.labels.get(name) != NORMAL]
        shaping = others if len({images.groups[name] for name in others}) >= FEWEST_SHAPING else names
        plan = even_plan(shaping, EMBEDDING_PATCHES, self.random_state)
        sample = draw_patches(features, plan, self.random_state, f"sampling {features.view.pixels}")
        embedding = features.view.embedding(sample.values.shape[1])
        embedding.learn(sample.values, len({images.groups[name] for name in shaping}))
        del sample
        where = torch.arange(size)
        if size > MOST_PATCHES:
            chosen = np.random.default_rng(self.random_state).permutation(size)[:MOST_PATCHES]
            where = torch.from_numpy(np.sort(chosen))
        at = {name: number for number, name in enumerate(names)}
        patches = torch.empty(len(rows), len(where), len(embedding.mean), dtype=torch.bfloat16)
        halves = torch.empty(patches.shape[:2])

        def gather(batch: PatchBatch, row: int) -> Tensor:
            embedded = embedding(batch.patches[row].flatten(0, 1))
            number = at[batch.ids[row]]
            usable = (batch.valid[row].flatten() & ~drawn[rows[number]])[where]
            patches[number] = embedded[where].bfloat16()
            lengths = embedding.strongest(patches[number]).float().square().sum(1)
            halves[number] = (-lengths / 2).masked_fill(~usable, -torch.inf)
            return layouts_of(embedding.strongest(embedded)[None], features.grid)[0]

        layouts = torch.stack(list(features.each(gather, f"gathering {features.view.pixels}", names)))
        groups = torch.unique(group_numbers(images)[rows], return_inverse=True)[1]
        retrieved = min(self.retrieved, int(groups.max()))  # an image has all groups but its own
        sources = [images.sources[name] for name in names]
        uprights = [each.name if isinstance(each, Turned) else name for name, each in zip(names, sources, strict=True)]
        contents = [images.content[name] for name in uprights]
        known_good = torch.tensor([images.labels.get(name) == NORMAL for name in names])
        parts = {
            "patches": patches, "halves": halves, "layouts": layouts, "spacing": torch.zeros(patches.shape[:2]),
            "typical": torch.ones(2), "groups": groups, "known_good": known_good, "where": where,
            "content": torch.tensor([list(bytes.fromhex(each)) for each in contents], dtype=torch.uint8),
            "quarters": torch.tensor([each.quarters if isinstance(each, Turned) else 0 for each in sources]),
            "counts": torch.tensor([FIRST_K, retrieved]),
        }  # fmt: skip
        return ImageNeighbours(embedding, parts)

    def _compared(
        self, features: ViewFeatures, scorer: ImageNeighbours, traced: Tensor, barred: Tensor
    ) -> NearestPatches:
        """Images `traced` compared with those not barred; as many of the nearest as show whether defects repeat."""
        last = min(scorer.retrieved, max(TRACED, self.k + COUNTED - 1))
        shape = (len(traced), features.grid[0] * features.grid[1], last)
        compared = NearestPatches(torch.empty(shape), torch.empty(shape, dtype=torch.int32))

        def compare(batch: PatchBatch, row: int, number: int) -> None:
            embedded = scorer.embedded(batch.patches[row][None])
            near = scorer.nearest_images(scorer.layouts_of(embedded, features.grid), barred[traced[number]][None])
            found = scorer.nearest_patches(embedded, near, 0, last)
            compared.distances[number], compared.entries[number] = found.distances[0], found.entries[0].int()

        _for_each(features, traced, compare, f"comparing {features.view.pixels}")
        return compared

    def _compare_others(
        self, features: ViewFeatures, scorer: ImageNeighbours, traced: Tensor, barred: Tensor, maps: Tensor
    ) -> None:
        """Put the distances of the images that are not `traced` to their rows of `maps` (N, P)."""
        others = torch.ones(len(maps), dtype=torch.bool)
        others[traced] = False
        rest = torch.nonzero(others)[:, 0]

        def compare(batch: PatchBatch, row: int, number: int) -> None:
            at = rest[number]
            maps[at] = scorer.distances(batch.patches[row][None], barred[at][None]).flatten()

        _for_each(features, rest, compare, f"comparing {features.view.pixels}")

    def _know_defects(self, features: ViewFeatures, scorer: ImageNeighbours, rows: Tensor, chosen: Tensor) -> None:
        """Let the scorer know the patches `chosen` (n, P) of the images of `rows` as defects.

        What is drawn is wider than the defect, so patches that look like most do not count.
        """
        number = {features.images.ids[row]: at for at, row in enumerate(rows)}
        ids = [name for name, at in number.items() if chosen[at].any()]
        patches, owners = [], []
        for batch in features.batches(ids) if ids else ():
            for name, values in zip(batch.ids, batch.patches, strict=True):
                patches.append(scorer.embedding(values.flatten(0, 1)[chosen[number[name]]]))
                owners.append(torch.full((len(patches[-1]),), number[name]))
        if patches:
            scorer.know_defects(torch.cat(patches), torch.cat(owners))

    def _nearer_to_defects(
        self, features: ViewFeatures, scorer: ImageNeighbours, traced: Tensor, away: Tensor, barred: Tensor
    ) -> Tensor:
        """By what the maps (T, P) of the images `traced` are multiplied, given their distances and barred (N, n)."""
        times = torch.ones_like(away)

        def nearer(batch: PatchBatch, row: int, number: int) -> None:
            embedded = scorer.embedded(batch.patches[row][None])
            times[number] = scorer.nearer_to_defects(embedded, away[number][None], barred[traced[number]][None])[0]

        _for_each(features, traced, nearer, f"drawn defects {features.view.pixels}")
        return times

    def _empty_scorer(self, view: View, state: State) -> PatchScorer:
        return empty_neighbours(view, state)


def _for_each(
    features: ViewFeatures, rows: Tensor, function: Callable[[PatchBatch, int, int], None], stage: str
) -> None:
    """Call `function` with the batch, the row there and the place in `rows` of each of these images."""
    number = {features.images.ids[row]: at for at, row in enumerate(rows)}
    if not number:
        return
    for _ in features.each(lambda batch, row: function(batch, row, number[batch.ids[row]]), stage, list(number)):
        pass


def _to_nearest(layouts: Tensor, barred: Tensor) -> Tensor:
    """The distance of each layout (n, L) to the nearest that is not barred (n, n), (n,)."""
    return torch.cdist(layouts, layouts).masked_fill(barred, torch.inf).amin(1)
