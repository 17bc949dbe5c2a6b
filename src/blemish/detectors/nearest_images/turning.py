"""Parts that lie at any angle: of a small folder, whether its images are compared with each other turned, too."""

from collections.abc import Sequence

import torch
from torch import Tensor

from blemish.detectors.nearest_images.scorer import ImageNeighbours
from blemish.detectors.parts.views import View, ViewFeatures
from blemish.features import FeatureSpec, features_of
from blemish.images import ANOMALOUS, SUSPECTED, ImageSet
from blemish.images.image_set import turned_name
from blemish.machine.runtime import intra_op_threads

FEWEST = 12  # images: of fewer, chance decides whether parts seem to lie at any angle
TRIED = 8  # images that are turned first, to see whether parts lie at any angle
AS_LIKE = 0.42  # of the pairs: where more are nearer turned, they do. Chance alone makes it a half


def quarters_of(specs: Sequence[FeatureSpec]) -> tuple[int, ...]:
    """The quarters by which images of these working sizes can be turned: by a half alone where they are not square."""
    square = all(height == width for height, width in (spec.size or (1, 1) for spec in specs))
    return (1, 2, 3) if square else (2,)


def may_be_turned(images: ImageSet) -> list[str]:
    """The images that may be compared with turned: none of very few, nor where a region says where to look."""
    if len(images) < FEWEST or images.roi is not None:
        return []
    bad = {name for name in images.ids if images.labels.get(name) in (ANOMALOUS, SUSPECTED)}
    return [name for name in images.ids if name not in bad and name not in images.lost]


def lie_at_any_angle(
    images: ImageSet,
    upright: Sequence[str],
    quarters: Sequence[int],
    view: View,
    scorer: ImageNeighbours,
    spec: FeatureSpec,
) -> bool:
    """Whether some of the images `upright`, turned by so many quarters, look about as like the others as upright.

    `scorer` was fitted on the images as they are, with `view` and its features `spec`.
    """
    few = sorted(upright, key=lambda name: images.content[name])[:TRIED]
    features = ViewFeatures(view, features_of(images.with_turned(few, quarters), spec))

    def layouts(ids: Sequence[str]) -> Tensor:
        return torch.cat(
            [scorer.layouts_of(scorer.embedded(batch.patches), features.grid) for batch in features.batches(ids)]
        )

    others = torch.tensor([[images.groups[name] != images.groups[one] for one in few] for name in images.ids])
    with torch.no_grad(), intra_op_threads(1):
        whole = layouts(images.ids)
        away = torch.cdist(whole, layouts(few))
        nearer = [torch.cdist(whole, layouts([turned_name(name, by) for name in few])) < away for by in quarters]
    return bool(torch.stack(nearer)[:, others].float().mean() > AS_LIKE)  # NaN where there are no others
