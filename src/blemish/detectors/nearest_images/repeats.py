"""What repeats in a folder: defects, which make k larger, and shots of one part, which are reported."""

import os
import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.nearest_images.scorer import COUNTED, NearestPatches, relative_distances, typical
from blemish.detectors.parts.fusion import SHARE, highest_mean
from blemish.scores.cuts import median_and_deviation

FIRST_K = 2  # the least that is chosen: a copy of a defect does not count
TRACED = 12  # nearest images whose distances show whether defects repeat
SUSPECT, ORDINARY = 3.0, 1.0  # deviations above the median: images that may be bad, and the rest
FEWEST_SUSPECTS = 8  # with fewer, chance decides where their distances jump
JUMP, FAR_JUMP = 1.5, 2.0  # times an ordinary place's growth from one image to the next, in the median, in the mean
NEAR_COPY = 0.6  # of an image's patches: where one other image is nearest to more, both may show one part


def by_farthest(compared: NearestPatches, inside: Tensor, rows: Tensor, where: Tensor) -> Tensor | None:
    """Maps (N, P) by the distance to the farthest image traced, which few defects are in; None for fewer images."""
    last = compared.distances.shape[2] - COUNTED - 1  # a k two behind the last step has as many images as there are
    if last < TRACED - COUNTED - 1:
        return None
    farthest = compared.between(last, last + 1)
    away = farthest.distances[..., 0]
    return relative_distances(farthest, away[rows][:, where], typical(away[inside]))


def repeating_k(compared: NearestPatches, inside: Tensor, maps: Tensor | None) -> int:
    """The k two behind the last jump of the suspects' distances, `FIRST_K` where they do not jump.

    A defect that is in four images is near three others and far from all further ones: its distances jump behind the
    third. One that is in no other image is about equally far from all, so its distances grow less from image to image
    than those of an ordinary place. So growth is compared with that of ordinary images, at their highest places: in
    the median, which shows the usual defect, and in the mean, which shows where some repeat and others do not. An
    image of which the folder holds few like it, a part that lies as few others do, jumps at all its places; so the
    highest have to jump more than all do on the mean. Some defects are in more images than those: hence one more.
    Suspects stand out in `maps`, those `by_farthest`.
    """
    if maps is None:
        return FIRST_K
    last = compared.distances.shape[2] - COUNTED - 1
    scores = highest_mean(maps, inside)
    middle, deviation = median_and_deviation(scores.numpy())
    suspect, ordinary = scores > middle + SUSPECT * deviation, scores < middle + ORDINARY * deviation
    if int(suspect.sum()) < FEWEST_SUSPECTS:
        return FIRST_K
    logs = compared.distances.clamp_min(1e-6).log()
    growth = (logs[..., 1 : last + 1] - logs[..., :last]).clamp_min(0)  # (N, P, last): d_2 / d_1, ...
    counted = maps.masked_fill(~inside, -torch.inf).topk(max(1, int(SHARE * maps.shape[1])), dim=1).indices
    steps = growth.gather(1, counted[..., None].expand(-1, -1, last)).median(dim=1).values  # (N, last)
    whole = growth.masked_fill(~inside[..., None], 0).sum(1) / inside.sum(1, keepdim=True)  # (N, last), all places
    others, wholes = steps[ordinary], JUMP * whole[suspect]
    usual = steps[suspect].median(0).values > torch.maximum(JUMP * others.median(0).values, wholes.median(0).values)
    some = steps[suspect].mean(0) > torch.maximum(FAR_JUMP * others.mean(0), wholes.mean(0))
    jumps = torch.nonzero(usual | some)[:, 0]
    return int(jumps[-1]) + 3 if len(jumps) else FIRST_K


def names_share(copies: Sequence[Sequence[str]], ids: Sequence[str]) -> str:
    """How the names of the first of `copies` begin, where that tells near copies from other images; else "".

    That is where half of the images of `ids` whose names begin so are near copies, and half of the near copies do.
    """
    start = os.path.commonprefix(list(copies[0]))  # noqa: RUF071 - names, not folders
    if any(name[len(start) : len(start) + 1].isdigit() for name in copies[0]):
        start = start.rstrip("0123456789")  # how a number begins tells nothing
    every = [name for names in copies for name in names]
    near = sum(name.startswith(start) for name in every)
    return start if 2 * near >= max(len(every), sum(name.startswith(start) for name in ids)) else ""


def on_near_copies(copies: Sequence[Sequence[str]], ids: Sequence[str]) -> str:
    """A sentence for the report of a folder with images `ids`."""
    count, example = sum(map(len, copies)), ", ".join(f"'{name}'" for name in copies[0][:3])
    shared = names_share(copies, ids)
    pattern = re.sub(r"\d+", r"\\d+", re.escape(shared))
    fix = f": set `group_regex` to what only their names share, such as '{pattern}'" if shared else ""
    return (
        f"{count} images look nearly alike, such as {example}: a similar pose, or shots of one part? Shots of one part "
        f"should count as one{fix}."
    )


def near_copies(
    ids: Sequence[str], compared: NearestPatches, inside: Tensor, rows: Tensor, kept: int
) -> tuple[tuple[str, ...], ...]:
    """Images that may be shots of one part: the ids, part by part, the largest first.

    An image of `ids` is a near copy of another if that one holds the nearest like of most of its patches. `kept`
    patches are compared with of each of the images of `rows`. Of images with a single patch that says nothing: there
    are none.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if inside.shape[1] == 1:
        return ()
    nearest = (compared.entries[..., 0] // kept).long()  # (N, P)
    counts = torch.zeros(len(nearest), len(rows)).scatter_add_(1, nearest, inside.float())
    share, other = (counts / inside.sum(1, keepdim=True)).max(1)
    copies = torch.nonzero(share > NEAR_COPY)[:, 0]
    pairs = (copies.numpy(), rows[other[copies]].numpy())
    graph = coo_array((np.ones(len(copies)), pairs), shape=(len(nearest), len(nearest)))
    _, part = connected_components(graph, directed=False)
    found: dict[int, list[str]] = {}
    for row in np.unique(np.concatenate(pairs)):
        found.setdefault(int(part[row]), []).append(ids[row])
    return tuple(sorted((tuple(names) for names in found.values()), key=len, reverse=True))
