"""From the bytes of one image file to uint8 RGB. Everything an image file can be is decided here."""

import io
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from blemish.images.deep_files import TIFF_HEADS, Tiff, Values, for_tifffile, is_deep, is_reduced, values_of
from blemish.images.levels import measured, packed_cells, to_bytes
from blemish.machine.errors import UnreadableImageError

SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".jp2", ".j2k", ".jpx", ".pgm",
    ".ppm", ".pbm", ".pnm", ".gif", ".avif",
})  # fmt: skip
# Pillow's names of what it decodes in memory, in libraries that are fuzzed; not EPS or the like, which start programs.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "JPEG2000", "PPM", "GIF", "AVIF")
HEAD = 264  # bytes by which kinds of files are known
HEADS = {
    "PNG": (b"\x89PNG\r\n\x1a\n",), "JPEG": (b"\xff\xd8\xff",), "TIFF": TIFF_HEADS, "GIF": (b"GIF87a", b"GIF89a"),
    "JPEG2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), "BMP": (b"BM",),
    "PPM": tuple(b"P%d%c" % (kind, space) for kind in range(1, 7) for space in b" \t\n\r"), "WEBP": (b"RIFF",),
}  # fmt: skip
OTHER_HEADS = {
    b"\x93NUMPY": "a NumPy array", b"%PDF": "a PDF", b"%!PS": "a PostScript file", b"8BPS": "a Photoshop file",
    b"SIMPLE  =": "a FITS image", b"\x89HDF": "an HDF5 file", b"v/1\x01": "an OpenEXR image",
    b"PK\x03\x04": "a ZIP file",
    b"\xff\x0a": "a JPEG XL image", b"\0\0\0\x0cJXL ": "a JPEG XL image", b"\x1f\x8b": "a gzip file",
    b"<svg": "an SVG drawing", b"<?xml": "an XML file", b"<!DOCTYPE": "a web page", b"<html": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS, whose content was not fetched",
}  # fmt: skip
MAX_PIXELS = 180_000_000
MIN_SIDE = 8  # below this a patch of the finest grid would be invented by interpolation
WORKING_SIDE = 2048  # larger images are box-reduced by a whole factor first: bounds memory, see `decode`
LARGE_PIXELS = 30_000_000  # images above this are decoded one at a time, whatever the number of threads
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Pixels = NDArray[np.uint8]  # RGB (H, W, 3) unless a docstring has another shape, 0..255


@dataclass(frozen=True)
class Decoding:
    """How files become uint8 RGB; part of the key under which features are kept.

    Attributes
    ----------
    range : the levels (low, high) of images deeper than 8 bits that become 0 and 255, one for the whole
        folder, so that a darker part stays darker; None where there are no such images.
    max_pixels : images with more pixels than this are skipped before they are decoded.
    missing : levels of deep images that mean "no measurement", beside what is no finite number.
    """

    range: tuple[float, float] | None = None
    max_pixels: int = MAX_PIXELS
    missing: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Decoding":
        """What `dataclasses.asdict` gave, through JSON."""
        pairs = {name: tuple(values[name]) for name in ("range", "missing") if values.get(name)}
        return cls(**{**values, **pairs, **({} if values.get("missing") else {"missing": ()})})


@dataclass(frozen=True)
class Header:
    """What can be known of an image without decoding it. `size` is (width, height), orientation applied."""

    size: tuple[int, int]
    deep: bool
    pages: int


def read_header(source: Path | bytes, max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] | None = None) -> Header:
    """Size and depth of an image file; raises `UnreadableImageError` if it cannot be an image we take.

    `formats` are Pillow's names of those that may be tried at all.
    """
    with _opened(source, formats) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise UnreadableImageError(
                f"{width} x {height} is {width * height:,} pixels, more than `max_pixels` {max_pixels:,}"
            )
        if min(width, height) < MIN_SIDE:
            raise UnreadableImageError(f"{width} x {height} pixels; each side needs at least {MIN_SIDE}")
        size = (height, width) if _orientation(image) in SIDEWAYS else (width, height)
        pages = 1
        with suppress(Exception):  # damage behind the first page does not concern us
            pages = int(getattr(image, "n_frames", 1))
        return Header(size, is_deep(image), pages)


def read_values(source: Path | bytes) -> Values:
    """The levels of a deep image as they are in the file, (H, W) or (H, W, 3). Raises `UnreadableImageError`."""
    with _opened(source) as image, _one_large_at_a_time(image):
        return values_of(image, source)


def lost_in(source: Path | bytes, decoding: Decoding) -> bytes | None:
    """Where a new image holds no measurement, as `levels.FoundLevels.lost` has it; None where it does everywhere.

    Raises `UnreadableImageError`.
    """
    if not decoding.missing or not read_header(source, decoding.max_pixels).deep:
        return None
    return packed_cells(measured(read_values(source), decoding.missing))


