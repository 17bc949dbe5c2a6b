"""Compare each image with the images most like it: the distance of a patch to its k-th nearest image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.base import State
from blemish.detectors.embedding import Standardised
from blemish.detectors.feature_detector import FeatureDetector
from blemish.detectors.fusion import ImageScore, highest_mean
from blemish.detectors.sampling import draw_patches, even_plan, group_numbers
from blemish.detectors.scoring import PatchScorer, rough_products
from blemish.detectors.settings import check_least
from blemish.detectors.views import DEEP_VIEWS, PatchBatch, View, ViewFeatures
from blemish.images import ANOMALOUS, NORMAL, SUSPECTED, ImageSet
from blemish.machine.errors import RequestError
from blemish.scores.cuts import median_and_deviation

EMBEDDING_PATCHES = 60_000  # for 54,000 covariances
LAYOUT = 4  # cells a side that a map is pooled to, for retrieval
COUNTED = 4  # images whose distances are averaged, from the k-th on
FIRST_K = 2  # the least that is chosen: a copy of a defect does not count
TRACED = 12  # nearest images whose distances tell of defects that repeat
SUSPECT, ORDINARY = 3.0, 1.0  # deviations above the median: images that may be bad, and the rest
FEWEST_SUSPECTS = 8  # with fewer, chance decides where their distances jump
JUMP, FAR_JUMP = 1.5, 2.0  # times an ordinary image's growth from one image to the next, in the median, in the mean
SAME = 0.02  # of the usual distance to the nearest layout: below, it is the same image
NEAR_COPY = 0.6  # of an image's patches: where one other image is nearest to more, both may show one part
MOST_IMAGES = 2000  # that are compared with: 330 MB of the default features
MOST_PATCHES = 1024  # of each of them, and of an image that is compared with them, at a time
MORE = 3  # images beyond those asked for whose distances are measured in float32
AT_ONCE = 10  # images compared with in one product: 3 MB, which stay in the processor's cache


class Matches(NamedTuple):
    """Patches (B, P) with the nearest patch in each of some of the nearest images.

    Attributes
    ----------
    distances : (B, P, n) float32, Euclidean, the nearest image first.
    entries : (B, P, n) int64, the patch matched with, numbered through all images compared with.
    """

    distances: Tensor
    entries: Tensor


class ImageNeighbours(PatchScorer):
    """How far patches are from their like in the images that are most like their own.

    `forward` maps patches (B, h, w, D) to (B, h, w). For each image:

    1. Its layout, the embedded map pooled to 4 x 4, finds the `retrieved` nearest images. A group of images, such as
       copies, counts as one. An image that is itself among those compared with is left out, and so is its group.
    2. The distance of a patch to an image is that to the image's nearest patch. Ordered over the images,
       d_1 <= d_2 <= ..., the distance of the patch is the mean of d_k to d_(k+3): what is found again in fewer than k
       images stays far.
    3. It is divided by the same distance of the patches it was matched with, plus the typical one: a step that is
       common in a varied part of the product (print, threads) is not far; the same step on a plain surface is. The
       typical distance in the divisor bounds what a constant background can do.

    Attributes
    ----------
    patches : (N, E, D + 6) bfloat16, the embedded patches of the images compared with, as `columns_of` gives them.
    layouts : (N, L) float32.
    spacing : (N, E) float32, the distance of each patch, its own image's group left out.
    typical : (2,) float32, the median of those distances, and of the distances of layouts to the nearest.
    groups, known_good : (N,) int64 number of each image's group, from 0; bool, whether a person called it good.
    where : (E,) int64, the place in the grid of the patches that are kept of each image.
    content : (N, 32) uint8, the SHA-256 of each image.
    counts : (2,) int64, k and `retrieved`.
    """

    def __init__(self, embedding: Standardised, parts: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.embedding: Standardised = embedding
        for name in ("patches", "layouts", "spacing", "typical", "groups", "known_good", "where", "content", "counts"):
            self.register_buffer(name, parts[name])
        self.patches: Tensor
        self.layouts: Tensor
        self.spacing: Tensor
        self.typical: Tensor
        self.groups: Tensor
        self.known_good: Tensor
        self.where: Tensor
        self.content: Tensor
        self.counts: Tensor
        # what decides on the way is no tensor: a graph is exported for one way
        self.k, self.retrieved = (int(count) for count in self.counts)
        self.group_count, self.some_known = int(self.groups.max()) + 1, bool(self.known_good.any())

    def choose(self, k: int) -> None:
        """Set k."""
        self.k = self.counts[0] = k

    @property
    def window(self) -> tuple[int, int]:
        """The first of the nearest images that count, from 0, and the one behind the last, of as many as there are."""
        return min(self.k, self.retrieved) - 1, min(self.k + COUNTED - 1, self.retrieved)

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002, ARG002
        """See the class."""
        return self.distances(patches)

    def distances(self, patches: Tensor, barred: Tensor | None = None) -> Tensor:
        """As `forward`, without the images that are true in `barred` (B, N); by default the image's own group."""
        embedded = self.embedded(patches)
        layouts = layouts_of(self.embedding.strongest(embedded), patches.shape[1:3])
        near = self.nearest_images(layouts, self.own_group(layouts) if barred is None else barred)
        return self.relative(self.matches(embedded, near, *self.window)).view(patches.shape[:3])

    def embedded(self, patches: Tensor) -> Tensor:
        """Patches (B, h, w, D) to (B, h * w, D)."""
        embedded: Tensor = self.embedding(patches.flatten(1, 2))
        return embedded

    def own_group(self, layouts: Tensor) -> Tensor:
        """(B, N) bool: the group of the image that has the same layout (B, L); of a new image, none."""
        nearest = _apart(layouts, self.layouts).argmin(1)
        away = (layouts - self.layouts[nearest]).square().sum(1).sqrt()
        return (self.groups[nearest][:, None] == self.groups) & (away < SAME * self.typical[1])[:, None]

    def nearest_images(self, layouts: Tensor, barred: Tensor) -> Tensor:
        """(B, retrieved) rows of the images nearest by layout (B, L), one a group, without those barred (B, N)."""
        away = _apart(layouts, self.layouts).masked_fill(barred, torch.inf)
        if self.group_count < len(self.groups):
            whose = self.groups.expand(away.shape[0], -1)
            nearest = away.new_full((away.shape[0], self.group_count), torch.inf).scatter_reduce(1, whose, away, "amin")
            away = away.masked_fill(away > nearest.gather(1, whose), torch.inf)
        return away.topk(self.retrieved, dim=1, largest=False).indices

    def matches(self, embedded: Tensor, near: Tensor, start: int, end: int) -> Matches:
        """Embedded patches (B, P, D) in the images of rows `near` (B, n), those from the `start`-th to the `end`-th."""
        parts = [self._matches(some, near, start, end) for some in torch.split(embedded, MOST_PATCHES, dim=1)]
        if len(parts) == 1:
            return parts[0]
        return Matches(*(torch.cat(each, dim=1) for each in zip(*parts, strict=True)))

    def _matches(self, embedded: Tensor, near: Tensor, start: int, end: int) -> Matches:
        count, found = self.patches.shape[1], []
        rough = rough_products(embedded.device)
        queries = query_columns_of(embedded, torch.bfloat16 if rough else torch.float32).transpose(1, 2)
        for some in torch.split(near, AT_ONCE, dim=1):
            entries = self.patches[some].flatten(1, 2)  # (B, m * E, D + 6)
            products = torch.matmul(entries if rough else entries.float(), queries)
            found.append(products.view(near.shape[0], -1, count, queries.shape[2]))
        closeness = torch.cat(found, dim=1)  # (B, n, E, P), half the squared distance, negative
        nearest = closeness.amax(2)  # (B, n, P)
        # they find the nearest patches; small distances need the difference itself, of a few more than asked for
        order = nearest.topk(min(end + MORE, near.shape[1]), dim=1).indices  # (B, c, P)
        candidates = closeness.gather(1, order[:, :, None].expand(-1, -1, count, -1)).float()
        places = candidates.argmax(2).transpose(1, 2)  # (B, P, c)
        images = near[:, None].expand(-1, order.shape[2], -1).gather(2, order.transpose(1, 2))
        away = embedded[:, :, None] - self.patches[images, places][..., : embedded.shape[2]].float()
        distances = torch.linalg.vector_norm(away, dim=3)
        order = distances.topk(end, dim=2, largest=False).indices[..., start:]
        distances, entries = distances.gather(2, order), (images * count + places).gather(2, order)
        if self.some_known:  # a good image that a person knows speaks for itself
            good = self.known_good[near][..., None]  # (B, n, 1)
            least = nearest.float().masked_fill(~good, -torch.inf).amax(1)
            distances = torch.minimum(distances, (-2 * least).clamp_min(0).sqrt()[..., None])
        return Matches(distances, entries)

    def relative(self, matches: Matches) -> Tensor:
        """The mean distance (B, P) in units of what is usual where the matches are."""
        usual: Tensor = self.spacing.flatten()[matches.entries].mean(2) + self.typical[0]
        return matches.distances.mean(2) / usual


