"""The distances of patches to their like in the most similar images, step by step (docs/methods/nearest_images.md)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from blemish.detectors.parts.embedding import Standardised
from blemish.detectors.parts.scoring_head import PatchScorer, State
from blemish.detectors.parts.views import View

LAYOUT = 4  # cells a side that a map is pooled to, for retrieval
COUNTED = 4  # images whose distances are averaged, from the k-th on
SAME = 0.02  # of the usual distance to the nearest layout: below, it is the same image
MOST_PATCHES = 1024  # of an image that is compared, at a time
MORE = 8  # images beyond those needed whose distances are measured in all directions
AT_ONCE = 5  # images compared with in one product, which stay in the processor's cache


class NearestPatches(NamedTuple):
    """Patches (B, P) with the nearest patch in each of some of the nearest images.

    Attributes
    ----------
    distances : (B, P, n) float32, Euclidean, the nearest image first.
    entries : (B, P, n) int64, that nearest patch, numbered through all images compared with.
    """

    distances: Tensor
    entries: Tensor

    def between(self, start: int, end: int) -> "NearestPatches":
        """Those in the `start`-th to the `end`-th of the images."""
        return NearestPatches(self.distances[..., start:end], self.entries[..., start:end])


class ImageNeighbours(PatchScorer):
    """How far patches are from their like in the images that are most like their own.

    `forward` maps patches (B, h, w, D) to (B, h, w). For each image:

    1. Its layout, the embedded map pooled to 4 x 4, finds the `retrieved` nearest images. A group of images, such as
       copies, counts as one. An image that is itself among those compared with is left out, and so is its group.
    2. The distance of a patch to an image is that to the image's nearest patch, which the 64 strongest directions of
       the embedding find. Ordered over the images,
       d_1 <= d_2 <= ..., the distance of the patch is the mean of d_k to d_(k+3): what is found again in fewer than k
       images stays far.
    3. It is divided by the same distance of those nearest patches, plus the typical one: a step that is
       common in a varied part of the product (print, threads) is not far; the same step on a plain surface is. The
       typical distance in the divisor bounds what a constant background can do.
    4. A patch that is nearer to a patch on which a person drew a defect than to its nearest patches is multiplied by
       how much nearer it is. All others stay as they are.

    Attributes
    ----------
    patches : (N, E, D) bfloat16, the embedded patches of the images compared with.
    halves : (N, E) float32, minus half the squared length of their strongest directions; -inf where a patch is not
        valid: it is near nothing.
    layouts : (N, L) float32.
    spacing : (N, E) float32, the distance of each patch, its own image's group left out.
    typical : (2,) float32, the median of those distances, and of the distances of layouts to the nearest.
    groups, known_good : (N,) int64 number of each image's group, from 0; bool, whether a person called it good.
    where : (E,) int64, the place in the grid of the patches that are kept of each image.
    content : (N, 32) uint8, the SHA-256 of each image.
    quarters : (N,) int64, the quarters against the clock by which that image was turned.
    counts : (2,) int64, k and `retrieved`.
    defects, defect_rows : (M, D) float32, the embedded patches on which a person drew defects, and (M,) int64, the
        images they are of among those compared with; None where nothing was drawn.
    """

    def __init__(self, embedding: Standardised, parts: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.embedding: Standardised = embedding
        names = ("patches", "halves", "layouts", "spacing", "typical", "groups", "known_good", "where", "content")
        for name in (*names, "quarters", "counts"):
            self.register_buffer(name, parts[name])
        self.patches: Tensor
        self.halves: Tensor
        self.layouts: Tensor
        self.spacing: Tensor
        self.typical: Tensor
        self.groups: Tensor
        self.known_good: Tensor
        self.where: Tensor
        self.content: Tensor
        self.quarters: Tensor
        self.counts: Tensor
        self.defects: Tensor | None
        self.defect_rows: Tensor | None
        self.know_defects(parts.get("defects"), parts.get("defect_rows"))
        # what decides on the way is no tensor: a graph is exported for one way
        self.k, self.retrieved = (int(count) for count in self.counts)
        self.group_count, self.some_known = int(self.groups.max()) + 1, bool(self.known_good.any())

    def choose(self, k: int) -> None:
        """Set k."""
        self.k = self.counts[0] = k

    def know_defects(self, patches: Tensor | None, rows: Tensor | None) -> None:
        """Set the patches (M, D) on which a person drew defects, of images of these rows (M,)."""
        self.register_buffer("defects", patches)
        self.register_buffer("defect_rows", rows)

    @property
    def window(self) -> tuple[int, int]:
        """The first of the nearest images that count, from 0, and the one behind the last, of as many as there are."""
        return min(self.k, self.retrieved) - 1, min(self.k + COUNTED - 1, self.retrieved)

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002, ARG002
        """Patches (B, h, w, D) to distances (B, h, w)."""
        return self.distances(patches)

    def distances(self, patches: Tensor, barred: Tensor | None = None) -> Tensor:
        """As `forward`, without the images that are true in `barred` (B, N); by default the image's own group."""
        embedded = self.embedded(patches)
        layouts = self.layouts_of(embedded, patches.shape[1:3])
        barred = self.own_group(layouts) if barred is None else barred
        compared = self.nearest_patches(embedded, self.nearest_images(layouts, barred), *self.window)
        times = self.nearer_to_defects(embedded, compared.distances.mean(2), barred)
        relative = relative_distances(compared, self.spacing, self.typical[0])
        return (relative * times).view(patches.shape[:3])

    def embedded(self, patches: Tensor) -> Tensor:
        """Patches (B, h, w, D) to (B, h * w, D)."""
        embedded: Tensor = self.embedding(patches.flatten(1, 2))
        return embedded

    def layouts_of(self, embedded: Tensor, grid: Sequence[int]) -> Tensor:
        """Embedded patches (B, h * w, D) to (B, L)."""
        return layouts_of(self.embedding.strongest(embedded), grid)

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

    def nearest_patches(self, embedded: Tensor, near: Tensor, start: int, end: int) -> NearestPatches:
        """Embedded patches (B, P, D) in the images of rows `near` (B, n), those from the `start`-th to the `end`-th."""
        parts = [self._nearest_of_some(some, near, start, end) for some in torch.split(embedded, MOST_PATCHES, dim=1)]
        if len(parts) == 1:
            return parts[0]
        return NearestPatches(*(torch.cat(each, dim=1) for each in zip(*parts, strict=True)))

    def _nearest_of_some(self, embedded: Tensor, near: Tensor, start: int, end: int) -> NearestPatches:
        count, (batch, size, width) = self.patches.shape[1], embedded.shape
        queries, searched = self.embedding.strongest(embedded), self.embedding.strongest(self.patches)
        highest, places = [], []
        for some in torch.split(near, AT_ONCE, dim=1):
            entries = searched.index_select(0, some.flatten()).float().view(batch, -1, searched.shape[2])
            # half the squared distance, negative, but for what is the same for all entries (B, m * E, C)
            products = torch.baddbmm(self.halves[some].flatten(1)[:, None], queries, entries.transpose(1, 2))
            closeness = products.view(batch, size, -1, count)  # (B, P, m, E)
            highest.append(closeness.amax(3))
            places.append(closeness.argmax(3))
        nearest, entries = torch.cat(highest, dim=2), near[:, None] * count + torch.cat(places, dim=2)  # (B, P, n)
        # the strongest directions find the nearest patches; distances are measured in all, of a few more than needed
        order = nearest.topk(min(end + MORE, near.shape[1]), dim=2).indices  # (B, P, c)
        if self.some_known:  # the nearest image that a person called good comes last
            good = self.known_good[near][:, None]  # (B, 1, n)
            order = torch.cat([order, nearest.masked_fill(~good, -torch.inf).argmax(2, keepdim=True)], dim=2)
        entries = entries.gather(2, order)
        found = self.patches.flatten(0, 1).index_select(0, entries.flatten()).view(batch, size, -1, width)
        distances = torch.linalg.vector_norm(found.float() - embedded[:, :, None], dim=3)
        if self.some_known:  # one such image is enough: it stands in for all that are farther
            nearer = good.any(2, keepdim=True) & (distances[..., -1:] < distances[..., :-1])
            entries = torch.where(nearer, entries[..., -1:], entries[..., :-1])
            distances = torch.where(nearer, distances[..., -1:], distances[..., :-1])
        order = distances.topk(end, dim=2, largest=False).indices[..., start:]
        return NearestPatches(distances.gather(2, order), entries.gather(2, order))

    def nearer_to_defects(self, embedded: Tensor, distances: Tensor, barred: Tensor) -> Tensor:
        """How many times nearer (B, P) patches (B, P, D) are to a drawn defect than `distances` (B, P); 1 or more.

        Defects of the images that are true in `barred` (B, N) do not count.
        """
        if self.defects is None or self.defect_rows is None:
            return torch.ones_like(distances)
        squares = embedded.square().sum(2, keepdim=True) + self.defects.square().sum(1)
        away = (squares - 2 * embedded @ self.defects.T).clamp_min(0).sqrt()  # (B, P, M)
        away = away.masked_fill(barred[:, self.defect_rows][:, None], torch.inf).amin(2)
        return ((distances + self.typical[0]) / (away + self.typical[0])).clamp_min(1)


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


def empty_neighbours(view: View, state: State) -> ImageNeighbours:
    """A scorer of the shapes that `state` holds, with its k and its groups."""
    return ImageNeighbours(view.embedding(len(state["embedding.mean"])), state)


def relative_distances(compared: NearestPatches, spacing: Tensor, usual: Tensor) -> Tensor:
    """The mean distance of patches (B, P) to those compared with, in units of what is usual at these.

    `spacing` (N, E) are the distances of the patches that are compared with, `usual` () is their median.
    """
    there = spacing.take(compared.entries.long()).mean(2)
    relative: Tensor = compared.distances.mean(2) / (there + usual)
    return relative


def typical(distances: Tensor) -> Tensor:
    """The median of distances, 1 where that is 0 or there are none: it is divided by."""
    finite = distances[distances.isfinite()]
    middle = finite.median() if len(finite) else torch.ones(())
    return middle if middle > 0 else torch.ones(())
