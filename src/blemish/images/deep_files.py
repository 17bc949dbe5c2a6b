"""The levels of images deeper than 8 bits as they are in their files, all of them: TIFF, PNG and PPM."""

import io
import re
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.machine.errors import UnreadableImageError

DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
REDUCED = 1  # of the tag NewSubfileType: a smaller copy of another page
TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
Values = NDArray[Any]  # (H, W) or (H, W, 3), as they are in the file


class Tiff:
    """The first page, but for thumbnails, of a TIFF that Pillow reads in part or not at all.

    Has what `decoding` asks of a Pillow image.

    Raises `UnreadableImageError`, which names what it is, for one that is not one or three channels with or without
    transparency.
    """

    format = "TIFF"

    def __init__(self, source: Path | bytes) -> None:
        import tifffile

        self.file = tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source)
        pages: list[Any] = list(self.file.pages)
        self.page = next((page for page in pages if not page.subfiletype & REDUCED), pages[0])
        page = self.page
        self.width, self.height, self.samples = page.imagewidth, page.imagelength, page.samplesperpixel
        self.size, self.tile = (self.width, self.height), ()
        self.n_frames = len(pages)
        alpha = bool(page.extrasamples) and int(page.extrasamples[-1]) in (1, 2)
        self.alpha = alpha and self.samples in (2, 4)
        kind = page.dtype.kind if page.dtype is not None else "?"
        depth = {"f": "float", "c": "complex", "i": "signed"}.get(kind, "")
        what = f"{self.samples} x {page.bitspersample}-bit {depth} TIFF".replace("  ", " ")
        if kind not in "uif" or self.samples - self.alpha not in (1, 3) or page.photometric not in (0, 1, 2):
            raise UnreadableImageError(
                f"a {what} ({page.photometric.name.lower()}), of which only 1 or 3 channels with or without alpha can "
                "be read; save it as grey or RGB"
            )
        self.mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[self.samples] if page.dtype == np.uint8 else what

    def values(self) -> Values:
        """(H, W), or (H, W, C). Raises `UnreadableImageError` for a compression that nothing here reads."""
        try:
            array = self.page.asarray()
        except (ValueError, KeyError, NotImplementedError, ImportError) as error:
            if "imagecodecs" not in str(error):
                raise
            raise UnreadableImageError(
                f"a {self.mode} compressed with {self.page.compression.name}, which needs imagecodecs: "
                "pip install 'blemish[tiff]', or save it without compression"
            ) from None
        if self.page.axes.startswith("S"):
            array = np.moveaxis(array, 0, -1)
        array = array.reshape(self.height, self.width, *([] if self.samples == 1 else [self.samples]))
        if self.page.photometric == 0 and array.dtype.kind == "u":  # 0 is white
            array = np.iinfo(array.dtype).max - array
        return cast("Values", array)

    def orientation(self) -> int:
        """As EXIF's, 1..8."""
        tag = self.page.tags.get(274)
        return int(tag.value) if tag else 1

    def __enter__(self) -> "Tiff":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def is_deep(image: Image.Image | Tiff) -> bool:
    """Whether the file holds more than 8 bits a channel, whatever Pillow's mode of it is."""
    if isinstance(image, Tiff):
        return bool(image.page.dtype != np.uint8)
    return image.mode in DEEP_MODES or _deep_colour(image)


def is_reduced(image: Any) -> bool:
    """Whether the page of a TIFF is a smaller copy of another page."""
    return bool(int(image.tag_v2.get(254, 0)) & REDUCED)


def for_tifffile(image: Image.Image) -> bool:
    """Whether Pillow would cut the levels or channels of a TIFF it has opened, or take them for others."""
    if image.format != "TIFF":
        return False
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits, formats = tags.get(258, (1,)), tags.get(339, (1,))
    several = max(bits) > 8 and image.mode not in DEEP_MODES
    more = tags.get(277, 1) > len(image.getbands())  # channels that are neither colour nor transparency
    return several or more or (bits[0] == 32 and formats[0] == 1) or (bits[0] == 8 and formats[0] == 2)


def _deep_colour(image: Any) -> bool:
    """Whether Pillow holds 8 of the 16 bits of a PNG or PPM in colour or with transparency."""
    arguments = image.tile[0][3] if getattr(image, "tile", None) else None
    if image.format == "PNG":
        return isinstance(arguments, str) and ";16" in arguments
    if image.format == "PPM" and image.mode == "RGB":
        return isinstance(arguments, tuple) and arguments[-1] > 255
    return False


def values_of(image: Any, source: Path | bytes | None = None) -> Values:
    """All levels of a deep image, (H, W) or (H, W, 3); transparency over black. `source` is what it was opened from."""
    if isinstance(image, Tiff):
        values = image.values()
        return _over_black(values) if image.alpha else values
    if image.mode in DEEP_MODES or source is None:
        return np.asarray(image)
    data = source if isinstance(source, bytes) else source.read_bytes()
    if image.format == "PPM":
        start = image.tile[0][2]
        if image.tile[0][0] == "ppm_plain":  # as text, with comments
            levels = np.array(
                re.sub(rb"#[^\r\n]*", b"", data[start:]).split()[: 3 * image.width * image.height], np.uint16
            )
        else:
            levels = np.frombuffer(data, ">u2", 3 * image.width * image.height, start)
        return levels.reshape(image.height, image.width, 3)
    levels = _both_bytes(data, str(image.tile[0][3]).partition(";")[0])
    return _over_black(levels) if levels.shape[2] in (2, 4) else levels


def _both_bytes(data: bytes, mode: str) -> Values:
    """A PNG of 16 bits in colour or with transparency, (H, W, C) uint16, by Pillow, which gives one byte of two."""

    def decoded(raw: str, as_mode: str) -> NDArray[np.uint16]:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image._mode = as_mode  # as a plugin sets it
            image.tile = [image.tile[0]._replace(args=raw)]
            return np.asarray(image).astype(np.uint16)

    if mode == "LA":  # the four bytes of a pixel, as if they were four channels
        parts = decoded("RGBA", "RGBA")
        return parts[..., 0::2] << 8 | parts[..., 1::2]
    return decoded(f"{mode};16B", mode) << 8 | decoded(f"{mode};16L", mode)


def _over_black(values: Values) -> Values:
    """Values (H, W, 2 or 4) without their last channel, by which the others are weighed."""
    most = np.iinfo(values.dtype).max if values.dtype.kind in "ui" else 1
    weighed = values[..., :-1] * (values[..., -1:].astype(np.float32) / most)
    return weighed[..., 0] if weighed.shape[-1] == 1 else weighed
