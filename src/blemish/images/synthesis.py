"""Defects drawn into good images: pure functions of the pixels and a random generator.

Each takes uint8 RGB (H, W, 3), 0..255, of at least 16 x 16 pixels and a `numpy.random.Generator`, and returns
a changed copy and the bool mask (H, W) of where it drew. The same generator state gives the same pixels. The
first six are physical defects for the demo; `perlin_anomaly` is the recipe of DRAEM (Zavrtanik et al., ICCV
2021, Sec. 3.2), which FUN-AD* adds to its training images (spec/fun-ad.md, Sec. 8).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from blemish.images.decoding import Pixels

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]
Drawn = tuple[Pixels, Mask]
Draw = Callable[[Pixels, np.random.Generator], Drawn]

VISIBLE = 0.15  # coverage from which a soft edge counts as defect
PERLIN_THRESHOLD = 0.5  # DRAEM's reference code; its noise is about -1..1
PERLIN_OCTAVE = 6  # DRAEM: between 2**0 and 2**5 cells along a side
MAX_TRANSPARENCY = 0.8  # DRAEM's beta is below this: the share of the image that shines through


def scratch(rgb: Pixels, rng: np.random.Generator) -> Drawn:
    """Draw one or two long, thin, slightly bent bright lines, as a hard tip leaves them."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    centre = rng.uniform(0.35, 0.65, 2) * (width, height)
    angle, length = rng.uniform(0, np.pi), rng.uniform(0.4, 0.7) * side
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    t = np.linspace(-0.5, 0.5, 24)[:, None]
    path = centre + along * length * t + across * length * rng.uniform(-0.15, 0.15) * (t**2 - 0.1)
    lines = [path] + [path + across * 0.03 * side] * int(rng.integers(0, 2))
    coverage = _stroked(lines, (height, width), max(1.0, side * rng.uniform(0.007, 0.011)))
    return _painted(rgb, rng.uniform(195, 225, 3), coverage * _pressure((height, width), rng) * 0.75)


