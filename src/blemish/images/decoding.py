"""From the bytes of one image file to uint8 RGB. Everything an image file can be is decided here."""

import io
import stat
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from blemish.machine.errors import UnreadableImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
MAX_PIXELS = 180_000_000
MIN_SIDE = 8  # below this a patch of the finest grid would be invented by interpolation
WORKING_SIDE = 2048  # larger images are box-reduced by a whole factor first: bounds memory, see `decode`
LARGE_PIXELS = 30_000_000  # images above this are decoded one at a time, whatever the number of threads
STRIP = 256  # rows of a deep image scaled at a time
SAMPLED_LEVELS = 2_000_000  # pixels of a deep image looked at for its range
DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
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
Pixels = NDArray[np.uint8]  # RGB (H, W, 3) unless said otherwise, 0..255


@dataclass(frozen=True)
class Decoding:
    """How files become uint8 RGB; part of the key under which features are kept.

    Attributes
    ----------
    range : the levels (low, high) of images deeper than 8 bits that become 0 and 255, one for the whole
        folder, so that a darker part stays darker; None where there are no such images.
    max_pixels : images with more pixels than this are skipped before they are decoded.
    """

    range: tuple[float, float] | None = None
    max_pixels: int = MAX_PIXELS


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
        return Header(size, image.mode in DEEP_MODES, pages)


def read_levels(source: Path | bytes) -> tuple[float, float]:
    """The 0.1 % and 99.9 % levels of a deep image: outliers of single pixels do not set the range."""
    with _opened(source) as image, _one_large_at_a_time(image):
        values = np.asarray(image).ravel()
        values = values[:: max(1, len(values) // SAMPLED_LEVELS)].astype(np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            raise UnreadableImageError("holds no finite number")
        low, high = np.percentile(values, (0.1, 99.9))
    return float(low), float(high)


def decode(
    source: Path | bytes, decoding: Decoding, formats: tuple[str, ...] | None = None, *, full: bool = False
) -> Pixels:
    """An image file, or its bytes, as uint8 RGB, (H, W, 3), 0..255, EXIF orientation applied.

    The first page of a multi-page file; transparency over black; palettes expanded. An image with a side of
    two times `WORKING_SIDE` or more is averaged over whole blocks of pixels, so that its longer side falls
    below that: memory is bounded by the file's own pixels; with `full` it is not.
    Raises `UnreadableImageError` with the reason.
    """
    with _opened(source, formats) as image, _one_large_at_a_time(image):
        orientation = _orientation(image)
        factor = 1 if full else _factor(image.size)
        if factor > 1:
            image.draft(None, (image.width // factor, image.height // factor))  # JPEG: its own reduction, far quicker
        image.load()
        rgb = to_rgb(image, decoding.range, full=full)
    return upright(rgb, orientation)


def to_rgb(image: Image.Image, levels: tuple[float, float] | None, *, full: bool = False) -> Pixels:
    """A Pillow image of any mode as uint8 RGB (H, W, 3), large ones reduced unless `full`; not turned."""
    if image.mode in DEEP_MODES:
        grey = _deep_to_grey(image, levels)
        return np.repeat((grey if full else reduced(grey))[:, :, None], 3, axis=2)
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
def _opened(source: Path | bytes, formats: tuple[str, ...] | None = None) -> Iterator[Image.Image]:
    """The file as a Pillow image, not loaded yet; whatever goes wrong inside the block is a reason to skip it."""
    try:
        if isinstance(source, Path):
            status = source.stat()
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                raise UnreadableImageError("not a file")
        if (len(source) if isinstance(source, bytes) else status.st_size) == 0:
            raise UnreadableImageError("the file is empty (0 bytes)")
        with _pixel_limit.lifted():
            image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)
        with image:
            yield image
    except UnreadableImageError:
        raise
    except UnidentifiedImageError:
        raise UnreadableImageError("not an image, or one whose header is damaged") from None
    except OSError as error:
        reason = f"cannot be opened: {error.strerror}" if error.errno else f"damaged or truncated: {error}"
        raise UnreadableImageError(reason) from None
    except MemoryError:
        raise UnreadableImageError("needs more memory than there is") from None
    except Exception as error:  # decoders raise whatever they stumble over: struct.error, SyntaxError, ...
        raise UnreadableImageError(f"damaged, or of a kind that cannot be decoded: {error}") from None


class _PixelLimit:
    """Pillow's own limit on pixels, a global of the process, out of the way while files are being opened.

    It is lower than ours may be; `read_header` checks ours.
    """

    def __init__(self) -> None:
        self.lock, self.users, self.limit = threading.Lock(), 0, Image.MAX_IMAGE_PIXELS

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


def _one_large_at_a_time(image: Image.Image) -> AbstractContextManager[object]:
    return _one_large if image.width * image.height > LARGE_PIXELS else nullcontext()


def _factor(size: tuple[int, ...]) -> int:
    return max(1, max(size) // WORKING_SIDE)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8, as it stands before the pixels; 1 where there is none, or it is damaged."""
    if image.format == "TIFF":
        return 1  # Pillow turns these itself
    with suppress(Exception):
        # PNG's own getexif would decode all pixels in search of EXIF behind them.
        return int(Image.Image.getexif(image).get(ORIENTATION, 1))
    return 1


def _deep_to_grey(image: Image.Image, levels: tuple[float, float] | None) -> Pixels:
    if levels is None:
        raise UnreadableImageError(
            f"mode {image.mode} is deeper than 8 bits and no range of levels is set; give `levels`"
        )
    low, high = levels
    values = np.asarray(image)
    grey = np.empty(values.shape, dtype=np.uint8)
    for top in range(0, len(values), STRIP):
        strip = values[top : top + STRIP].astype(np.float32)
        if not np.isfinite(strip).all():
            raise UnreadableImageError("holds values that are not finite numbers")
        grey[top : top + STRIP] = np.clip((strip - low) * (255.0 / max(high - low, 1e-12)), 0, 255).round()
    return grey
