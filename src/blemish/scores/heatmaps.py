"""Anomaly maps drawn over images on one fixed scale: a colour means the same level throughout a run."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from blemish.images import ImageSet
from blemish.images.decoding import Pixels
from blemish.machine.errors import JobError, RequestError, UnreadableImageError
from blemish.machine.runtime import runtime
from blemish.scores.flags import above

if TYPE_CHECKING:
    from blemish.scores import Scores

Map = NDArray[np.float32]

LIMIT = 640  # pixels, longer side of a drawn image
SMALLEST = 256  # pixels; images with a shorter longer side are enlarged by whole factors
REACH = 0.3  # level that the hottest patches of ordinary images reach
STRONG = 0.7  # share of the way from the median patch to `high` at which that reach may be at most
PALETTE = "inferno"  # perceptually even, and read alike by people who are colour-blind
FIRST, LAST = (
    0.30,
    0.97,
)  # part of the palette: its darkest purples would look like shadows, its white like glare
FAINTEST, OPAQUE = 0.25, 0.68  # level from which colour is laid on, just below `REACH`; share of colour at the top
UNDERLAY = 128  # grey below the colour bar, in place of an image
MARGIN, BAR, TEXT = 12, 12, 13  # pixels: around the images, height of the colour bar, size of its labels
OTHERS = "_other"  # subfolder for ids that cannot be file names below a folder
SAMPLED_VALUES = 2_000_000
_NOT_IN_NAMES = set('\0\\:*?"<>|') if os.name == "nt" else {"\0"}


@dataclass(frozen=True)
class MapScale:
    """The levels of a map that get the first and the last colour; one for a whole run, kept in its settings.

    Attributes
    ----------
    low : level of ordinary patches, drawn transparent.
    high : level of the most unusual patches, drawn in the last colour, as is all above it.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Check that the scale rises."""
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise RequestError(f"A map scale must rise; got low {self.low} and high {self.high}.")

    @classmethod
    def of(cls, scores: "Scores", threshold: float | None = None) -> "MapScale":
        """Find the scale for the images of a run, from their maps alone, no labels.

        Colour begins where ordinary images end: their reach, below which the hottest patches of nearly all of
        them stay, is at level `REACH`, so that good images stay plain. It is that of 95 % of those not above
        `threshold`, on the scale of the image scores, see `Decision.unusual_above`; without one, or with more than half
        above it, median + 3 MAD of all. `high` is where the images above it peak (their median), if that is far
        enough from the reach. `low` is the median of all patches, or higher where those images peak close to the reach.
        """
        low = _median_patch(scores)
        peaks = np.array([scores.inside(row).max(initial=low) for row in range(len(scores))])
        flagged = above(scores.image, threshold) if threshold is not None else np.zeros(len(scores), bool)
        middle = float(np.median(peaks)) if len(peaks) else low
        if threshold is None or flagged.mean() > 0.5:
            flagged = np.zeros(len(scores), bool)
            spread = 1.4826 * float(np.median(np.abs(peaks - middle))) if len(peaks) else 0.0
            reach = middle + 3 * spread
        else:
            reach = float(np.quantile(peaks[~flagged], 0.95)) if len(peaks) else low
        high = low + (reach - low) / REACH
        if flagged.any():
            high = float(np.clip(np.median(peaks[flagged]), low + (reach - low) / STRONG, high))
            low = max(low, (reach - REACH * high) / (1 - REACH))
        # Maps without any variation: everything is ordinary, whatever the units.
        return cls(low, max(high, low + 1e-6 + 1e-3 * abs(low)))

    @property
    def labels(self) -> tuple[str, str]:
        """Both levels for people: three digits, and 0 for what is less than a thousandth of the way between them."""
        least = 1e-3 * (self.high - self.low)
        low, high = (f"{0 if abs(level) < least else level:.3g}" for level in (self.low, self.high))
        return low, high

    def levels(self, values: Map) -> Pixels:
        """Map values, any shape, as levels 0 (`low` and below, and what is not a number) .. 255 (`high`)."""
        levels = (np.nan_to_num(values, nan=self.low) - self.low) * (255.0 / (self.high - self.low))
        return levels.clip(0, 255).astype(np.uint8)

    def colours(self, values: Map) -> bool:
        """Whether any of these values is drawn in colour."""
        return bool(self.levels(values).max(initial=0) > 255 * FAINTEST)


def overlay(rgb: Pixels, anomaly_map: Map, scale: MapScale, limit: int = LIMIT) -> Image.Image:
    """Draw the map in colour over the image, more opaque the higher the level.

    The longer side is at most `limit` pixels. `rgb` is uint8 (H, W, 3), `anomaly_map` float32 (h, w) of the
    same view at any resolution.
    """
    return _coloured(shown(rgb, limit), anomaly_map, scale)


def panel(rgb: Pixels, anomaly_map: Map, scale: MapScale, limit: int = LIMIT) -> Image.Image:
    """Draw image and overlay side by side (below each other if wider than 2:1), over a labelled colour bar.

    Parameters as for `overlay`; `limit` holds for each of the two.
    """
    plain = shown(rgb, limit)
    coloured = _coloured(plain, anomaly_map, scale)
    width, height = plain.size
    step = (0, height + MARGIN) if width > 2 * height else (width + MARGIN, 0)
    both = (width + step[0], height + step[1])
    sheet = Image.new("RGB", (max(both[0], SMALLEST + 64) + 2 * MARGIN, both[1] + 3 * MARGIN + BAR + TEXT + 8), "white")
    left = (sheet.width - both[0]) // 2
    sheet.paste(plain, (left, MARGIN))
    sheet.paste(coloured, (left + step[0], MARGIN + step[1]))
    _draw_bar(sheet, scale, top=both[1] + 2 * MARGIN)
    return sheet


def sheet(pairs: Sequence[tuple[Image.Image, Image.Image, str]]) -> Image.Image:
    """Images with their heatmaps beside them and a caption below, two pairs a row, as one picture.

    `pairs` are (image, heatmap, caption), at least one; the tiles are as large as the largest.
    """
    width = max(each.width for pair in pairs for each in pair[:2])
    height = max(each.height for pair in pairs for each in pair[:2])
    columns, step = min(2, len(pairs)), (2 * width + 2 * MARGIN, height + TEXT + 2 * MARGIN)
    rows = -(-len(pairs) // columns)
    drawn = Image.new("RGB", (columns * step[0] + MARGIN, rows * step[1] + MARGIN), "white")
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(TEXT)
    for at, (plain, heated, caption) in enumerate(pairs):
        left, top = MARGIN + at % columns * step[0], MARGIN + at // columns * step[1]
        drawn.paste(plain, (left, top))
        drawn.paste(heated, (left + width + MARGIN // 2, top))
        text = caption.encode("ascii", "replace").decode()  # what the built-in font has
        while len(text) > 1 and draw.textlength(text, font=font) > 2 * width:
            text = f"...{text[4:]}"
        draw.text((left, top + height + 4), text, fill=(64, 64, 64), font=font)
    return drawn


def layer(anomaly_map: Map, scale: MapScale, size: tuple[int, int]) -> Image.Image:
    """Draw the map alone, `size` (width, height), to be laid over the image by whoever shows it.

    Its mode is P, with colours that are see-through in part: a PNG of it is made in half the time of one in RGBA.
    """
    drawn = Image.fromarray(np.ascontiguousarray(scale.levels(_enlarged(anomaly_map, scale, size))))
    drawn.putpalette(_palette().tobytes(), "RGBA")
    return drawn


def colours(count: int = 256) -> Pixels:
    """Give the colours of `count` even levels as they look over grey, (count, 3) uint8: for colour bars."""
    painted = _palette()[np.linspace(0, 255, count).round().astype(int)].astype(np.float64)
    opacity = painted[:, 3:] / 255
    mixed: Pixels = (UNDERLAY * (1 - opacity) + painted[:, :3] * opacity).round().astype(np.uint8)
    return mixed


def heatmap_path(folder: Path, name: str, suffix: str = ".png") -> Path:
    """The path of the picture of image `name`: `folder/<name>.png`, always below `folder`, one file an id.

    Ids that no file can have there ('../x', '/x', 'a//b', a name too long) get a name made of their hash
    below `folder/_other`; so do those below a folder called '*.png', which may be the name of a picture.
    """
    parts = name.split("/")
    plain = (
        all(part not in ("", ".", "..") and not _NOT_IN_NAMES.intersection(part) for part in parts)
        and all(len(part.encode("utf-8", "surrogatepass")) + len(suffix) <= 255 for part in parts)
        and not any(part.lower().endswith(suffix) for part in parts[:-1])
        and parts[0] != OTHERS
    )
    if plain:
        return folder.joinpath(*parts[:-1], f"{parts[-1]}{suffix}")
    return folder / OTHERS / f"{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}{suffix}"


def write_heatmaps(
    images: ImageSet, scores: "Scores", ids: Iterable[str], scale: MapScale, folder: Path
) -> dict[str, Path]:
    """Write the panel of every id to its `heatmap_path`; returns the files by id.

    Images that cannot be read are left out. Raises `RequestError` for an id without image or score, or
    if a link below `folder` leads out of it, `JobError` if a file cannot be written.
    """
    wanted, written = list(ids), {}
    if unknown := [name for name in wanted if name not in images.sources]:
        raise RequestError(f"'{unknown[0]}' is not an image of this set of {len(images)}.")
    folder.mkdir(parents=True, exist_ok=True)
    inside = folder.resolve()
    for done, name in enumerate(wanted, start=1):
        target = heatmap_path(folder, name)
        if not target.resolve().is_relative_to(inside):
            raise RequestError(f"'{target}' points outside '{folder}'; remove the link or name a new folder.")
        try:
            rgb = images.read(name)
            size = _shown_size(rgb, LIMIT)
            drawn = panel(rgb, scores.map(name, size), scale)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Level 1: three times as quick as the default for a tenth more bytes.
            drawn.save(target, "PNG", compress_level=1)
            written[name] = target
        except UnreadableImageError:
            pass
        except OSError as error:
            raise JobError(f"'{target}' cannot be written: {error.strerror or error}.") from error
        runtime().progress("heatmaps", done, len(wanted))
    return written


def _median_patch(scores: "Scores") -> float:
    step = max(1, scores.maps.size // SAMPLED_VALUES)
    # Every row starts at another offset, so that the sample is no grid of places.
    parts = [scores.inside(row)[row % step :: step] for row in range(len(scores))]
    values = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return float(np.median(values)) if len(values) else 0.0


def _shown_size(rgb: Pixels, limit: int) -> tuple[int, int]:
    """(width, height) at which an image is drawn."""
    height, width = rgb.shape[:2]
    longer = max(width, height)
    enlarged = min(SMALLEST, limit) // longer
    factor = float(enlarged) if enlarged >= 2 else min(1.0, limit / longer)
    return max(1, round(width * factor)), max(1, round(height * factor))


def shown(rgb: Pixels, limit: int) -> Image.Image:
    """Give the plain image as it is drawn: its longer side at most `limit`, tiny ones enlarged."""
    image, size = Image.fromarray(rgb), _shown_size(rgb, limit)
    if size == image.size:
        return image
    if size[0] > image.width:
        return image.resize(size, Image.Resampling.NEAREST)
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _coloured(plain: Image.Image, anomaly_map: Map, scale: MapScale) -> Image.Image:
    painted = layer(anomaly_map, scale, plain.size).convert("RGBA")
    return Image.composite(painted.convert("RGB"), plain, painted.getchannel("A"))


def _enlarged(anomaly_map: Map, scale: MapScale, size: tuple[int, int]) -> Map:
    values = np.asarray(anomaly_map, dtype=np.float32)
    if (values.shape[1], values.shape[0]) == size:
        return values
    # Levels saturate only after the map is enlarged: a peak between two patches keeps its height.
    values = np.nan_to_num(values, nan=scale.low)
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BILINEAR))


@cache
def _palette() -> Pixels:
    """Colour and opacity by level, (256, 4), 0..255."""
    from matplotlib import colormaps  # slow to import, and not everyone draws

    level = np.linspace(0, 1, 256)
    above = ((level - FAINTEST) / (1 - FAINTEST)).clip(0, 1)
    colour = np.asarray(colormaps[PALETTE](FIRST + (LAST - FIRST) * above))[:, :3] * 255
    opacity = 255 * OPAQUE * above**0.8
    return np.column_stack([colour, opacity]).round().astype(np.uint8)


def _draw_bar(sheet: Image.Image, scale: MapScale, top: int) -> None:
    length = min(sheet.width - 2 * MARGIN, LIMIT)
    left = (sheet.width - length) // 2
    bar = np.repeat(colours(length)[None], BAR, axis=0)
    sheet.paste(Image.fromarray(bar), (left, top))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    below = top + BAR + 4
    low, high = scale.labels
    draw.text((left, below), f"ordinary {low}", fill=(64, 64, 64), font=font)
    text = f"{high} most unusual"
    draw.text((left + length - draw.textlength(text, font=font), below), text, fill=(64, 64, 64), font=font)