def decode(
    source: Path | bytes,
    decoding: Decoding,
    formats: tuple[str, ...] | None = None,
    *,
    full: bool = False,
    longer: int | None = None,
) -> Pixels:
    """An image file, or its bytes, as uint8 RGB, (H, W, 3), 0..255, EXIF orientation applied.

    The first page of a multi-page file that is no thumbnail; transparency over black; palettes expanded. An image with
    a side of two times `WORKING_SIDE` or more is averaged over whole blocks of pixels, so that its longer side falls
    below that: memory is bounded by the file's own pixels; with `full` it is not. With `longer` a JPEG may be smaller
    still, its longer side no shorter than that: for a small picture, in half the time.
    Raises `UnreadableImageError` with the reason.
    """
    with _opened(source, formats) as image, _one_large_at_a_time(image):
        orientation = _orientation(image)
        if is_deep(image):
            return upright(_deep_to_rgb(values_of(image, source), decoding, full=full), orientation)
        if isinstance(image, Tiff):
            image = Image.fromarray(image.values(), image.mode)
        factor = 1 if full else _factor(image.size)
        if longer:
            factor = max(factor, max(image.size) // longer)
        if factor > 1:
            image.draft(None, (image.width // factor, image.height // factor))  # JPEG: its own reduction, far quicker
        image.load()
        rgb = to_rgb(image, decoding, full=full)
    return upright(rgb, orientation)


def to_rgb(image: Image.Image, decoding: Decoding, *, full: bool = False) -> Pixels:
    """A Pillow image of any mode as uint8 RGB (H, W, 3), large ones reduced unless `full`; not turned."""
    if is_deep(image):
        return _deep_to_rgb(values_of(image), decoding, full=full)
    if image.mode in ("P", "PA", "La", "RGBa"):
        image = image.convert("RGBA" if image.mode != "P" or "transparency" in image.info else "RGB")
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "CMYK"):
        image = image.convert("RGB")
    if not full and (factor := _factor(image.size)) > 1:
        image = image.reduce(factor)
    if image.mode in ("LA", "RGBA"):
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return np.array(image.convert("RGB"))


def reduced(pixels: Pixels) -> Pixels:
    """`pixels` (H, W, 3) or (H, W), k x k averaged with the k that brings the longer side under 2 * WORKING_SIDE."""
    factor = _factor(pixels.shape[:2])
    return pixels if factor == 1 else np.array(Image.fromarray(pixels).reduce(factor))


def upright(rgb: Pixels, orientation: int) -> Pixels:
    """Turn or flip pixels (H, W, 3) as EXIF `orientation` (1..8) asks for."""
    if orientation not in UPRIGHT:
        return rgb
    return np.array(Image.fromarray(rgb).transpose(UPRIGHT[orientation]))


@contextmanager
def _opened(source: Path | bytes, formats: tuple[str, ...] | None = None) -> Iterator[Image.Image | Tiff]:
    """The file as a Pillow image, not loaded yet; whatever goes wrong inside the block is a reason to skip it."""
    try:
        if isinstance(source, Path):
            status = source.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                raise UnreadableImageError("not a file")
        if (len(source) if isinstance(source, bytes) else status.st_size) == 0:
            raise UnreadableImageError("the file is empty (0 bytes)")
        with _image(source, formats) as image:
            yield image
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError(_not_opened(head_of(source), formats)) from None
    except OSError as error:
        reason = f"cannot be opened: {error.strerror}" if error.errno else f"damaged or truncated: {error}"
        raise UnreadableImageError(reason) from None
    except MemoryError:
        raise UnreadableImageError("needs more memory than there is") from None
    except Exception as error:  # decoders raise whatever they stumble over: struct.error, SyntaxError, ...
        raise UnreadableImageError(f"damaged, or of a kind that cannot be decoded: {error}") from None


def _image(source: Path | bytes, formats: tuple[str, ...] | None) -> Image.Image | Tiff:
    """What reads all of the file's levels: Pillow, or tifffile where Pillow cuts them or does not know the TIFF."""
    tiff = (formats is None or "TIFF" in formats) and head_of(source).startswith(TIFF_HEADS)
    try:
        with _pixel_limit.lifted():
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats or _known())
    except Exception:  # whatever Pillow stumbles over in a TIFF, tifffile may read; it says what is wrong if not
        if not tiff:
            raise
        return Tiff(source)
    if tiff:
        try:  # a thumbnail comes first in some files
            while is_reduced(image):
                image.seek(image.tell() + 1)
        except EOFError:
            image.seek(0)
    if for_tifffile(image):
        image.close()
        return Tiff(source)
    if image.format == "JPEG2000" and (cut := _jpeg_2000_bits(source)) > 8 and image.mode not in ("I;16", "I"):
        raise UnreadableImageError(
            f"a JPEG 2000 in colour with {cut} bits a channel, of which 8 would be read; save it as PNG or TIFF"
        )
    return image


@lru_cache(maxsize=1)
def _known() -> tuple[str, ...]:
    """The `FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(each for each in FORMATS if each in Image.OPEN)


def head_of(source: Path | bytes) -> bytes:
    """The first `HEAD` bytes."""
    if isinstance(source, bytes):
        return source[:HEAD]
    with source.open("rb") as file:
        return file.read(HEAD)


def is_image_head(head: bytes) -> bool:
    """Whether a file that begins so is an image of the `FORMATS`."""
    if head.startswith(HEADS["WEBP"]):
        return head[8:12] == b"WEBP"
    if head.startswith(HEADS["BMP"]):
        return head[14:18] in (b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")
    return head[4:12] == b"ftypavif" or any(head.startswith(known) for known in HEADS.values())


def _not_opened(head: bytes, formats: tuple[str, ...] | None) -> str:
    """Why Pillow does not know a file, by how it begins; `formats` are those that may be tried."""
    if head[4:8] == b"ftyp" and not head.startswith(b"\0\0\0\0"):
        kind = head[8:12].decode("ascii", "replace").strip()
        return f"a HEIC image or a video ('{kind}'), which cannot be read; save it as PNG or JPEG"
    if head[128:132] == b"DICM":
        return "a DICOM image, which cannot be read; save it as 16-bit PNG or TIFF"
    if other := next((name for start, name in OTHER_HEADS.items() if head.lstrip().startswith(start)), None):
        return f"{other}, which cannot be read; save it as PNG, JPEG or TIFF"
    if is_image_head(head):
        kind = next((name for name, starts in HEADS.items() if head.startswith(starts)), "AVIF")
        name = kind.replace("JPEG2000", "JPEG 2000")
        if formats and kind not in formats:
            return f"a {name} image, and only {' and '.join(formats)} are taken here"
        return f"a {name} whose header is damaged, or of a kind that cannot be read"
    return "not an image, or one whose header is damaged"


def _jpeg_2000_bits(source: Path | bytes) -> int:
    """Bits a channel by the header of a code stream, which begins with its SIZ segment; 0 if that is not found."""
    if isinstance(source, bytes):
        data = source[: 2**16]
    else:
        with source.open("rb") as file:
            data = file.read(2**16)
    at = data.find(b"\xff\x4f\xff\x51")
    return (data[at + 42] & 0x7F) + 1 if 0 <= at < len(data) - 42 else 0


class _PixelLimit:
    """Pillow's own limit on pixels, a global of the process, out of the way while files are being opened.

    It is lower than ours may be; `read_header` checks ours.
    """

    def __init__(self) -> None:
        self.limit = Image.MAX_IMAGE_PIXELS
        self.renew()

    def renew(self) -> None:
        """Begin with nobody inside: in a forked child, who was inside is not there any more."""
        self.lock, self.users = threading.Lock(), 0

    @contextmanager
    def lifted(self) -> Iterator[None]:
        with self.lock:
            if self.users == 0:
                self.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.users == 0:
                    Image.MAX_IMAGE_PIXELS = self.limit


_pixel_limit = _PixelLimit()
_one_large = threading.Lock()


def _after_fork() -> None:
    """In a forked child: a lock that another thread of the parent held would never be let go."""
    global _one_large
    _one_large = threading.Lock()
    _pixel_limit.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _one_large_at_a_time(image: Image.Image | Tiff) -> AbstractContextManager[object]:
    return _one_large if image.width * image.height > LARGE_PIXELS else nullcontext()


def _factor(size: tuple[int, ...]) -> int:
    return max(1, max(size) // WORKING_SIDE)


def _orientation(image: Image.Image | Tiff) -> int:
    """The EXIF orientation, 1..8, as the file has it before the pixels; 1 where there is none, or it is damaged."""
    if isinstance(image, Tiff):
        return image.orientation()
    if image.format == "TIFF":
        return 1  # Pillow turns these itself
    with suppress(Exception):
        # PNG's own getexif would decode all pixels in search of EXIF behind them.
        return int(Image.Image.getexif(image).get(ORIENTATION, 1))
    return 1


def _deep_to_rgb(values: Values, decoding: Decoding, *, full: bool) -> Pixels:
    """Levels (H, W) or (H, W, 3) as uint8 RGB between the levels of the folder, large ones reduced unless `full`."""
    if decoding.range is None:
        raise UnreadableImageError(f"{values.dtype} is deeper than 8 bits and no range of levels is set; give `levels`")
    levelled = to_bytes(values, decoding.range, decoding.missing)
    small = levelled if full else reduced(levelled)
    return small if small.ndim == 3 else np.repeat(small[:, :, None], 3, axis=2)
