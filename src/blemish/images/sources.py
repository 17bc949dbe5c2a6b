"""What images are made from: files, examined before anything is decoded, here or remote; arrays and PIL images."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from blemish.images.decoding import MIN_SIDE, Decoding, Header, Pixels, read_header, read_levels, to_rgb
from blemish.images.urls import RemoteFile, openable
from blemish.machine.errors import RequestError, UnreadableImageError
from blemish.machine.runtime import in_threads, runtime


def examined_file(source: Path | RemoteFile, max_pixels: int) -> tuple[Header, str] | str:
    """Header and SHA-256 of a file, or why it cannot be used."""
    try:
        if isinstance(source, RemoteFile):
            data = source.read_bytes()
            return read_header(data, max_pixels), hashlib.sha256(data).hexdigest()
        header = read_header(source, max_pixels)
        with source.open("rb") as file:
            return header, hashlib.file_digest(file, "sha256").hexdigest()
    except UnreadableImageError as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def none_readable(source: str, skipped: Mapping[str, str]) -> str:
    """What to tell a person who handed in no image that can be used."""
    reasons = "; ".join(f"{count} {reason}" for reason, count in Counter(skipped.values()).most_common(3))
    return (
        f"None of the {len(skipped)} files of '{source}' can be used as an image, such as '{min(skipped)}' "
        f"(reasons: {reasons}); hand in a folder with sound images."
    )


def levels_of(deep: Mapping[str, Path | RemoteFile]) -> dict[str, tuple[float, float]]:
    """The lowest and highest level of each deep image that can be read."""

    def levels(source: Path | RemoteFile) -> tuple[float, float] | None:
        with suppress(UnreadableImageError):  # it is reported when its features are asked for
            return read_levels(openable(source))
        return None

    found: dict[str, tuple[float, float]] = {}
    with closing(in_threads(levels, list(deep.values()), runtime().threads)) as results:
        for done, (name, result) in enumerate(zip(deep, results, strict=True), start=1):
            found |= {name: result} if result else {}
            runtime().progress("finding the range", done, len(deep))
    return found


def common_range(levels: Collection[tuple[float, float]]) -> tuple[float, float]:
    """The range that holds the levels of all images; that of 16 bits for none."""
    if not levels:
        return 0.0, 65535.0
    return min(low for low, _ in levels), max(high for _, high in levels)


def as_pixels(item: object, index: int, decoding: Decoding) -> Pixels:
    """The item at `index` as uint8 RGB (H, W, 3). Raises `RequestError` if it is no such image."""
    if isinstance(item, Image.Image):
        try:
            item = to_rgb(ImageOps.exif_transpose(item) or item, decoding.range)
        except UnreadableImageError as error:
            raise RequestError(f"Image {index} cannot be used: {error}.") from None
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
    if item.ndim != 3 or item.shape[2] != 3:
        raise RequestError(
            f"Image {index} has shape {item.shape}; it must be (height, width, 3) in RGB order, or (height, width)."
        )
    if min(item.shape[:2]) < MIN_SIDE:
        raise RequestError(
            f"Image {index} is {item.shape[1]} x {item.shape[0]} pixels; each side needs at least {MIN_SIDE}."
        )
    return np.require(item, requirements=["C", "W"])
