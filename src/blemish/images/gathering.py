"""From whatever a person has, a folder, a list, paths, pixels or features, to images with what is known of each."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from blemish.images.decoding import Decoding, Header, Pixels, decode
from blemish.images.feature_arrays import Array, ClassToken, FeatureArray, read_features
from blemish.images.finding import find, printable
from blemish.images.levels import Levels, common
from blemish.images.sources import as_pixels, examined_file, levels_of, none_readable
from blemish.images.urls import RemoteFile, is_url, openable, remote_file
from blemish.machine.errors import RequestError, UnreadableImageError
from blemish.machine.runtime import in_threads, runtime

MASK, POINTS = "a mask of another image", "positions of points, not a picture"  # why a file is left out
WAITING = 6  # more threads than cores while files are examined: they wait for the disk, above all one in a network
File = Path | RemoteFile | bytes | Pixels  # what holds an image


@dataclass(frozen=True)
class Turned:
    """The image `name` of a set, whose source is `source`, turned by so many quarters against the clock."""

    source: File
    name: str
    quarters: int


Source = File | Turned | FeatureArray
# As public data sets and labelling programs call them, without case, '-', '_' and ' '.
PLACES = frozenset({
    "annotation", "annotations", "binarymask", "binarymasks", "defectmasks", "groundtruth", "groundtruths", "gt", "gts",
    "label", "labels", "mask", "masks", "seg", "segmentation", "segmentationclass", "segmentations", "segmaps",
    "anomalymasks", "pixellabels",
})  # fmt: skip
MARK = re.compile(r"(?i)[-_. ]+(mask|masks|gt|label|labels|labelids|seg|segmentation|annotation|ground[-_ ]?truth)\d*$")
POINT_FOLDER, PICTURE_FOLDER = (
    "xyz",
    "rgb",
)  # folders of a 3D scan side by side: positions of points, and what a camera sees
FEW = 8  # levels of a mask: background and some kinds of defects
NEAR, MOSTLY = 12, 0.98  # or: this share of its pixels within so many levels of the lowest or highest (JPEG, resized)
LOOKED_AT = 256  # pixels, a side, that content is judged by
FIRST = 3  # files of a folder, named as in another, that have to look like masks before the rest is looked at
Sources = Mapping[str, Path | RemoteFile]
Sizes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Gathered:
    """What was found, by id; see the attributes of `images.ImageSet`, which have the same names."""

    sources: Mapping[str, Source]
    content: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    skipped: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    root: Path | str | None = None
    decoding: Decoding = field(default_factory=Decoding)
    notes: tuple[str, ...] = ()
    levels: Mapping[str, Levels] = field(default_factory=dict)
    lost: Mapping[str, bytes] = field(default_factory=dict)


def gathered(images: Any, decoding: Decoding, leave_out: Path | None, find_range: bool) -> Gathered:
    """What a folder, its URL, a list file, one or many paths, PIL images or uint8 arrays hold; see `ImageSet.of`."""
    if isinstance(images, (str, Path)):
        found = find(images, leave_out=leave_out)
        whole = not found.listed
        gathered = of_files(found.files, found.root, decoding, found.skipped, str(images), find_range, whole)
        left_out = {**found.left_out, **gathered.left_out}
        return replace(gathered, notes=(*gathered.notes, *found.notes), left_out=left_out)
    if isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim < 4):
        images = [images]
    if not isinstance(images, Iterable) or isinstance(images, (bytes, Mapping)):
        raise RequestError(
            f"Images cannot be a {type(images).__name__}; give a folder, a list file, or one or many paths, "
            "PIL images or uint8 RGB arrays."
        )
    items = list(images)
    if not items:
        raise RequestError("The list of images is empty; give at least one.")
    if all(isinstance(item, (str, Path)) for item in items):
        files = dict(_named(item) for item in items)
        return of_files(files, None, decoding, {}, "the list", find_range)
    return of_pixels({f"image-{index:06d}": item for index, item in enumerate(items)}, decoding)


def listed_ids(images: Any) -> list[str] | None:
    """The ids of the images of a list in its order, repeats among them; None for what is no list or tuple of paths."""
    if isinstance(images, (list, tuple)) and all(isinstance(item, (str, Path)) for item in images):
        return [_named(item)[0] for item in images]
    return None


def of_files(
    files: Mapping[str, Path | RemoteFile],
    root: Path | str | None,
    decoding: Decoding,
    not_found: Mapping[str, str],
    source: str,
    find_range: bool,
    whole: bool = False,
) -> Gathered:
    """The files that hold an image, each read once. Raises `RequestError` if none does; `source` names them all.

    Of a `whole` folder those that are annotations of others are left out.
    """
    skipped, paged = dict(not_found), 0
    sizes: dict[str, tuple[int, int]] = {}
    content: dict[str, str] = {}
    deep: list[str] = []
    names = sorted(files)

    def examined(name: str) -> tuple[Header, str] | str:
        return examined_file(files[name], decoding.max_pixels)

    with closing(in_threads(examined, names, runtime().threads + WAITING)) as results:
        for done, (name, result) in enumerate(zip(names, results, strict=True), start=1):
            if isinstance(result, str):
                skipped[name] = result
            else:
                header, content[name] = result
                sizes[name] = header.size
                deep += [name] if header.deep else []
                paged += header.pages > 1
            if done % 16 == 0 or done == len(names):
                runtime().progress("reading files", done, len(names))
    if not content:
        raise RequestError(none_readable(source, skipped))
    left_out: dict[str, str] = {}
    notes = [f"{paged} files have several pages or frames; the first of each is used."] if paged else []
    if whole:
        left_out = _without_annotations(files, sizes, content)
        notes += _counted(left_out)
        deep = [name for name in deep if name in content]
    levels: Mapping[str, Levels] = {}
    lost: Mapping[str, bytes] = {}
    if deep and (find_range or decoding.range):
        missing = None if find_range else decoding.missing
        found = common(levels_of({name: files[name] for name in deep}, missing), decoding.range, missing)
        for name, reason in found.skipped.items():
            skipped[name] = reason
            del content[name]
        if not content:
            raise RequestError(none_readable(source, skipped))
        notes += found.notes
        lost = found.lost
        levels = found.levels if decoding.range is None else {}
        decoding = replace(decoding, range=found.range, missing=found.missing if find_range else decoding.missing)
        if len(deep) < len(content):
            notes.append(f"Deeper than 8 bits are {len(deep)} of the {len(content)} images, the others are not.")
    return Gathered(files, content, sizes, skipped, left_out, root, decoding, tuple(notes), levels, lost)


def _without_annotations(
    files: Mapping[str, Path | RemoteFile], sizes: dict[str, tuple[int, int]], content: dict[str, str]
) -> dict[str, str]:
    """Take what is no picture of a part out of `sizes` and `content`; what each of these files is."""
    points = point_files(sorted(sizes))
    masks = annotations(files, {name: size for name, size in sizes.items() if name not in points})
    for name in (*points, *masks):
        del sizes[name], content[name]
    return {**dict.fromkeys(masks, MASK), **dict.fromkeys(points, POINTS)}


def _counted(left_out: Mapping[str, str]) -> list[str]:
    """What a person has to know of annotations that were left out."""
    notes = []
    for reason, kind in ((MASK, "masks of other images"), (POINTS, "positions of points, not pictures")):
        names = [name for name in left_out if left_out[name] == reason]
        if names:
            notes.append(
                f"{len(names)} files are {kind}, such as '{names[0]}', and are left out; list them in a .txt file to "
                "have them looked at."
            )
    return notes


def of_pixels(items: Mapping[str, object], decoding: Decoding) -> Gathered:
    """PIL images and uint8 RGB arrays (H, W, 3). Raises `RequestError` for what is neither."""
    sources: dict[str, Source] = {}
    sizes, content = {}, {}
    for index, (name, item) in enumerate(items.items()):
        rgb = as_pixels(item, index, decoding)
        sources[name], sizes[name] = rgb, (rgb.shape[1], rgb.shape[0])
        content[name] = hashlib.sha256(repr(rgb.shape).encode() + rgb.tobytes()).hexdigest()
    return Gathered(sources, content, sizes, decoding=decoding)


def of_features(
    features: str | Path | Array, ids: Sequence[str] | None, grid: tuple[int, int] | None, class_token: ClassToken
) -> Gathered:
    """Features alone; see `ImageSet.of_features`."""
    names, rows, content = read_features(features, ids, grid, class_token)
    sizes = {name: (row.grid[1], row.grid[0]) for name, row in zip(names, rows, strict=True)}
    sources: dict[str, Source] = dict(zip(names, rows, strict=True))
    note = "There are features alone: no image can be shown, no heatmap drawn."
    return Gathered(sources, dict(zip(names, content, strict=True)), sizes, notes=(note,))


def _named(item: str | Path) -> tuple[str, Path | RemoteFile]:
    """Id and file of one of a list of paths and URLs."""
    return (str(item), remote_file(str(item))) if is_url(item) else (printable(Path(item)), Path(item).expanduser())


def annotations(files: Sources, sizes: Sizes) -> list[str]:
    """The images (ids, with their width and height) that are masks of other images among them.

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
    """The ids that hold the positions of the points of a picture beside them (MVTec 3D-AD)."""
    stems = {str(PurePosixPath(name).with_suffix("")) for name in names}
    found = []
    for name in names:
        path = PurePosixPath(name)
        if path.parent.name == POINT_FOLDER and str(path.parent.parent / PICTURE_FOLDER / path.stem) in stems:
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
