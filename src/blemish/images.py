"""The images of a job: who they are, where their pixels are, which of them count as one."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from blemish.decoding import Decoding, decode, read_header, read_levels, reduced
from blemish.errors import RequestError, UnreadableImageError
from blemish.folders import find

if TYPE_CHECKING:  # the features of images are made further down the road; only their type is named here
    from blemish.features.store import PatchFeatures

UNKNOWN, NORMAL, ANOMALOUS = -1, 0, 1
Pixels = NDArray[np.uint8]
Images = "str | Path | ImageSet | Sequence[str | Path | Image.Image | Pixels]"


class FeatureSource(Protocol):
    """What `ImageSet.features` asks for features: see `features.extract.FeatureSpec`."""

    def extract(self, images: "ImageSet") -> "PatchFeatures":
        """Features of every readable image, from the cache where they are there."""


@dataclass(frozen=True)
class ImageSet:
    """Images by id, in the order of their ids. Lazy: pixels are read when asked for.

    Attributes
    ----------
    ids : POSIX paths relative to `root`, or `image-000000`, ... for arrays.
    sources : by id, a file or uint8 RGB pixels (H, W, 3), 0..255.
    content : by id, the SHA-256 of the file's bytes or of the pixels.
    sizes : by id, (width, height) in pixels with the orientation applied.
    groups : by id, images that count as one when folds and subsets are made and that never vouch for each
        other; equal content unless said otherwise.
    labels : by id, `NORMAL` or `ANOMALOUS` where a person said so; the rest is unknown.
    skipped : what cannot be used, with the reason.
    """

    ids: tuple[str, ...]
    sources: Mapping[str, Path | Pixels]
    content: Mapping[str, str]
    sizes: Mapping[str, tuple[int, int]]
    groups: Mapping[str, str]
    labels: Mapping[str, int] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None
    decoding: Decoding = field(default_factory=Decoding)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, images: Any, *, decoding: Decoding | None = None, leave_out: Path | None = None) -> "ImageSet":
        """An ImageSet from whatever a person has: a folder, a list file, paths, PIL images, uint8 RGB arrays.

        Raises `RequestError` where that is none of these or holds no image.
        """
        decoding = decoding or Decoding()
        if isinstance(images, ImageSet):
            return images
        if isinstance(images, (str, Path)):
            found = find(Path(images), leave_out=leave_out)
            return cls._of_files(found.files, found.root, decoding, found.skipped)
        if isinstance(images, (Image.Image, np.ndarray)):
            raise RequestError("Got one image; hand in a list of images, such as [image].")
        items = list(images)
        if not items:
            raise RequestError("The list of images is empty; hand in at least one.")
        if all(isinstance(item, (str, Path)) for item in items):
            return cls._of_files({Path(item).as_posix(): Path(item) for item in items}, None, decoding, {})
        return cls._of_pixels(items, decoding)

    @classmethod
    def _of_files(
        cls, files: Mapping[str, Path], root: Path | None, decoding: Decoding, skipped: Mapping[str, str]
    ) -> "ImageSet":
        left_out, sizes, content, deep, paged = dict(skipped), {}, {}, [], 0
        for name in sorted(files):
            try:
                header = read_header(files[name], decoding.max_pixels)
                with files[name].open("rb") as file:
                    content[name] = hashlib.file_digest(file, "sha256").hexdigest()
            except UnreadableImageError as error:
                left_out[name] = str(error)
                continue
            except OSError as error:
                left_out[name] = f"cannot be read: {error.strerror}"
                continue
            sizes[name] = header.size
            deep += [files[name]] if header.deep else []
            paged += header.pages > 1
        if deep and decoding.range is None:
            decoding = replace(decoding, range=_common_range(deep))
        notes = [f"{paged} files have several pages or frames; the first of each is used"] if paged else []
        return cls._sorted(files, content, sizes, left_out, root, decoding, tuple(notes))

    @classmethod
    def _of_pixels(cls, items: Sequence[object], decoding: Decoding) -> "ImageSet":
        sources = {f"image-{index:06d}": _as_pixels(item, index) for index, item in enumerate(items)}
        content = {
            name: hashlib.sha256(repr(rgb.shape).encode() + rgb.tobytes()).hexdigest() for name, rgb in sources.items()
        }
        sizes = {name: (rgb.shape[1], rgb.shape[0]) for name, rgb in sources.items()}
        return cls._sorted(sources, content, sizes, {}, None, decoding, ())

    @classmethod
    def _sorted(
        cls,
        sources: Mapping[str, Any],
        content: Mapping[str, str],
        sizes: Mapping[str, tuple[int, int]],
        skipped: Mapping[str, str],
        root: Path | None,
        decoding: Decoding,
        notes: tuple[str, ...],
    ) -> "ImageSet":
        ids = tuple(sorted(content))
        kept = {name: sources[name] for name in ids}
        return cls(ids, kept, content, sizes, content, {}, skipped, root, decoding, notes)

    def subset(self, ids: Iterable[str]) -> "ImageSet":
        """The same images, those of `ids` only. Raises `RequestError` for an id that is not there."""
        wanted = set(ids)
        if unknown := sorted(wanted.difference(self.ids)):
            raise RequestError(f"'{unknown[0]}' is not an image of this set of {len(self)}.")
        return replace(self, ids=tuple(name for name in self.ids if name in wanted))

    def without(self, unreadable: Mapping[str, str]) -> "ImageSet":
        """The set less the images that turned out unreadable, which join `skipped` with their reasons."""
        if not unreadable:
            return self
        rest = self.subset(name for name in self.ids if name not in unreadable)
        return replace(rest, skipped={**self.skipped, **unreadable})

    def joined(self, others: "ImageSet", *, prefix: str, label: int) -> "ImageSet":
        """Both sets as one, the ids of `others` behind `prefix` and labelled `label`."""
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
            labels={**self.labels, **dict.fromkeys(named.values(), label)},
            skipped={**self.skipped, **{f"{prefix}{name}": why for name, why in others.skipped.items()}},
            notes=(*self.notes, *others.notes),
        )

    def read(self, name: str) -> Pixels:
        """The image `name` as uint8 RGB, (H, W, 3), 0..255. Raises `UnreadableImageError`."""
        source = self.sources[name]
        return decode(source, self.decoding) if isinstance(source, Path) else source

    def images(self) -> Iterator[tuple[str, Pixels]]:
        """Every image with its id, one in memory at a time."""
        for name in self.ids:
            yield name, self.read(name)

    def features(self, source: FeatureSource) -> "PatchFeatures":
        """Patch features of the readable images, through the cache: no image passes a backbone twice."""
        return source.extract(self)


def _common_range(deep: Sequence[Path]) -> tuple[float, float]:
    levels = []
    for path in deep:
        try:
            levels.append(read_levels(path))
        except UnreadableImageError:
            continue  # it is reported when its features are asked for
    if not levels:
        return 0.0, 65535.0
    return min(low for low, _ in levels), max(high for _, high in levels)


def _as_pixels(item: object, index: int) -> Pixels:
    if isinstance(item, Image.Image):
        return reduced(np.array((ImageOps.exif_transpose(item) or item).convert("RGB")))
    if not isinstance(item, np.ndarray):
        raise RequestError(
            f"Image {index} is a {type(item).__name__}; hand in paths, PIL images or uint8 RGB arrays, not a mix "
            "of paths and others."
        )
    if item.dtype != np.uint8:
        raise RequestError(
            f"Image {index} is an array of {item.dtype}; it must be uint8 with levels 0..255 "
            "(for 0..1 floats: (array * 255).round().astype('uint8'))."
        )
    if item.ndim == 2:
        item = np.repeat(item[:, :, None], 3, axis=2)
    if item.ndim != 3 or item.shape[2] != 3 or min(item.shape[:2]) < 1:
        raise RequestError(
            f"Image {index} has shape {item.shape}; it must be (height, width, 3) in RGB order, or (height, width)."
        )
    return reduced(np.ascontiguousarray(item))
