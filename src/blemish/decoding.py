"""From the bytes of one image file to uint8 RGB. Everything an image file can be is decided here."""

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from blemish.errors import UnreadableImageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp"})
MAX_PIXELS = 180_000_000
MIN_SIDE = 8  # below this a patch of the finest grid would be invented by interpolation
WORKING_SIDE = 2048  # larger images are box-reduced by a whole factor first: bounds memory, see `decode`
DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF
_OPEN_LOCK = threading.Lock()


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


def read_header(path: Path, max_pixels: int = MAX_PIXELS) -> Header:
    """Size and depth of an image file; raises `UnreadableImageError` if it cannot be an image we take."""
    with _open(path) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise UnreadableImageError(
                f"{width} x {height} is {width * height:,} pixels, more than --max-pixels {max_pixels:,}"
            )
        if min(width, height) < MIN_SIDE:
            raise UnreadableImageError(f"{width} x {height} pixels; each side needs at least {MIN_SIDE}")
        turned = False
        with suppress(Exception):  # a damaged EXIF block does not make the pixels unreadable
            turned = image.getexif().get(ORIENTATION, 1) in SIDEWAYS
        size = (height, width) if turned else (width, height)
        return Header(size, image.mode in DEEP_MODES, int(getattr(image, "n_frames", 1)))


def read_levels(path: Path) -> tuple[float, float]:
    """The 0.1 % and 99.9 % levels of a deep image: outliers of single pixels do not set the range."""
    with _open(path) as image:
        low, high = np.percentile(np.asarray(_load(image), dtype=np.float32), (0.1, 99.9))
    return float(low), float(high)


def decode(path: Path, decoding: Decoding) -> NDArray[np.uint8]:
    """An image file as uint8 RGB, (H, W, 3), 0..255, EXIF orientation applied.

    The first page of a multi-page file; transparency over black; palettes expanded. An image with a side of
    two times `WORKING_SIDE` or more is averaged over whole blocks of pixels, so that its longer side falls
    below that: memory is bounded by the file's own pixels. Raises `UnreadableImageError` with the reason.
    """
    with _open(path) as image:
        pixels = _load(image)
        with suppress(Exception):  # as in `read_header`: a damaged EXIF block does not spoil the pixels
            pixels = ImageOps.exif_transpose(pixels)
        if pixels.mode in DEEP_MODES:
            return reduced(_deep_to_rgb(pixels, decoding.range))
        return reduced(_to_rgb(pixels))


def reduced(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`rgb` averaged over k x k pixels with the k that brings its longer side under 2 * WORKING_SIDE."""
    factor = max(rgb.shape[:2]) // WORKING_SIDE
    if factor < 2:
        return rgb
    return np.array(Image.fromarray(rgb).reduce(factor))


def _open(path: Path) -> Image.Image:
    try:
        if path.stat().st_size == 0:
            raise UnreadableImageError("the file is empty (0 bytes)")
        # Pillow's own limit is global and lower than ours may be: our check on the header replaces it.
        with _OPEN_LOCK:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(path)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except UnidentifiedImageError:
        raise UnreadableImageError("not an image, whatever its name says") from None
    except OSError as error:
        raise UnreadableImageError(f"cannot be opened: {error.strerror or error}") from None
    except (ValueError, SyntaxError, EOFError, OverflowError) as error:
        raise UnreadableImageError(f"damaged header: {error}") from None


def _load(image: Image.Image) -> Image.Image:
    try:
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError, MemoryError) as error:
        raise UnreadableImageError(f"damaged or truncated: {error}") from None
    return image


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if (image.mode == "P" and "transparency" in image.info) or image.mode in ("LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return np.array(image.convert("RGB"))


def _deep_to_rgb(image: Image.Image, levels: tuple[float, float] | None) -> NDArray[np.uint8]:
    if levels is None:
        raise UnreadableImageError(
            f"mode {image.mode} is deeper than 8 bits and no range of levels is set; give --range LOW HIGH"
        )
    low, high = levels
    values = np.asarray(image, dtype=np.float32)
    if not np.isfinite(values).all():
        raise UnreadableImageError("holds values that are not finite numbers")
    grey = np.clip((values - low) * (255.0 / max(high - low, 1e-12)), 0, 255).round().astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
