"""What images are made from: files, examined before anything is decoded, here or remote; arrays and PIL images."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from blemish.images.decoding import MIN_SIDE, Decoding, Header, Pixels, read_header, read_values, to_rgb
from blemish.images.levels import Levels, measured
from blemish.images.urls import RemoteFile, openable
from blemish.machine.errors import RequestError, UnreadableImageError, sha256_of
from blemish.machine.runtime import in_threads, runtime


def examined_file(source: Path | RemoteFile, max_pixels: int) -> tuple[Header, str] | str:
    """Header and SHA-256 of a file, or why it cannot be used."""
    try:
        if isinstance(source, RemoteFile):
            data = source.read_bytes()
            return read_header(data, max_pixels), hashlib.sha256(data).hexdigest()
        return read_header(source, max_pixels), sha256_of(source)
    except UnreadableImageError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def none_readable(source: str, skipped: Mapping[str, str]) -> str:
    """The message where no file can be used as an image."""
    if len(skipped) == 1:
        [(name, reason)] = skipped.items()
        return f"'{name}', the only file of '{source}', cannot be used as an image ({reason}); give sound images."
    reasons = "; ".join(f"{count} {reason}" for reason, count in Counter(skipped.values()).most_common(3))
    return (
        f"None of the {len(skipped)} files of '{source}' can be used as an image, such as '{min(skipped)}' "
        f"(reasons: {reasons}); give a folder with sound images."
    )


def levels_of(deep: Mapping[str, Path | RemoteFile], missing: Collection[float] | None = None) -> dict[str, Levels]:
    """The levels of each deep image that can be read, those in `missing` counting for none; found if it is None."""

    def levels(source: Path | RemoteFile) -> Levels | None:
        with suppress(UnreadableImageError):  # it is reported when its features are made
            return measured(read_values(openable(source)), missing)
        return None

    found: dict[str, Levels] = {}
    with closing(in_threads(levels, list(deep.values()), runtime().threads)) as results:
        for done, (name, result) in enumerate(zip(deep, results, strict=True), start=1):
            found |= {name: result} if result else {}
            runtime().progress("finding the range", done, len(deep))
    return found


def as_pixels(item: object, index: int, decoding: Decoding) -> Pixels:
    """The item at `index` as uint8 RGB (H, W, 3). Raises `RequestError` if it is no such image."""
    if isinstance(item, Image.Image):
        try:
            item = to_rgb(ImageOps.exif_transpose(item) or item, decoding)
        except UnreadableImageError as error:
            raise RequestError(f"Image {index} cannot be used: {error}.") from None
    if not isinstance(item, np.ndarray):
        raise RequestError(
            f"Image {index} is a {type(item).__name__}; give paths, PIL images or uint8 RGB arrays, not a mix "
            "of paths and others."
        )
    if np.ma.is_masked(item):
        raise RequestError(
            f"Image {index} is an array with masked pixels, which would be scored; leave them out by `roi`, or save it "
            "as a float TIFF with NaN there."
        )
    if item.dtype != np.uint8:
        raise RequestError(
            f"Image {index} is an array of {item.dtype}; it must be uint8 with levels 0..255 "
            "(for 0..1 floats: (array * 255).round().astype('uint8'))."
        )
    if item.ndim == 2:
        item = np.repeat(item[:, :, None], 3, axis=2)
    if item.ndim != 3 or item.shape[2] != 3:
        raise RequestError(
            f"Image {index} has shape {item.shape}; it must be (height, width, 3) in RGB order, or (height, width)."
        )
    if min(item.shape[:2]) < MIN_SIDE:
        raise RequestError(
            f"Image {index} is {item.shape[1]} x {item.shape[0]} pixels; each side needs at least {MIN_SIDE}."
        )
    return np.require(item, requirements=["C", "W"])
