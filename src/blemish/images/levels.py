"""What the levels of deep images are: which of them are no measurements, and one range for a folder."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.images.deep_files import Values
from blemish.machine.errors import UnreadableImageError

SAMPLED_LEVELS = 2_000_000  # pixels of an image looked at for its levels
CELLS = 64  # of a mask of lost pixels, each way, whatever the size of the image
LOST_SHARE = 0.25  # a cell is lost where this share of its neighbourhood is: filled pixels are no measurements
ALL_LOST = 0.9  # an image with this share of lost pixels is left out
FAR = 3.0  # spans of the other levels between them and a level that stands for "no measurement"
FEWEST_REPEATS = 16  # pixels that have such a level
USUAL_SENTINELS = frozenset({-999.0, -9999.0, -99999.0, -32767.0, -32768.0, -2147483648.0})  # of scanners and GIS
BEYOND = 1e30  # no camera or scanner measures as much: placeholders such as -3.4e38
CONFIRMED = 0.2  # share of the images that another level must be lost in: a defect is in fewer
AT_EACH_END = 2  # different levels for "no measurement"
FEWEST_IMAGES = 5  # with fewer, nothing tells which image lies outside
OUTSIDE = 0.1  # share of the images, at each end, that do not set the range if they lie far outside
MIDDLES = (99, 97)  # per cent of the pixels
FEWEST_LEVELS = 32  # grey levels for these, below which that is worth a sentence
WIDTH = 8  # pixels of a neighbourhood, at least: lost pixels one by one are filled well
Cells = NDArray[np.bool_]  # (CELLS, CELLS)


@dataclass(frozen=True)
class Levels:
    """What the levels of one image are, lost pixels apart.

    Attributes
    ----------
    low, high : the 0.1 % and 99.9 % levels: single pixels do not set a range.
    widths : of the narrowest range of levels that holds most of the pixels, for each share of `MIDDLES`.
    lost : by the level that stands for "no measurement", nan for what is no finite number, where that is.
    share : by the same, the share of the pixels, 0..1.
    """

    low: float
    high: float
    widths: tuple[float, ...] = (0.0, 0.0)
    lost: Mapping[float, Cells] = field(default_factory=dict)
    share: Mapping[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FoundLevels:
    """What the deep images of a folder have in common.

    Attributes
    ----------
    range : the levels that become black and white.
    levels : by id, the levels of the images that were read.
    missing : the levels that stand for "no measurement".
    lost : by id, where an image has none, as bits of (CELLS, CELLS); only images that have such places.
    notes : what a person has to know of it.
    skipped : images with hardly a measurement, with the reason.
    """

    range: tuple[float, float]
    levels: Mapping[str, Levels]
    missing: tuple[float, ...] = ()
    lost: Mapping[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


def to_bytes(values: Values, levels: tuple[float, float], missing: Collection[float]) -> NDArray[np.uint8]:
    """Values (H, W) or (H, W, 3) as 0..255 between two levels, lost pixels filled from those beside them."""
    lost = lost_pixels(values, missing)
    if lost is not None:
        if lost.all():
            raise UnreadableImageError("holds no finite number, or no measurement at all")
        values = _filled(values, lost)
    low, high = levels
    found = np.empty(values.shape, dtype=np.uint8)
    for top in range(0, len(values), 256):  # a strip at a time: a large image is not there in float32
        strip = values[top : top + 256].astype(np.float32)
        found[top : top + 256] = np.clip((strip - low) * (255.0 / max(high - low, 1e-12)), 0, 255).round()
    return found


def lost_pixels(values: Values, missing: Collection[float]) -> NDArray[np.bool_] | None:
    """(H, W) bool, the pixels that hold no measurement; None if all do."""
    lost: Any = np.zeros(values.shape, dtype=np.bool_)
    if values.dtype.kind == "f":
        lost |= ~np.isfinite(values)
    for level in missing:
        lost |= values == level
    if lost.ndim == 3:
        lost = lost.any(axis=2)
    return lost if lost.any() else None


def _filled(values: Values, lost: NDArray[np.bool_]) -> Values:
    """The values with the mean of the measured pixels about each lost one: of the smallest block that has any."""
    out = values.astype(np.float32)
    out[lost] = 0
    measured = ~lost if out.ndim == 2 else np.repeat(~lost[:, :, None], out.shape[2], axis=2)
    known, rest, size = out * measured, lost.copy(), 2
    while rest.any():
        sums, counts = _blocks(known, size), _blocks(measured.astype(np.float32), size)
        rows, columns = np.nonzero(rest)
        rows, columns = rows // size, columns // size
        found = np.zeros_like(rest)
        found[rest] = counts[rows, columns].reshape(len(rows), -1)[:, 0] > 0
        rows, columns = (each // size for each in np.nonzero(found))
        out[found] = sums[rows, columns] / counts[rows, columns]
        rest &= ~found
        size *= 2
    return out


def _blocks(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Sums over blocks of `size` x `size` pixels."""
    down = np.add.reduceat(values, np.arange(0, values.shape[0], size), axis=0)
    return cast("NDArray[np.float32]", np.add.reduceat(down, np.arange(0, values.shape[1], size), axis=1))