def crack(rgb: Pixels, rng: np.random.Generator) -> Drawn:
    """Draw a dark random walk with a branch: thin, jagged, from a point inwards."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    start = rng.uniform(0.2, 0.8, 2) * (width, height)
    heading = np.arctan2(height / 2 - start[1], width / 2 - start[0])
    trunk = _walk(start, heading, side * rng.uniform(0.45, 0.7), rng)
    fork = int(rng.integers(len(trunk) // 3, 2 * len(trunk) // 3))
    turn = rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0)
    branch = _walk(trunk[fork], heading + turn, side * rng.uniform(0.15, 0.25), rng)
    coverage = _stroked([trunk, branch], (height, width), max(1.0, side * rng.uniform(0.012, 0.016)))
    return _painted(rgb, rng.uniform(8, 28, 3), coverage * _pressure((height, width), rng).clip(0.75))


def stain(rgb: Pixels, rng: np.random.Generator) -> Drawn:
    """Draw a tinted, darker blob with a soft rim that lets the surface shine through: oil, rust, water."""
    coverage = _blob(rgb.shape[:2], rng, rng.uniform(0.08, 0.15))[:, :, None]
    tint = np.array([0.76, 0.64, 0.50]) + rng.uniform(-0.08, 0.08, 3)
    return _blended(rgb, rgb * tint, coverage)


def hole(rgb: Pixels, rng: np.random.Generator) -> Drawn:
    """Take material away: a dark, almost featureless pit, one edge of it lit."""
    size = rng.uniform(0.05, 0.09)
    coverage = _blob(rgb.shape[:2], rng, size, softness=0.12)
    lit = np.roll(coverage, (2, 2), (0, 1)) * (1 - coverage)
    drawn, mask = _blended(rgb, rgb * 0.25 + 14.0, coverage[:, :, None])
    edged, _ = _blended(drawn, np.full(rgb.shape, 210.0), 0.5 * lit[:, :, None])
    return edged, mask


def foreign(rgb: Pixels, rng: np.random.Generator, texture: Pixels) -> Drawn:
    """Lay a piece of another material, `texture` (uint8 RGB, any size), on the surface."""
    height, width = rgb.shape[:2]
    other = ImageOps.fit(Image.fromarray(texture), (width, height))
    coverage = _blob((height, width), rng, rng.uniform(0.06, 0.11), softness=0.15)
    return _blended(rgb, np.asarray(other, dtype=np.float32), 0.92 * coverage[:, :, None])


def smear(rgb: Pixels, rng: np.random.Generator) -> Drawn:
    """Wipe away the structure of a spot, its mean colour kept: molten, polished or out of focus."""
    radius = min(rgb.shape[:2]) * rng.uniform(0.03, 0.05)
    wiped = Image.fromarray(rgb).filter(ImageFilter.GaussianBlur(radius))
    coverage = _blob(rgb.shape[:2], rng, rng.uniform(0.12, 0.18), softness=0.3)
    return _blended(rgb, np.asarray(wiped, dtype=np.float32), coverage[:, :, None])


def perlin_noise(shape: tuple[int, int], cells: tuple[int, int], rng: np.random.Generator) -> Field:
    """Make gradient noise (Perlin 1985), (H, W) float32 in about -1..1, over `cells` (down, across)."""
    turns = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    slopes = np.stack([np.cos(turns), np.sin(turns)], axis=-1)  # (cells down + 1, cells across + 1, 2)
    y = (np.arange(shape[0]) + 0.5) / shape[0] * cells[0]
    x = (np.arange(shape[1]) + 0.5) / shape[1] * cells[1]
    row, column = y.astype(int), x.astype(int)
    dy, dx = (y - row)[:, None], (x - column)[None, :]

    def corner(down: int, across: int) -> NDArray[np.float64]:
        slope = slopes[np.ix_(row + down, column + across)]  # (H, W, 2)
        product: NDArray[np.float64] = slope[..., 0] * (dy - down) + slope[..., 1] * (dx - across)
        return product

    ease_y, ease_x = _fade(dy), _fade(dx)
    top = corner(0, 0) * (1 - ease_x) + corner(0, 1) * ease_x
    bottom = corner(1, 0) * (1 - ease_x) + corner(1, 1) * ease_x
    noise: Field = (np.sqrt(2) * (top * (1 - ease_y) + bottom * ease_y)).astype(np.float32)
    return noise


def perlin_mask(shape: tuple[int, int], rng: np.random.Generator) -> Mask:
    """Mark where Perlin noise of random scale and angle exceeds `PERLIN_THRESHOLD`; never empty."""
    # Cells of 4 pixels or more: finer ones would be noise of single pixels.
    finest = [max(1, min(PERLIN_OCTAVE, int(np.log2(side)) - 2)) for side in shape]
    for _ in range(20):  # coarse noise may stay below the threshold everywhere: draw again
        cells = (2 ** int(rng.integers(0, finest[0])), 2 ** int(rng.integers(0, finest[1])))
        noise = Image.fromarray(perlin_noise(shape, cells, rng))
        turned = np.asarray(noise.rotate(float(rng.uniform(-90, 90)), Image.Resampling.BILINEAR))
        mask: Mask = turned > PERLIN_THRESHOLD
        if mask.any():
            return mask
    return np.asarray(turned >= turned.max())


def perlin_anomaly(rgb: Pixels, rng: np.random.Generator, texture: Pixels | None = None) -> Drawn:
    """Add DRAEM's synthetic anomaly: a texture shows through a Perlin mask with random opacity.

    `texture` is uint8 RGB of any size; without one an augmented copy of the image itself is taken.
    """
    height, width = rgb.shape[:2]
    mask = perlin_mask((height, width), rng)
    source = Image.fromarray(rgb if texture is None else texture)
    other = _augmented(ImageOps.fit(source, (width, height)), rng)
    opacity = 1 - rng.uniform(0, MAX_TRANSPARENCY)
    drawn, _ = _blended(rgb, np.asarray(other, dtype=np.float32), opacity * mask[:, :, None])
    return drawn, mask


def _augmented(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Apply three of DRAEM's changes, so that a copy of the image differs from what is below it."""
    changes: list[Callable[[Image.Image], Image.Image]] = [
        lambda i: ImageOps.posterize(i, int(rng.integers(2, 5))),
        lambda i: ImageOps.solarize(i, int(rng.integers(32, 128))),
        ImageOps.invert,
        ImageOps.autocontrast,
        ImageOps.equalize,
        lambda i: ImageEnhance.Brightness(i).enhance(float(rng.choice([rng.uniform(0.4, 0.7), 1.6]))),
        lambda i: ImageEnhance.Sharpness(i).enhance(float(rng.uniform(2, 6))),
        lambda i: i.rotate(float(rng.uniform(-45, 45)), Image.Resampling.BILINEAR),
    ]
    for index in rng.choice(len(changes), 3, replace=False):
        image = changes[int(index)](image)
    return image