def columns_of(embedded: Tensor, valid: Tensor) -> Tensor:
    """Patches (n, D) as they are compared with, (n, D + 6) bfloat16; those that are not `valid` (n,) are near nothing.

    The product with `query_columns_of` another is minus half their squared distance. So what a product in bfloat16
    rounds is the distance, not the length of the patches, which may be many times as large.
    """
    rounded = embedded.bfloat16()
    halves = -rounded.float().square().sum(1) / 2
    high, *rest = _parts(halves)
    high = high.masked_fill(~valid, -torch.inf)
    return torch.cat([rounded, torch.stack([high, *rest], dim=1), torch.ones_like(rounded[:, :3])], dim=1)


def query_columns_of(embedded: Tensor, dtype: torch.dtype) -> Tensor:
    """Patches (B, P, D) as they are looked for, (B, P, D + 6); see `columns_of`."""
    rounded = embedded.to(dtype)
    halves = -rounded.float().square().sum(2) / 2
    parts = torch.stack(_parts(halves) if dtype == torch.bfloat16 else [halves, *2 * [torch.zeros_like(halves)]], dim=2)
    return torch.cat([rounded, torch.ones_like(parts), parts], dim=2)


def _parts(values: Tensor) -> list[Tensor]:
    """Three bfloat16 numbers whose sum is a float32."""
    parts = []
    for _ in range(3):
        parts.append(values.bfloat16())
        values = values - parts[-1].float()
    return parts