def measured(values: Values, missing: Collection[float] | None = None) -> Levels:
    """The levels of one image; far repeated ones at either end count as lost, or `missing` if that is given.

    Raises `UnreadableImageError` for one that holds no finite number.
    """
    flat = values.reshape(-1)
    flat = flat[:: max(1, len(flat) // SAMPLED_LEVELS)].astype(np.float64)
    finite = flat[np.isfinite(flat)]
    if missing is None:
        missing = _far_levels(finite)
    rest = finite[~np.isin(finite, list(missing))]
    if not len(rest):
        raise UnreadableImageError("holds no finite number, or no measurement at all")
    lost, share = {}, {}
    if len(finite) < len(flat):
        lost[np.nan], share[np.nan] = _cells(cast("Cells", lost_pixels(values, ()))), 1 - len(finite) / len(flat)
    for level in missing:
        at = values == level if values.ndim == 2 else (values == level).any(axis=2)
        if at.any():
            lost[level], share[level] = _cells(at), float(at.mean())
    ends = [(start, start + middle) for middle in MIDDLES for start in (0, (100 - middle) / 2, 100 - middle)]
    low, high, *levels = np.percentile(rest, (0.1, 99.9, *np.ravel(ends)))
    widths = np.diff(np.reshape(levels, (len(MIDDLES), 3, 2))).min(axis=1).ravel()
    return Levels(float(low), float(high), tuple(widths.tolist()), lost, share)


def _far_levels(values: NDArray[np.float64]) -> list[float]:
    """Levels at either end that many pixels have and that lie far from all others."""
    found: list[float] = []
    for sign in (1, -1):
        for _ in range(AT_EACH_END):
            rest = sign * values[~np.isin(values, found)]
            if len(rest) <= FEWEST_REPEATS:
                break
            end = rest.min()
            others = rest[rest != end]
            if not len(others) or len(rest) - len(others) < FEWEST_REPEATS:
                break
            low, high = np.percentile(others, (1, 99))
            span = max(high - low, 0.01 * max(abs(low), abs(high)), 1e-12)
            between = int((others < low - span).sum())  # another such level is repeated, a scattered tail is not
            repeated = between and int((others == others.min()).sum()) >= 0.9 * between
            if low - end <= FAR * span or (between > 0.1 * (len(rest) - len(others)) and not repeated):
                break
            found.append(float(sign * end))
    return found


def _cells(lost: NDArray[np.bool_]) -> Cells:
    """Where an image has too few measurements, from its lost pixels (H, W)."""
    from scipy.ndimage import uniform_filter

    share = np.asarray(Image.fromarray(lost.astype(np.float32)).resize((CELLS, CELLS), Image.Resampling.BOX))
    reach = max(3, round(WIDTH * CELLS / min(lost.shape)))
    return cast("Cells", uniform_filter(share, reach, mode="reflect") >= LOST_SHARE)


def packed_cells(levels: Levels) -> bytes | None:
    """Where an image holds no measurement, as `FoundLevels.lost` has it; None where it does everywhere."""
    cells = _all_lost(levels)
    return np.packbits(cells).tobytes() if cells.any() else None


def _all_lost(levels: Levels) -> Cells:
    found = np.zeros((CELLS, CELLS), dtype=np.bool_)
    for cells in levels.lost.values():
        found |= cells
    return found


def _hardly_measured(cells: Cells) -> bool:
    """Whether no square of an eighth of the sides is measured: there would be no patch to look at."""
    from scipy.ndimage import minimum_filter

    return not bool(minimum_filter(~cells, CELLS // 8, mode="constant").any())


def common(
    images: Mapping[str, Levels],
    known_range: tuple[float, float] | None = None,
    known_missing: Collection[float] | None = None,
) -> FoundLevels:
    """What deep images have in common, by their levels; new images have the range and missing levels of the fit."""
    counts = Counter(level for each in images.values() for level in each.lost)
    enough = max(3.0, CONFIRMED * len(images))
    missing = sorted(
        level
        for level, count in counts.items()
        if not np.isnan(level)
        and (known_missing is not None or level in USUAL_SENTINELS or abs(level) > BEYOND or count >= enough)
    )
    known = {name: _with_refused(each, missing) for name, each in images.items()}
    lost, shares, skipped = {}, [], {}
    for name, each in known.items():
        if not each.lost:
            continue
        cells, share = _all_lost(each), sum(each.share.values())
        if share >= ALL_LOST or _hardly_measured(cells):
            skipped[name] = f"{share:.0%} of its pixels hold no measurement"
            continue
        shares.append(share)
        if (packed := packed_cells(each)) is not None:
            lost[name] = packed
    known = {name: each for name, each in known.items() if name not in skipped} or known
    levels = known_range or common_range(known.values())
    notes = []
    if shares:
        named = [*(["not a number"] if any(np.isnan(n) for n in counts) else []), *(f"{level:g}" for level in missing)]
        notes.append(
            f"{_images(len(shares))} pixels without a measurement ({', '.join(named)}; "
            f"{100 * np.median(shares):.2g} % of the pixels): they are filled from those beside "
            "them, and places with few others are not scored."
        )
    if outside := _outside(known, levels, new=known_missing is not None):
        notes.append(
            f"{_images(len(outside))} levels far outside of {levels[0]:g} to {levels[1]:g}, the range of the others, "
            f"and {'is' if len(outside) == 1 else 'are'} clipped to it: {', '.join(outside[:5])}"
            f"{', ...' if len(outside) > 5 else ''}."
        )
    inside = {name: each.widths for name, each in known.items() if name not in outside}
    if inside and not known_range:
        notes += _few_levels(inside, levels)
    return FoundLevels(levels, known, tuple(missing), lost, tuple(notes), skipped)


def _few_levels(widths: Mapping[str, Sequence[float]], levels: tuple[float, float]) -> list[str]:
    """A sentence where most images, or some of them, become few grey levels between `levels`; see `Levels.widths`."""
    left = np.array(list(widths.values())) * 255 / max(levels[1] - levels[0], 1e-12)  # (N, len(MIDDLES))
    between = f"of the pixels between {levels[0]:g} and {levels[1]:g}"
    for middle, usual in zip(MIDDLES, np.median(left, axis=0), strict=True):
        if usual < FEWEST_LEVELS:
            count = max(1, round(usual))
            are = "level is" if count == 1 else "levels are"
            return [
                f"{count} grey {are} left for {middle} % {between}; give narrower `levels` if the rest does not count."
            ]
    few = [name for name, own in zip(widths, left[:, -1], strict=True) if own < FEWEST_LEVELS]
    if not few:
        return []
    return [
        f"{_images(len(few))} fewer than {FEWEST_LEVELS} grey levels for {MIDDLES[-1]} % {between}, the range of all "
        f"{len(widths)}: {', '.join(few[:5])}{', ...' if len(few) > 5 else ''}; if their exposure or depth is another, "
        "give these images by themselves."
    ]


def _images(count: int) -> str:
    return f"{count} image{' has' if count == 1 else 's have'}"


def _with_refused(levels: Levels, missing: Collection[float]) -> Levels:
    """The levels; "no measurement" counts as a level again, unless it is one of the folder's `missing`."""
    refused = [level for level in levels.lost if not np.isnan(level) and level not in missing]
    if not refused:
        return levels
    kept = {level: cells for level, cells in levels.lost.items() if level not in refused}
    shares = {level: share for level, share in levels.share.items() if level not in refused}
    many = [level for level in refused if levels.share[level] >= 1e-3]  # as far as `low` and `high` go
    low, high = min([levels.low, *many]), max([levels.high, *many])
    return Levels(low, high, levels.widths, kept, shares)


def common_range(levels: Collection[Levels]) -> tuple[float, float]:
    """The range that holds the levels of all images but those far outside; that of 16 bits for none."""
    if not levels:
        return 0.0, 65535.0
    low, high = _usual(levels)
    span = max(high - low, 1e-12)
    lows = [each.low for each in levels if each.low >= low - span]
    highs = [each.high for each in levels if each.high <= high + span]
    return min(lows), max(highs)


def _usual(levels: Collection[Levels]) -> tuple[float, float]:
    """The lowest and highest level of nine in ten images, at each end."""
    lows, highs = sorted(each.low for each in levels), sorted(each.high for each in levels)
    some = 0 if len(levels) < FEWEST_IMAGES else int(np.ceil(OUTSIDE * len(levels)))
    return lows[some], highs[-1 - some]


def _outside(images: Mapping[str, Levels], levels: tuple[float, float], *, new: bool) -> list[str]:
    """The images outside of a range; of new images, those that exceed it by more than its width."""
    span = levels[1] - levels[0] if new else 0.0
    return [name for name, each in images.items() if each.low < levels[0] - span or each.high > levels[1] + span]
