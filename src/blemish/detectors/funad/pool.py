"""The patches that a Local-Net learns from, and what is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.embedding import Standardised
from blemish.detectors.sampling import even_plan, group_numbers
from blemish.detectors.views import ViewFeatures
from blemish.images import ANOMALOUS, NORMAL, SUSPECTED, UNKNOWN

FARTHEST = 16  # patches of each image that are always in the pool, those farthest from the first banks
KNOWN_BAD = 4  # of those, in an image that a person called bad, are surely its defect: 1/64 of a grid of 16 x 16


@dataclass(frozen=True)
class Pool:
    """Patches to learn from, of all images, those that stand out more densely.

    Attributes
    ----------
    patches : (n, D) float32.
    owners : (n,) row of each patch's image.
    positions : (n,) place of each patch in its grid.
    given : (n,) NORMAL or ANOMALOUS where a label is given, else UNKNOWN. All patches of an image known to be normal
        are; of one known to be anomalous, which has normal patches, too, the `KNOWN_BAD` farthest from the first banks
        are anomalous and the rest unknown.
    wholes : (N, G) standardised global vectors of the images; G is 0 for a net that takes none.
    groups : (N,) numbers of the images' groups.
    barred : (N,) bool, images that are known, or were set aside, as anomalous: never in the bank.
    distances : (n,) to the first banks, that hold nothing of the image; None without first banks.
    looks : (N,) image scores by those banks; None without.
    """

    patches: Tensor
    owners: Tensor
    positions: Tensor
    given: Tensor
    wholes: Tensor
    groups: Tensor
    barred: Tensor
    distances: Tensor | None = None
    looks: Tensor | None = None

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
            given=self.given[inside],
            distances=self.distances[inside] if self.distances is not None else None,
        )

    def to(self, device: str) -> "Pool":
        """The same on a device."""
        moved = {
            name: value.to(device) for name, value in self.__dict__.items() if isinstance(value, Tensor)
        }  # fmt: skip
        return replace(self, **moved)


def pool_of(
    features: ViewFeatures, count: int, seed: int, distances: Tensor | None = None, looks: Tensor | None = None
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
    given = torch.where(known == NORMAL, NORMAL, UNKNOWN)[owners]
    if away is not None:
        for row in torch.nonzero(known == ANOMALOUS)[:, 0]:
            mine = torch.nonzero(owners == row)[:, 0]
            given[mine[away[mine].argsort(descending=True)[:KNOWN_BAD]]] = ANOMALOUS
    return Pool(
        patches,
        owners,
        positions,
        given,
        torch.stack(wholes),
        group_numbers(images),
        (known == ANOMALOUS) | (known == SUSPECTED),
        away,
        looks,
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
