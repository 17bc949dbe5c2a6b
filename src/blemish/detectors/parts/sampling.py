"""Random choices of images and patches that depend on the seed and the images, not on their order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn

from blemish.detectors.parts.views import ViewFeatures
from blemish.images import ImageSet

WHOLE = 1 << 30  # patches drawn from an image that gives all its patches
Network = TypeVar("Network", bound=nn.Module)


def split_in_folds(images: ImageSet, count: int, seed: int) -> dict[str, int]:
    """Each image's fold, 0..count-1, at random and of near equal size; groups stay whole."""
    groups: dict[str, list[str]] = {}
    for name in images.ids:
        groups.setdefault(images.groups[name], []).append(name)
    members = sorted(groups.values())
    order = np.random.default_rng(seed).permutation(len(members))
    return {name: place % count for place, at in enumerate(order) for name in members[at]}


def group_numbers(images: ImageSet) -> Tensor:
    """The number of each image's group, (N,) int64, in the order of the ids."""
    number = {group: index for index, group in enumerate(sorted({images.groups[name] for name in images.ids}))}
    return torch.tensor([number[images.groups[name]] for name in images.ids])


def even_plan(ids: Iterable[str], total: int, seed: int) -> dict[str, int]:
    """How many patches to draw from each image so that `total` come together, spread as evenly as can be."""
    names = sorted(ids)
    each, rest = divmod(total, len(names))
    plan = dict.fromkeys(names, each)
    for index in np.random.default_rng(seed).permutation(len(names))[:rest]:
        plan[names[index]] += 1
    return {name: count for name, count in plan.items() if count}


@dataclass(frozen=True)
class PatchSample:
    """Valid patches of some images.

    Attributes
    ----------
    values : (n, D) float32.
    owners : (n,) int64, the row of each one's image in the ids of the set it was drawn from.
    places : (n,) int64, the place of each in its image's grid, row by row.
    """

    values: Tensor
    owners: Tensor
    places: Tensor

    def of(self, images: Tensor) -> "PatchSample":
        """The patches of the images that are true in the mask (N,); the images keep their rows."""
        return self.rows(images[self.owners])

    def rows(self, which: Tensor) -> "PatchSample":
        """The patches of a mask (n,) or of rows."""
        return PatchSample(self.values[which], self.owners[which], self.places[which])


@dataclass(frozen=True)
class TrainingPart:
    """What to learn from: patches of all images, or of some, which are copied when they are read.

    Attributes
    ----------
    drawn : patches of all images.
    images : (N,) bool, those to learn from; None for all.
    group_of : (N,) the number of each image's group.
    stage : name for progress.
    """

    drawn: PatchSample
    images: Tensor | None
    group_of: Tensor
    stage: str

    @property
    def sample(self) -> PatchSample:
        """The patches to learn from."""
        return self.drawn if self.images is None else self.drawn.of(self.images)

    @property
    def groups(self) -> Tensor:
        """The number of each patch's group, (n,)."""
        owners = self.drawn.owners
        return self.group_of[owners if self.images is None else owners[self.images[owners]]]


def whole_images(ids: Sequence[str], most: int, seed: int) -> dict[str, int]:
    """A plan that takes all patches of at most `most` of the images."""
    return dict.fromkeys(even_plan(ids, most, seed) if most < len(ids) else sorted(ids), WHOLE)


def draw_patches(features: ViewFeatures, plan: Mapping[str, int], seed: int, stage: str = "") -> PatchSample:
    """As many random valid patches of each image as `plan` has by its id; an image with fewer gives them all."""
    content = features.images.content  # the name would change with the folder that it is relative to
    row = {name: index for index, name in enumerate(features.images.ids)}
    places_of_all = features.grid[0] * features.grid[1]
    drawn = _Growing(sum(min(wanted, places_of_all) for wanted in plan.values()))
    for batch in features.batches([name for name in features.images.ids if name in plan], stage=stage):
        for index, name in enumerate(batch.ids):
            inside = torch.nonzero(batch.valid[index].flatten())[:, 0]
            if wanted := min(plan[name], len(inside)):
                rng = np.random.default_rng([seed, 0, crc32(content[name].encode())])
                chosen = np.sort(rng.choice(len(inside), wanted, replace=False))
                places = inside[torch.from_numpy(chosen)]
                drawn.add(batch.patches[index].flatten(0, 1), places, row[name])
    return drawn.sample()


class _Growing:
    """A sample as it is drawn, in the memory that it will have: parts put together later would take twice that."""

    def __init__(self, most: int) -> None:
        self.most, self.count = most, 0
        self.values = torch.empty(0, 0)
        self.owners, self.places = torch.empty(2, most, dtype=torch.long)

    def add(self, patches: Tensor, places: Tensor, owner: int) -> None:
        """Patches of an image (h * w, D) at some places (n,)."""
        if not self.count:
            self.values = torch.empty(self.most, patches.shape[1])
        end = self.count + len(places)
        torch.index_select(patches, 0, places, out=self.values[self.count : end])
        self.owners[self.count : end], self.places[self.count : end] = owner, places
        self.count = end

    def sample(self) -> PatchSample:
        """What was drawn."""
        return PatchSample(*(each[: self.count] for each in (self.values, self.owners, self.places)))


def seeded_weights(network: Network, seed: int) -> Network:
    """The network, the weights of its linear layers drawn as torch draws them, but from a separate generator.

    Torch has one generator for all threads: what another thread draws would change what comes next here.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=random)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=random)
    return network