def _walk(start: NDArray[np.float64], heading: float, length: float, rng: np.random.Generator) -> NDArray[np.float64]:
    steps = 30
    headings = heading + np.cumsum(rng.normal(0, 0.15, steps)) + rng.normal(0, 0.6, steps)
    moves = np.stack([np.cos(headings), np.sin(headings)], axis=1) * length / steps
    return np.vstack([start, start + np.cumsum(moves, axis=0)])


def _pressure(shape: tuple[int, int], rng: np.random.Generator) -> Field:
    """Give 0.4..1, slowly varying: no tip presses evenly and no crack gapes evenly."""
    varied: Field = (0.75 + 0.5 * perlin_noise(shape, (6, 6), rng)).clip(0.4, 1.0)
    return varied


def _stroked(lines: list[NDArray[np.float64]], shape: tuple[int, int], width: float) -> Field:
    """Give coverage 0..1 of lines `width` pixels thick; drawn four times larger, so that edges are smooth."""
    fine = Image.new("L", (shape[1] * 4, shape[0] * 4))
    for line in lines:
        points = [(float(x) * 4, float(y) * 4) for x, y in line]
        ImageDraw.Draw(fine).line(points, fill=255, width=round(width * 4), joint="curve")
    coverage: Field = np.asarray(fine.reduce(4), dtype=np.float32) / np.float32(255)
    return coverage


def _blob(shape: tuple[int, int], rng: np.random.Generator, size: float, softness: float = 0.25) -> Field:
    """Give coverage 0..1 of an irregular round shape; `size` is its radius as a share of the shorter side."""
    height, width = shape
    radius = max(2.0, size * min(shape))
    x0, y0 = rng.uniform(0.25, 0.75, 2) * (width, height)
    y, x = np.mgrid[:height, :width]
    angle = np.arctan2(y - y0, x - x0)
    rim = np.ones_like(angle)
    for wave in range(2, 6):
        rim += rng.uniform(0.03, 0.25) / wave * 2 * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    distance = np.hypot((x - x0) / rng.uniform(0.8, 1.3), y - y0) / (radius * rim.clip(0.4))
    return _fade(((1 + softness - distance) / (2 * softness)).clip(0, 1)).astype(np.float32)


def _fade(t: NDArray[np.float64]) -> NDArray[np.float64]:
    eased: NDArray[np.float64] = t**3 * (t * (t * 6 - 15) + 10)
    return eased


def _painted(rgb: Pixels, colour: NDArray[np.float64], coverage: Field) -> Drawn:
    return _blended(rgb, np.broadcast_to(colour, rgb.shape), coverage[:, :, None])


def _blended(rgb: Pixels, other: NDArray[np.floating], coverage: NDArray[np.floating]) -> Drawn:
    """`other` (H, W, 3) over `rgb` where `coverage` (H, W, 1) says; and the mask of what is visible."""
    mixed = rgb * (1 - coverage) + other * coverage
    return mixed.round().clip(0, 255).astype(np.uint8), np.asarray(coverage[:, :, 0] > VISIBLE)
