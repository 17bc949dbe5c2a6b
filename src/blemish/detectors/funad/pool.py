"""The patches that a Local-Net learns from, what is known of them, and which are a minibatch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from blemish.detectors.funad.schedule import Schedule
from blemish.detectors.parts.embedding import Standardised
from blemish.detectors.parts.sampling import even_plan, group_numbers
from blemish.detectors.parts.views import ViewFeatures
from blemish.features import FeatureSpec, features_of
from blemish.features.extract import box_in_grid
from blemish.images import ANOMALOUS, NORMAL, SUSPECTED, UNKNOWN, ImageSet
from blemish.images.synthesis import perlin_anomaly

FARTHEST = 16  # patches of each image that are always in the pool, those farthest from the first distances
KNOWN_BAD = 4  # of those, in an image that a person called bad, are surely its defect: 1/64 of a grid of 16 x 16
FAR_SHARE = 50  # one in so many patches counts as far from the first distances
KNOWN_SHARE = 3  # one in so many of those drawn as far is known to be a defect, where a person found some
DEFECT_SHARE = 0.1  # of a patch's area, from which on the patch counts as part of the defect


@dataclass(frozen=True)
class Pool:
    """Patches to learn from, of all images, those with large distances more densely.

    Attributes
    ----------
    patches : (n, D) float32.
    owners : (n,) row of each patch's image.
    positions : (n,) place of each patch in its grid.
    known_labels : (n,) NORMAL or ANOMALOUS where that is known, else UNKNOWN. All patches of an image known to be
        normal are; of one known to be anomalous, which has normal patches, too, the `KNOWN_BAD` with the largest
        distances are anomalous and the rest unknown.
    wholes : (N, G) standardised global vectors of the images; G is 0 for a net that takes none.
    groups : (N,) numbers of the images' groups.
    barred : (N,) bool, images that are known, or were set aside, as anomalous: never in the bank.
    distances : (n,) the distances of `nearest_images`, by images of other groups; None without.
    image_scores : (N,) by those distances; None without.
    """

    patches: Tensor
    owners: Tensor
    positions: Tensor
    known_labels: Tensor
    wholes: Tensor
    groups: Tensor
    barred: Tensor
    distances: Tensor | None = None
    image_scores: Tensor | None = None

    @property
    def images(self) -> Tensor:
        """Rows of the images that have patches here."""
        images: Tensor = torch.unique(self.owners)
        return images

    def owned(self, by: str) -> Tensor:
        """(n,) what a patch may not have as neighbour, as a number: its own "patch", "image" or "group"."""
        if by == "patch":
            return torch.arange(len(self.patches), device=self.patches.device)
        return self.owners if by == "image" else self.groups[self.owners]

    def of(self, images: Tensor, embedding: Standardised) -> "Pool":
        """The embedded patches of the images that are true in the mask (N,); the images keep their rows."""
        inside = images[self.owners]
        return replace(
            self,
            patches=embedding(self.patches[inside]),
            owners=self.owners[inside],
            positions=self.positions[inside],
            known_labels=self.known_labels[inside],
            distances=self.distances[inside] if self.distances is not None else None,
        )

    def to(self, device: str) -> "Pool":
        """The same on a device."""
        moved = {
            name: value.to(device) for name, value in self.__dict__.items() if isinstance(value, Tensor)
        }  # fmt: skip
        return replace(self, **moved)


def pool_of(
    features: ViewFeatures, count: int, seed: int, distances: Tensor | None = None, image_scores: Tensor | None = None
) -> Pool:
    """About `count` patches drawn evenly from all images, or all of them for 0.

    With `distances` (N, h, w), the farthest of each image are always among them. The global vectors are raw.
    """
    images = features.images
    plan = even_plan(images.ids, count, seed) if count else {}
    rng = np.random.default_rng(seed)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []  # patches, positions, owners
    wholes: list[Tensor] = []
    for batch in features.batches(stage=f"pool {features.view.pixels}"):
        for index, name in enumerate(batch.ids):
            row = len(wholes)
            inside = torch.nonzero(batch.valid[index].flatten())[:, 0]
            chosen = inside
            if count:
                chosen = inside[torch.from_numpy(rng.permutation(len(inside))[: plan.get(name, 0)])]
                if distances is not None:
                    far = distances[row].flatten()[inside].argsort(descending=True)[:FARTHEST]
                    chosen = torch.unique(torch.cat([chosen, inside[far]]))
            parts.append((batch.patches[index].flatten(0, 1)[chosen], chosen, torch.full((len(chosen),), row)))
            wholes.append(batch.globals[index])
    patches, positions, owners = (torch.cat([part[at] for part in parts]) for at in range(3))
    known = torch.tensor([images.labels.get(name, UNKNOWN) for name in images.ids])
    away = distances.flatten(1)[owners, positions] if distances is not None else None
    known_labels = torch.where(known == NORMAL, NORMAL, UNKNOWN)[owners]
    if away is not None:
        for row in torch.nonzero(known == ANOMALOUS)[:, 0]:
            mine = torch.nonzero(owners == row)[:, 0]
            known_labels[mine[away[mine].argsort(descending=True)[:KNOWN_BAD]]] = ANOMALOUS
    return Pool(
        patches,
        owners,
        positions,
        known_labels,
        torch.stack(wholes),
        group_numbers(images),
        (known == ANOMALOUS) | (known == SUSPECTED),
        away,
        image_scores,
    )


def joined(pool: Pool, more: Pool) -> Pool:
    """`pool` with the images of `more` behind its own."""
    shift = len(pool.groups)

    def both(name: str) -> Tensor | None:
        one, other = getattr(pool, name), getattr(more, name)
        if one is None or other is None:
            return None
        return torch.cat([one, other + shift if name == "owners" else other])

    names: Sequence[str] = tuple(Pool.__dataclass_fields__)
    return Pool(**{name: both(name) for name in names})  # type: ignore[arg-type]


class Minibatches(ABC):
    """Draws rows of a pool with a generator whose state is all that it remembers, but for `left`."""

    left: Tensor

    @abstractmethod
    def rows(self, rng: torch.Generator) -> Tensor:
        """Rows (n,) of the next minibatch."""


class OfPatches(Minibatches):
    """Patches of any images at random, a share of them among the most distant 2 %."""

    def __init__(self, pool: Pool, schedule: Schedule) -> None:
        self.count = len(pool.patches)
        self.left = torch.empty(0, dtype=torch.long)
        far = schedule.hard_share if pool.distances is not None else 0.0
        self.hard = round(far * schedule.batch)
        self.anywhere = schedule.batch - self.hard
        self.far = torch.empty(0, dtype=torch.long)
        if pool.distances is not None:
            self.far = pool.distances.argsort(descending=True)[: max(1, self.count // FAR_SHARE)]
            known = torch.nonzero(pool.known_labels == ANOMALOUS)[:, 0]
            if len(known):  # a handful among thousands would hardly ever be drawn
                times = max(1, len(self.far) // ((KNOWN_SHARE - 1) * len(known)))
                self.far = torch.cat([self.far, known.repeat(times)])

    def rows(self, rng: torch.Generator) -> Tensor:
        """Rows (n,) of the next minibatch."""
        drawn = torch.randint(self.count, (self.anywhere,), generator=rng, device=rng.device)
        if self.hard:
            far = self.far[torch.randint(len(self.far), (self.hard,), generator=rng, device=rng.device)]
            drawn = torch.cat([drawn, far])
        rows: Tensor = torch.unique(drawn)
        return rows


class OfImages(Minibatches):
    """All patches of some images; every image once an epoch, the last incomplete minibatch dropped, as published."""

    def __init__(self, pool: Pool, schedule: Schedule) -> None:
        self.images, self.owners = pool.images, pool.owners
        self.size = min(schedule.batch, len(self.images))
        self.left = torch.empty(0, dtype=torch.long, device=pool.owners.device)

    def rows(self, rng: torch.Generator) -> Tensor:
        """Rows (n,) of the next minibatch."""
        if len(self.left) < self.size:
            self.left = self.images[torch.randperm(len(self.images), generator=rng, device=rng.device)]
        taken, self.left = self.left[: self.size], self.left[self.size :]
        return torch.isin(self.owners, taken).nonzero()[:, 0]


def minibatches(pool: Pool, schedule: Schedule) -> Minibatches:
    """The kind that the schedule names."""
    return (OfPatches if schedule.minibatch == "patches" else OfImages)(pool, schedule)


@dataclass(frozen=True)
class SyntheticImages:
    """Images of the folder with a synthetic defect.

    Attributes
    ----------
    images : in the order they were made.
    sources : (M,) row of the image of the folder each was made from; it is in the fold and group of that one.
    masks : where the defects are, bool (H, W) each.
    """

    images: ImageSet
    sources: Tensor
    masks: Sequence[NDArray[np.bool_]]

    def pool(self, view: ViewFeatures, spec: FeatureSpec, patches: int, seed: int, labels: str) -> Pool:
        """Patches of these images as `view` sees them; `labels` "mask" gives their labels, "pseudo" does not."""
        features = ViewFeatures(view.view, features_of(self.images, spec))
        pool = pool_of(features, patches, seed)
        groups = group_numbers(view.images)[self.sources]
        if labels == "pseudo":
            return replace(pool, groups=groups)
        height, width = features.valid().shape[1:]
        shares = torch.stack([
            _in_grid(mask, box_in_grid((mask.shape[1], mask.shape[0]), spec.size or (1, 1)), (height, width))
            for mask in self.masks
        ])  # fmt: skip
        inside = shares.flatten(1)[pool.owners, pool.positions]
        # beyond the synthetic defect the image is one of the folder, and may have a true one
        return replace(pool, groups=groups, known_labels=torch.where(inside > DEFECT_SHARE, ANOMALOUS, UNKNOWN))


def with_synthetic_defects(images: ImageSet, count: int, seed: int) -> SyntheticImages:
    """`count` images made from images of the folder, half with a texture that is another image of it."""
    rng = np.random.default_rng([seed, 8])
    names = images.ids
    row = {name: index for index, name in enumerate(names)}
    chosen = [names[at] for at in rng.choice(len(names), count, replace=count > len(names))]
    pixels, masks = [], []
    for name in chosen:
        other = images.read(names[int(rng.integers(len(names)))]) if rng.random() < 0.5 else None
        changed, mask = perlin_anomaly(images.read(name), rng, other)
        pixels.append(changed)
        masks.append(mask)
    made = ImageSet.of(pixels)
    if images.roi is not None:
        made = replace(made, roi=images.roi.renamed(dict(zip(made.ids, chosen, strict=True))))
    lost = {new: images.lost[old] for new, old in zip(made.ids, chosen, strict=True) if old in images.lost}
    made = replace(made, lost=lost)
    return SyntheticImages(made, torch.tensor([row[name] for name in chosen]), masks)


def _in_grid(mask: NDArray[np.bool_], box: tuple[float, float, float, float], grid: tuple[int, int]) -> Tensor:
    """The share of each patch that is in a mask, (h, w), for an image at `box` in the grid."""
    left, top, right, bottom = (round(at * side) for at, side in zip(box, (grid[1], grid[0]) * 2, strict=True))
    size = (max(1, bottom - top), max(1, right - left))
    shares = F.interpolate(torch.from_numpy(mask)[None, None].float(), size=size, mode="area")[0, 0]
    placed = torch.zeros(grid)
    placed[top : top + size[0], left : left + size[1]] = shares[: grid[0] - top, : grid[1] - left]
    return placed
