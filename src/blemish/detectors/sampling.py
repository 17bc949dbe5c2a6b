"""Random choices of images and patches that depend on the seed and the images, not on their order."""

from collections.abc import Iterable, Mapping, Sequence
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.views import ViewFeatures
from blemish.images import ImageSet


def split_in_folds(images: ImageSet, count: int, seed: int) -> dict[str, int]:
    """Each image's fold, 0..count-1, at random and of near equal size; groups stay whole."""
    groups: dict[str, list[str]] = {}
    for name in images.ids:
        groups.setdefault(images.groups[name], []).append(name)
    members = sorted(groups.values())
    order = np.random.default_rng(seed).permutation(len(members))
    return {name: place % count for place, at in enumerate(order) for name in members[at]}


def even_plan(ids: Iterable[str], total: int, seed: int) -> dict[str, int]:
    """How many patches to draw from each image so that `total` come together, spread as evenly as can be."""
    names = sorted(ids)
    each, rest = divmod(total, len(names))
    plan = dict.fromkeys(names, each)
    for index in np.random.default_rng(seed).permutation(len(names))[:rest]:
        plan[names[index]] += 1
    return {name: count for name, count in plan.items() if count}


def draw_patches(
    features: ViewFeatures,
    plans: Sequence[Mapping[str, int]],
    seed: int,
    stage: str = "",
) -> list[tuple[Tensor, Tensor]]:
    """Random valid patches for several plans in one pass over the features.

    Returns, for each plan, the patches (n, D) float32 and the row of each one's image in `features.images.ids`,
    (n,) int64. An image with fewer patches than asked for gives them all.
    """
    content = features.images.content  # the name would change with the folder that it is relative to
    ids = [name for name in features.images.ids if any(name in plan for plan in plans)]
    row = {name: index for index, name in enumerate(features.images.ids)}
    drawn: list[list[Tensor]] = [[] for _ in plans]
    owners: list[list[Tensor]] = [[] for _ in plans]
    for batch in features.batches(ids, stage=stage):
        for index, name in enumerate(batch.ids):
            patches = batch.patches[index][batch.valid[index]]
            for at, plan in enumerate(plans):
                if wanted := min(plan.get(name, 0), len(patches)):
                    rng = np.random.default_rng([seed, at, crc32(content[name].encode())])
                    chosen = rng.choice(len(patches), wanted, replace=False)
                    drawn[at].append(patches[torch.from_numpy(np.sort(chosen))])
                    owners[at].append(torch.full((wanted,), row[name]))
    return [(torch.cat(d), torch.cat(o)) for d, o in zip(drawn, owners, strict=True)]