def layouts_of(strongest: Tensor, grid: Sequence[int]) -> Tensor:
    """Maps (B, h * w, C) averaged over at most 4 x 4 cells: (B, L)."""
    maps = strongest.view(strongest.shape[0], *grid, -1)
    for axis in (1, 2):
        size = maps.shape[axis]
        bounds = [(cell * size // LAYOUT, -(-(cell + 1) * size // LAYOUT)) for cell in range(min(size, LAYOUT))]
        if size <= LAYOUT:
            continue
        maps = torch.stack([maps.narrow(axis, low, high - low).mean(axis) for low, high in bounds], dim=axis)
    return maps.flatten(1)


def _apart(queries: Tensor, entries: Tensor) -> Tensor:
    """Squared Euclidean distances (n, m), less the queries' own squares, which order nothing."""
    return torch.addmm(entries.square().sum(1), queries, entries.T, alpha=-2)


@dataclass(frozen=True)
class FittedNeighbours:
    """What was learned of one view.

    Attributes
    ----------
    scorer : of new images.
    maps : (N, h, w), each image compared with all but its own group.
    near_copies : ids of images that may be shots of one part, part by part.
    """

    scorer: ImageNeighbours
    maps: Tensor
    near_copies: tuple[tuple[str, ...], ...]


@dataclass(kw_only=True)
class NearestImages(FeatureDetector):
    """How far each patch is from its like in the k-th nearest of the images most like its own.

    An image is compared with all patches of the images that are most like it as a whole, its own group left out. So
    nothing has to be sampled, and a defect that a few images share stays far: it takes k of them to make it look
    normal. A new image is compared in the same way, so its score means what a training score means.

    After the fit, `k_` is the k that was taken, and `repeats_` in about how many images each defect seems to be, 1
    where none seem to repeat.

    Attributes
    ----------
    k : the nearest image that counts, and the three after it; 0 chooses it for the folder. That is 2, unless the
        defects of the folder seem to repeat.
    retrieved : images that each image is compared with, the nearest by their layout.

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
    retrieved: int = 20

    name: ClassVar[str] = "nearest_images"
    summary: ClassVar[str] = "distance to the like patch in the k-th nearest of the images most like this one"
    source: ClassVar[str] = (
        "ours, from retrieval (SPADE, arXiv 2005.02357), the nearest patch in each image (MuSc, arXiv 2401.16753) and "
        "relative distances (LOF, SIGMOD 2000)"
    )
    budget_settings: ClassVar[Mapping[str, Any]] = {"retrieved": 12}

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, k=0, retrieved=1)
        if self.k > self.retrieved:
            raise RequestError(f"'k' must be at most 'retrieved', which is {self.retrieved}; got {self.k}.")

    @property
    def k_(self) -> int:
        """See the class. Raises `NotFittedError` before `fit`."""
        return max((part.k for part in self.neighbours()), default=FIRST_K)

    @property
    def repeats_(self) -> int:
        """See the class. Raises `NotFittedError` before `fit`."""
        return 1 if self.k or self.k_ == FIRST_K else self.k_ - 1

    @property
    def findings(self) -> tuple[str, ...]:
        """See `Detector`."""
        found = []
        if self.repeats_ > 1:
            found.append(
                f"Defects seem to repeat in about {self.repeats_} images each, so a place has to be found "
                "in more images than that to look normal."
            )
        if copies := self.__dict__.get("near_copies_", ()):
            count, example = sum(map(len, copies)), ", ".join(f"'{name}'" for name in copies[0][:3])
            found.append(
                f"{count} images look like near copies of another, such as {example}. If they show one part, let "
                "them count as one: `group_regex` is a pattern for what their names share."
            )
        return tuple(found)

    def neighbours(self) -> list[ImageNeighbours]:
        """What was learned of each view. Raises `NotFittedError` before `fit`."""
        return [part for part in self._fitted().head_.modules() if isinstance(part, ImageNeighbours)]

    def _fit_views(self, features: list[ViewFeatures]) -> Sequence[tuple[PatchScorer, Tensor]]:
        return [(fitted.scorer, fitted.maps) for fitted in self._fit_neighbours(features)]

    def _fit_neighbours(self, features: list[ViewFeatures]) -> list[FittedNeighbours]:
        fitted = [self._fit_view(view) for view in features]
        self.near_copies_ = fitted[0].near_copies
        return fitted

    def _fit_view(self, features: ViewFeatures) -> FittedNeighbours:
        groups = group_numbers(features.images)
        rows = self._compared_with(features.images)
        scorer, layouts = self._gathered(features, rows)
        barred = groups[:, None] == groups[rows]
        matches = self._matched(features, scorer, layouts, barred)
        inside = features.valid().flatten(1)
        scorer.choose(self.k or _repeating_k(matches, inside, scorer, rows))
        away, maps = _relative(matches, inside, scorer, rows, *scorer.window)
        scorer.spacing.copy_(away[rows][:, scorer.where])
        scorer.typical.copy_(torch.stack([_typical(away[inside]), _typical(_to_nearest(layouts, barred, rows))]))
        copies = near_copies(features.images, matches, inside, rows, len(scorer.where))
        return FittedNeighbours(scorer, maps.view(-1, *features.grid), copies)

    def _compared_with(self, images: ImageSet) -> Tensor:
        """Rows of the images that are compared with: all but those known or thought to be bad, at random if many.

        Of equal images one is enough. Raises `RequestError` if they are not at least two groups.
        """
        fine = [row for row, name in enumerate(images.ids) if images.labels.get(name) not in (ANOMALOUS, SUSPECTED)]
        rows = sorted({images.content[images.ids[row]]: row for row in reversed(fine)}.values())
        if len({images.groups[images.ids[row]] for row in rows}) < 2:
            raise RequestError(
                f"The labels leave {len(rows)} of {len(images)} images to compare with, which are not two different "
                "ones; label fewer images as bad, or add good ones."
            )
        if len(rows) > MOST_IMAGES:
            rows.sort(key=lambda row: images.content[images.ids[row]])  # whatever the names are
            known = [row for row in rows if images.labels.get(images.ids[row]) == NORMAL]
            others = [row for row in rows if images.labels.get(images.ids[row]) != NORMAL]
            drawn = np.random.default_rng(self.random_state).permutation(len(others))
            rows = sorted((known + [others[at] for at in drawn])[:MOST_IMAGES])
        return torch.tensor(rows)

    def _gathered(self, features: ViewFeatures, rows: Tensor) -> tuple[ImageNeighbours, Tensor]:
        """A scorer that holds the images of `rows`, its distances still to be found, and the layouts of all images."""
        images, size = features.images, features.grid[0] * features.grid[1]
        names = [images.ids[row] for row in rows]
        plan = even_plan(names, EMBEDDING_PATCHES, self.random_state)
        sample = draw_patches(features, [plan], self.random_state, f"sampling {features.view.pixels}")[0]
        embedding = features.view.embedding(sample.values.shape[1])
        embedding.learn(sample.values, len({images.groups[name] for name in names}))
        del sample
        where = torch.arange(size)
        if size > MOST_PATCHES:
            chosen = np.random.default_rng(self.random_state).permutation(size)[:MOST_PATCHES]
            where = torch.from_numpy(np.sort(chosen))
        at = {name: number for number, name in enumerate(names)}
        patches = torch.empty(len(rows), len(where), len(embedding.mean) + 6, dtype=torch.bfloat16)

        def embedded_of(batch: PatchBatch, row: int) -> Tensor:
            embedded = embedding(batch.patches[row].flatten(0, 1))
            number = at.get(batch.ids[row])
            if number is not None:
                patches[number] = columns_of(embedded[where], batch.valid[row].flatten()[where])
            return layouts_of(embedding.strongest(embedded)[None], features.grid)[0]

        layouts = torch.stack(list(features.each(embedded_of, f"gathering {features.view.pixels}")))
        groups = torch.unique(group_numbers(images)[rows], return_inverse=True)[1]
        retrieved = min(self.retrieved, int(groups.max()))  # an image has all groups but its own
        known_good = torch.tensor([images.labels.get(name) == NORMAL for name in names])
        parts = {
            "patches": patches, "layouts": layouts[rows], "spacing": torch.zeros(patches.shape[:2]),
            "typical": torch.ones(2), "groups": groups, "known_good": known_good, "where": where,
            "content": torch.tensor([list(bytes.fromhex(images.content[name])) for name in names], dtype=torch.uint8),
            "counts": torch.tensor([FIRST_K, retrieved]),
        }  # fmt: skip
        return ImageNeighbours(embedding, parts), layouts

    def _matched(self, features: ViewFeatures, scorer: ImageNeighbours, layouts: Tensor, barred: Tensor) -> Matches:
        """Each image in those that are open to it; as many of the nearest as tell of defects that repeat."""
        last = min(scorer.retrieved, max(TRACED, self.k + COUNTED - 1))
        shape = (len(layouts), features.grid[0] * features.grid[1], last)
        matches = Matches(torch.empty(shape), torch.empty(shape, dtype=torch.int32))
        row_of = {name: row for row, name in enumerate(features.images.ids)}

        def match(batch: PatchBatch, row: int) -> int:
            number = row_of[batch.ids[row]]
            near = scorer.nearest_images(layouts[number][None], barred[number][None])
            found = scorer.matches(scorer.embedded(batch.patches[row][None]), near, 0, last)
            matches.distances[number], matches.entries[number] = found.distances[0], found.entries[0].int()
            return number

        for _ in features.each(match, f"comparing {features.view.pixels}"):
            pass
        return matches

    def _empty_scorer(self, view: View, state: State) -> PatchScorer:
        return empty_neighbours(view, state)


def empty_neighbours(view: View, state: State) -> ImageNeighbours:
    """A scorer of the shapes that `state` holds, with its k and its groups."""
    return ImageNeighbours(view.embedding(len(state["embedding.mean"])), state)


def near_copies(
    images: ImageSet, matches: Matches, inside: Tensor, rows: Tensor, kept: int
) -> tuple[tuple[str, ...], ...]:
    """Images that may be shots of one part: the ids, part by part, the largest first.

    An image is a near copy of another if that one holds the nearest like of most of its patches. `kept` patches are
    compared with of each of the images of `rows`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nearest = (matches.entries[..., 0] // kept).long()  # (N, P)
    counts = torch.zeros(len(nearest), len(rows)).scatter_add_(1, nearest, inside.float())
    share, other = (counts / inside.sum(1, keepdim=True)).max(1)
    copies = torch.nonzero(share > NEAR_COPY)[:, 0]
    pairs = (copies.numpy(), rows[other[copies]].numpy())
    graph = coo_array((np.ones(len(copies)), pairs), shape=(len(nearest), len(nearest)))
    _, part = connected_components(graph, directed=False)
    found: dict[int, list[str]] = {}
    for row in np.unique(np.concatenate(pairs)):
        found.setdefault(int(part[row]), []).append(images.ids[row])
    return tuple(sorted((tuple(names) for names in found.values()), key=len, reverse=True))


def _relative(
    matches: Matches, inside: Tensor, scorer: ImageNeighbours, rows: Tensor, start: int, end: int
) -> tuple[Tensor, Tensor]:
    """Distances (N, P), the mean over images from `start` to `end`, and the same relative to those of the matches."""
    away = matches.distances[..., start:end].mean(2)
    spacing = away[rows][:, scorer.where].flatten()
    usual = torch.zeros_like(away)
    for at in range(start, end):
        usual += spacing[matches.entries[..., at].long()]
    return away, away / (usual / (end - start) + _typical(away[inside]))


def _repeating_k(matches: Matches, inside: Tensor, scorer: ImageNeighbours, rows: Tensor) -> int:
    """The k two behind the last jump of the suspects' distances, `FIRST_K` where they do not jump.

    A defect that is in four images is near three others and far from all further ones: its distances jump behind the
    third. One that is in no other image is about equally far from all, so its distances grow less from image to image
    than those of an ordinary place. So growth is compared with that of ordinary images, at their highest places: in
    the median, which tells of the usual defect, and in the mean, which tells where some repeat and others do not. Some
    are in more images than those: hence one more.
    """
    count = matches.distances.shape[2]
    if count < TRACED:
        return FIRST_K
    last = count - COUNTED - 1  # a k two behind the last step has as many images as count
    _, maps = _relative(matches, inside, scorer, rows, last, last + 1)
    scores = highest_mean(maps, inside)
    middle, deviation = median_and_deviation(scores.numpy())
    suspect, ordinary = scores > middle + SUSPECT * deviation, scores < middle + ORDINARY * deviation
    if int(suspect.sum()) < FEWEST_SUSPECTS:
        return FIRST_K
    logs = matches.distances.clamp_min(1e-6).log()
    growth = (logs[..., 1 : last + 1] - logs[..., :last]).clamp_min(0)  # (N, P, last): d_2 / d_1, ...
    counted = maps.masked_fill(~inside, -torch.inf).topk(max(1, maps.shape[1] // 20), dim=1).indices
    steps = growth.gather(1, counted[..., None].expand(-1, -1, last)).median(dim=1).values  # (N, last)
    usual = steps[suspect].median(0).values > JUMP * steps[ordinary].median(0).values
    some = steps[suspect].mean(0) > FAR_JUMP * steps[ordinary].mean(0)
    jumps = torch.nonzero(usual | some)[:, 0]
    return int(jumps[-1]) + 3 if len(jumps) else FIRST_K


def _to_nearest(layouts: Tensor, barred: Tensor, rows: Tensor) -> Tensor:
    """The distance of each layout (N, L) to the nearest of `rows` that is not barred (N, n), (N,)."""
    parts = [
        torch.cdist(layouts[at : at + 256], layouts[rows]).masked_fill(barred[at : at + 256], torch.inf).amin(1)
        for at in range(0, len(layouts), 256)
    ]
    return torch.cat(parts)


def _typical(distances: Tensor) -> Tensor:
    """The median of distances, 1 where that is 0 or there are none: it stands in divisors."""
    finite = distances[distances.isfinite()]
    middle = finite.median() if len(finite) else torch.ones(())
    return middle if middle > 0 else torch.ones(())
