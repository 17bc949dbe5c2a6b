"""The images of a job: who they are, where their pixels are, which of them count as one."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from blemish.images.decoding import Decoding, Pixels, decode, reduced
from blemish.images.feature_arrays import Array, ClassToken, FeatureArray
from blemish.images.gathering import WAITING, Gathered, Source, Turned, gathered, of_features, of_files, of_pixels
from blemish.images.groups import BY_PATH, groups_by
from blemish.images.levels import Levels, common_range
from blemish.images.notebook_cards import SIDE, card, data_uri
from blemish.images.roi import Roi
from blemish.images.sources import none_readable
from blemish.images.urls import RemoteFile, openable
from blemish.machine.errors import RequestError, UnreadableImageError
from blemish.machine.runtime import in_threads, runtime

UNKNOWN, NORMAL, ANOMALOUS = -1, 0, 1  # as a person labelled it
SUSPECTED = 2  # as purification found: not to be learned from as normal


SHOWN = 6  # images on a card


def turned_name(name: str, quarters: int) -> str:
    """The id of an image turned, see `ImageSet.with_turned`."""
    return f"{name}, turned by {90 * quarters}"


@dataclass(frozen=True, repr=False)
class ImageSet:
    """Images by id, in the order of their ids. Lazy: pixels are read when needed.

    Attributes
    ----------
    ids : POSIX paths relative to `root`, a folder or a URL, or `image-000000`, ... for arrays.
    sources : by id, a file here or behind a URL, its bytes, uint8 RGB pixels (H, W, 3), 0..255, or features alone.
    content : by id, the SHA-256 of the file's bytes or of the pixels.
    sizes : by id, (width, height) in pixels with the orientation applied.
    groups : by id, images that count as one when folds and subsets are made and that are never compared with
        each other; equal content by default.
    labels : by id, `NORMAL` or `ANOMALOUS` where a person labelled it so, `SUSPECTED` where purification did; the
        rest is unknown.
    defects : by id, where a person drew defects: the packed bits of a mask of `roi.SIDE` cells each way.
    skipped : what cannot be used, with the reason.
    left_out : files of the folder that are no images to look at, such as masks, with the reason.
    levels : by id, the levels of the deep images that `decoding.range` was found on; none where it was given.
    lost : by id, where a deep image holds no measurement, see `levels.FoundLevels`; such places are not scored.
    aspect : width / height that features are made at; None for the median of the set, see `settled`.
    roi : where to look; everywhere if there is none.
    extent : square root of the area in pixels that tiled features are made at; None for the median of the set.
    grouping : the regular expression that `groups` were made by, see `grouped`; "" for none.
    """

    ids: tuple[str, ...]
    sources: Mapping[str, Source]
    content: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    groups: Mapping[str, str]
    labels: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    root: Path | str | None = None
    decoding: Decoding = field(default_factory=Decoding)
    notes: tuple[str, ...] = ()
    levels: Mapping[str, Levels] = field(default_factory=dict)
    lost: Mapping[str, bytes] = field(default_factory=dict)
    aspect: float | None = None
    roi: Roi | None = None
    extent: float | None = None
    grouping: str = ""
    defects: Mapping[str, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        counted = "1 image" if len(self) == 1 else f"{len(self):,} images"
        place = f" in '{self.root}'" if self.root else ""
        sizes = sorted({self.sizes[name] for name in self.ids})
        size = "" if not sizes or self.features_alone else f", {sizes[0][0]} x {sizes[0][1]} pixels"
        size += " and other sizes" if size and len(sizes) > 1 else ""
        known = {label: sum(self.labels.get(name) == label for name in self.ids) for label in (NORMAL, ANOMALOUS)}
        labels = f", {known[NORMAL]} known to be good, {known[ANOMALOUS]} bad" if any(known.values()) else ""
        skipped = f"; {len(self.skipped)} skipped" if self.skipped else ""
        return f"ImageSet({counted}{place}{size}{labels}{skipped})"

    def _repr_html_(self) -> str:
        """A card with the first images, for notebooks."""
        pictures = []
        for name in self.ids[:SHOWN]:
            try:
                picture = Image.fromarray(self.read(name))
            except UnreadableImageError:
                continue
            picture.thumbnail((SIDE, SIDE))
            pictures.append((name, data_uri(picture)))
        return card(repr(self).removeprefix("ImageSet(").removesuffix(")"), self.notes, pictures)

    @classmethod
    def of(
        cls,
        images: Any,
        *,
        decoding: Decoding | None = None,
        leave_out: Path | None = None,
        find_range: bool = True,
    ) -> "ImageSet":
        """An ImageSet from whatever a person has.

        That is a folder, its URL, a list file (.txt, .csv); one or many paths, PIL images, or uint8 RGB arrays
        (H, W, 3), levels 0..255.

        Without a range in `decoding`, that of the images deeper than 8 bits is found, unless `find_range` is
        false: new images are read as the images of the fit were. Raises `RequestError` where `images` is none of
        these or no image can be read.
        """
        if isinstance(images, ImageSet):
            return images
        return cls._of(gathered(images, decoding or Decoding(), leave_out, find_range))

    @classmethod
    def named(cls, sources: Mapping[str, "Path | Pixels"], *, root: Path | None = None) -> "ImageSet":
        """Images under ids of the caller's choice: files below `root`, uint8 RGB arrays (H, W, 3), or both.

        Raises `RequestError` if there are none, or none can be read.
        """
        if not sources:
            raise RequestError("The list of images is empty; give at least one.")
        files = {name: source for name, source in sources.items() if isinstance(source, Path)}
        pixels = {name: source for name, source in sources.items() if name not in files}
        decoding = Decoding()
        arrays = cls._of(of_pixels(pixels, decoding)) if pixels else None
        if not files and arrays:
            return arrays
        found = cls._of(of_files(files, root, decoding, {}, str(root or "the list"), find_range=True))
        return found.joined(arrays, prefix="") if arrays else found

    @classmethod
    def of_features(
        cls,
        features: str | Path | Array,
        *,
        ids: Sequence[str] | None = None,
        grid: tuple[int, int] | None = None,
        class_token: ClassToken = "none",
    ) -> "ImageSet":
        """An ImageSet made of features alone: an array (N, P, D) of floats, or a .npy file that holds one.

        The class token is "none" beside the patches; "first", before them (N, P + 1, D); or "repeated" in the first
        half of every patch (N, P, 2 D). `grid` is (rows, columns) of the P patches where P is not a square; (N, D) is
        one feature an image. `ids` are in the order of the array, `image-000000`, ... by default. Raises
        `RequestError`, and so does reading pixels.
        """
        return cls._of(of_features(features, ids, grid, class_token))

    @classmethod
    def _of(cls, found: Gathered) -> "ImageSet":
        ids = tuple(sorted(found.content))
        sources = {name: found.sources[name] for name in ids}
        parts = {each.name: getattr(found, each.name) for each in fields(Gathered)}
        return cls(ids, groups=found.content, **{**parts, "sources": sources})

    def subset(self, ids: Iterable[str]) -> "ImageSet":
        """The same images, the `ids` only. Raises `RequestError` for an id that is not there."""
        wanted = set(ids)
        if unknown := sorted(wanted.difference(self.ids)):
            raise RequestError(f"'{unknown[0]}' is not an image of this set of {len(self)}.")
        return replace(self, ids=tuple(name for name in self.ids if name in wanted))

    def grouped(self, pattern: str) -> "ImageSet":
        """The set with images as one group whose ids hold the same text where `pattern` matches.

        It is the text of the pattern's groups, or of the whole match where it has none. Equal content stays one group,
        and so does what both join. Images that do not match are as before. Raises `RequestError` for a pattern that
        is no regular expression or matches no image.
        """
        if not pattern:
            return self
        groups = groups_by(pattern, self.ids, self.content)
        if not any(group.startswith(BY_PATH) for group in groups.values()):
            raise RequestError(
                f"`group_regex` '{pattern}' matches none of the {len(self)} paths, such as '{self.ids[0]}'; fix it, "
                "or leave it out."
            )
        return replace(self, groups=groups, grouping=pattern)

    def settled(self) -> "ImageSet":
        """The set with its median aspect ratio and area for good: features of its subsets get the same size."""
        return self if self.aspect else replace(self, aspect=self.median_aspect(), extent=self.median_extent())

    def on_its_own(self) -> "ImageSet":
        """The set as if it had been found without any other image: aspect and range of deep images are its own."""
        levels = {name: self.levels[name] for name in self.ids if name in self.levels}
        decoding = self.decoding
        if self.levels:
            decoding = replace(decoding, range=common_range(levels.values()) if levels else None)
        return replace(self, decoding=decoding, levels=levels, aspect=None, extent=None)

    def median_aspect(self) -> float:
        """The median of width / height."""
        return median(width / height for width, height in (self.sizes[name] for name in self.ids))

    def median_extent(self) -> float:
        """The median of the square root of the area, in pixels."""
        return median(math.sqrt(width * height) for width, height in (self.sizes[name] for name in self.ids))

    def without(self, skipped: Mapping[str, str]) -> "ImageSet":
        """The set without the images that cannot be read, which join `skipped` with their reasons.

        Raises `RequestError` if none is left.
        """
        if not skipped:
            return self
        rest = self.subset(name for name in self.ids if name not in skipped)
        skipped = {**self.skipped, **skipped}
        if not len(rest):
            raise RequestError(none_readable(str(self.root or "the list"), skipped))
        return replace(rest, skipped=skipped)

    def with_more(self, others: "ImageSet", note: str) -> "ImageSet":
        """These and other images of the set that both were taken from, which holds what there is to know of them."""
        ids = tuple(sorted((*self.ids, *others.ids)))
        return replace(self, ids=ids, notes=(*self.notes, note))

    def with_turned(self, ids: Iterable[str], quarters: Iterable[int]) -> "ImageSet":
        """These, and the images `ids` turned by each of so many `quarters` against the clock, in the images' groups."""
        copies = {turned_name(name, by): (name, by) for name in ids for by in quarters}

        def both(values: Mapping[str, Any]) -> dict[str, Any]:
            return {**values, **{copy: values[name] for copy, (name, _) in copies.items() if name in values}}

        sources, content, sizes = dict(self.sources), dict(self.content), dict(self.sizes)
        for copy, (name, by) in copies.items():
            sources[copy] = Turned(self.sources[name], name, by)  # type: ignore[arg-type]
            content[copy] = sha256(f"{self.content[name]} {by}".encode()).hexdigest()
            sizes[copy] = self.sizes[name] if by % 2 == 0 else (self.sizes[name][1], self.sizes[name][0])
        groups, labels, names = both(self.groups), both(self.labels), tuple(sorted((*self.ids, *copies)))
        return replace(
            self.settled(), ids=names, sources=sources, content=content, sizes=sizes, groups=groups, labels=labels
        )

    def joined(self, others: "ImageSet", *, prefix: str, label: int | None = None) -> "ImageSet":
        """Both sets as one, the ids of `others` behind `prefix` and labelled `label` if one is given.

        Deep images of either are read with the range of `self`, or that of `others` where `self` has none.
        """
        named = {name: f"{prefix}{name}" for name in others.ids}

        def both(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
            return {**mine, **{named[name]: theirs[name] for name in others.ids}}

        return replace(
            self,
            ids=tuple(sorted((*self.ids, *named.values()))),
            sources=both(self.sources, others.sources),
            content=both(self.content, others.content),
            sizes=both(self.sizes, others.sizes),
            groups=both(self.groups, others.groups),
            labels={**self.labels, **(dict.fromkeys(named.values(), label) if label is not None else {})},
            decoding=self.decoding
            if self.decoding.range
            else replace(self.decoding, range=others.decoding.range, missing=others.decoding.missing),
            levels=self.levels if self.decoding.range else {named[name]: others.levels[name] for name in others.levels},
            lost={**self.lost, **{named[name]: others.lost[name] for name in others.ids if name in others.lost}},
            skipped={**self.skipped, **{f"{prefix}{name}": why for name, why in others.skipped.items()}},
            left_out={**self.left_out, **{f"{prefix}{name}": why for name, why in others.left_out.items()}},
            notes=tuple(dict.fromkeys((*self.notes, *others.notes))),
        )

    def read(self, name: str, *, full: bool = False) -> Pixels:
        """The image `name` as uint8 RGB, (H, W, 3), 0..255; large ones reduced unless `full`.

        Raises `UnreadableImageError`.
        """
        return self._read(self.sources[name], full)

    def _read(self, source: Source, full: bool) -> Pixels:
        if isinstance(source, FeatureArray):
            raise UnreadableImageError("only its features are known")
        if isinstance(source, Turned):
            return np.ascontiguousarray(np.rot90(self._read(source.source, full), source.quarters))
        if isinstance(source, (Path, RemoteFile)):
            source = openable(source)
        if isinstance(source, (Path, bytes)):
            return decode(source, self.decoding, full=full)
        return source if full else reduced(source)

    def packed(self, ids: Iterable[str]) -> "ImageSet":
        """The images `ids` with the bytes of their files, for a machine that has no such files.

        A file that cannot be read is packed as no bytes, which is no image.
        """
        part = self.settled().subset(ids)

        def packed(source: Any) -> Any:
            if isinstance(source, Turned):
                return replace(source, source=packed(source.source))
            try:
                return source.read_bytes() if isinstance(source, (Path, RemoteFile)) else source
            except (OSError, UnreadableImageError):
                return b""

        def of(values: Mapping[str, Any]) -> dict[str, Any]:
            return {name: values[name] for name in part.ids if name in values}

        with closing(
            in_threads(packed, [self.sources[name] for name in part.ids], runtime().threads + WAITING)
        ) as results:
            sources = dict(zip(part.ids, results, strict=True))
        maps: dict[str, Any] = {
            name: of(getattr(self, name))
            for name in ("content", "sizes", "groups", "labels", "levels", "lost", "defects")
        }
        return replace(part, sources=sources, skipped={}, **maps)

    def images(self) -> Iterator[tuple[str, Pixels]]:
        """Every image with its id, one in memory at a time. Raises `RequestError` if there are features alone."""
        if self.features_alone:
            raise RequestError(
                f"These {len(self)} images are known by their features alone; give the images, or take a detector "
                "that looks at features."
            )
        for name in self.ids:
            yield name, self.read(name)

    @property
    def place(self) -> str | None:
        """Where the images are, to be noted with a result: an absolute path or a URL; None if they have no root."""
        return str(self.root.resolve()) if isinstance(self.root, Path) else self.root

    @property
    def features_alone(self) -> bool:
        """Whether there are no pixels, but features that were given."""
        return any(isinstance(self.sources[name], FeatureArray) for name in self.ids)

    def feature_arrays(self) -> dict[str, FeatureArray]:
        """By id, the features that were given. Raises `RequestError` if there are images among them."""
        given = {name: source for name in self.ids if isinstance(source := self.sources[name], FeatureArray)}
        if len(given) < len(self):
            raise RequestError(
                "The detector looks at features that were given, and these are images; give features of the "
                "same kind (`ImageSet.of_features`)."
            )
        return given
