"""Which files of a data set are annotations of others: masks by name or place, and by content."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath

import numpy as np

from blemish.images.decoding import Decoding, decode
from blemish.images.urls import RemoteFile, openable
from blemish.machine.errors import UnreadableImageError
from blemish.machine.runtime import in_threads, runtime

# As public data sets and labelling programs call them, without case, '-', '_' and ' '.
PLACES = frozenset({
    "annotation", "annotations", "binarymask", "binarymasks", "defectmasks", "groundtruth", "groundtruths", "gt", "gts",
    "label", "labels", "mask", "masks", "seg", "segmentation", "segmentationclass", "segmentations", "segmaps",
    "anomalymasks", "pixellabels",
})  # fmt: skip
MARK = re.compile(r"(?i)[-_. ]+(mask|masks|gt|label|labels|labelids|seg|segmentation|annotation|ground[-_ ]?truth)\d*$")
POINTS, PICTURES = "xyz", "rgb"  # folders of a 3D scan side by side: positions of points, and what a camera sees
FEW = 8  # levels of a mask: background and some kinds of defects
NEAR, MOSTLY = 12, 0.98  # or: this share of its pixels within so many levels of the lowest or highest (JPEG, resized)
LOOKED_AT = 256  # pixels, a side, that content is judged by
FIRST = 3  # files of a folder, named like those of another, that have to look like masks before the rest is looked at

Sources = Mapping[str, Path | RemoteFile]
Sizes = Mapping[str, tuple[int, int]]


def annotations(files: Sources, sizes: Sizes) -> list[str]:
    """Those of the images (ids, with their width and height) that are masks of other ones among them.

    A mask has few levels and the size of an image that is none. It is in a folder such as `ground_truth`, is called
    `..._mask`, or is called as an image in another folder or with another suffix.
    """
    named = [name for name in sizes if _is_named(name)]
    rest = [name for name in sizes if not _is_named(name)]
    there = {sizes[name] for name in rest}
    found = _with_few_levels([name for name in named if sizes[name] in there], files)
    partners: dict[tuple[str, tuple[int, int]], int] = defaultdict(int)
    for name in rest:
        partners[PurePosixPath(name).stem, sizes[name]] += 1
    alike: dict[tuple[PurePosixPath, str], list[str]] = defaultdict(list)
    for name in rest:
        path = PurePosixPath(name)
        if partners[path.stem, sizes[name]] > 1:
            alike[path.parent, path.suffix].append(name)
    several = [names for names in alike.values() if len(names) >= FIRST]
    firsts = _with_few_levels([name for names in several for name in names[:FIRST]], files)
    unnamed = [names for names in several if firsts.issuperset(names[:FIRST])]
    if len(unnamed) < len(alike):  # where all folders look so, they are the images
        found |= _with_few_levels([name for names in unnamed for name in names], files)
    return sorted(found)


def point_files(names: Sequence[str]) -> list[str]:
    """Those of the ids that hold the positions of the points of a picture beside them (MVTec 3D-AD)."""
    stems = {str(PurePosixPath(name).with_suffix("")) for name in names}
    found = []
    for name in names:
        path = PurePosixPath(name)
        if path.parent.name == POINTS and str(path.parent.parent / PICTURES / path.stem) in stems:
            found.append(name)
    return found


def _is_named(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(MARK.search(path.stem)) or any(re.sub(r"[-_ ]", "", each).lower() in PLACES for each in path.parts[:-1])


def _with_few_levels(names: Sequence[str], files: Sources) -> set[str]:
    def few(name: str) -> bool:
        try:
            pixels = decode(openable(files[name]), Decoding(range=(0.0, 255.0)))
        except UnreadableImageError:
            return False
        step = max(1, max(pixels.shape[:2]) // LOOKED_AT)
        small = pixels[::step, ::step].reshape(-1, 3)
        if len(np.unique(small, axis=0)) <= FEW:
            return True
        grey = small.astype(np.int16).mean(axis=1)
        low, high = grey.min(), grey.max()
        return bool(((grey <= low + NEAR) | (grey >= high - NEAR)).mean() >= MOSTLY and high - low > 4 * NEAR)

    with closing(in_threads(few, names, runtime().threads)) as results:
        return {name for name, is_mask in zip(names, results, strict=True) if is_mask}
