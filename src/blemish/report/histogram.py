"""The histogram of image scores as inline SVG, for report and review, and whether chances hold as a figure.

The colours of the histogram come from `histogram.css`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from blemish.calibration import ReliabilityBin
from blemish.scores import above

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 60  # about; bins start at the threshold, so that none holds flagged and unflagged images
TAIL = 8.0  # scores beyond the bulk's upper end by this many times its width share the last bar
HEIGHT = 250  # pixels, as are the others
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 26, 48


@dataclass(frozen=True)
class Bar:
    """Images with scores in (low, high]; `beyond` for the one bar of all scores further out."""

    low: float
    high: float
    count: int
    flagged: bool
    beyond: bool = False


def bars(values: NDArray[np.float32], threshold: float) -> list[Bar]:
    """Count `values` (N,), N >= 1, in even bins aligned to `threshold`; a long tail is one bar."""
    scores = values.astype(np.float64)
    threshold = float(np.float32(threshold))  # as scores are compared everywhere: a tie is not flagged
    low, median, top = float(scores.min()), float(np.median(scores)), float(scores.max())
    # The bulk: as wide above its median as below, and at least up to the threshold.
    bulk = max(2 * median - low, threshold if threshold < top else low)
    cut = float(scores[scores <= max(low, bulk + TAIL * (bulk - low))].max())
    width = max((cut - low) / BINS, 1e-9 * max(1.0, abs(low), abs(top)))
    # Right-closed bins: a score equal to the threshold is not flagged.
    number = np.ceil((scores - threshold) / width)
    first, last = int(number.min()), ceil((cut - threshold) / width)
    inner = number[number <= last].astype(int)
    counts = np.bincount(inner - first, minlength=last - first + 1)
    found = [
        Bar(threshold + (n - 1) * width, threshold + n * width, int(count), n >= 1)
        for n, count in zip(range(first, last + 1), counts, strict=True)
    ]
    if len(inner) < len(scores):
        end = found[-1].high
        found.append(Bar(end, top, len(scores) - len(inner), end >= threshold, beyond=True))
    return found


def histogram(values: NDArray[np.float32], threshold: float, width: int, name: str, height: int = HEIGHT) -> Markup:
    """Draw an SVG of `width` x `height` pixels: axes, the threshold as a line, flagged bars of class `flagged`.

    The axis of counts is a square root: beside hundreds of ordinary images a single defect must be seen.
    `name` makes the ids of its title and description unique on the page.
    """
    shown = bars(values, threshold)
    even = [bar for bar in shown if not bar.beyond]
    beyond = next((bar for bar in shown if bar.beyond), None)
    tail = 64 if beyond else 0
    start, end = min(even[0].low, threshold), max(even[-1].high, threshold)
    span = (width - LEFT - RIGHT - tail) / (end - start)
    most = max(bar.count for bar in shown)
    base = height - BOTTOM

    def x(value: float) -> float:
        return LEFT + (value - start) * span

    def y(count: float) -> float:
        return height - BOTTOM - sqrt(count / most) * (height - TOP - BOTTOM)

    parts: list[str] = []
    for tick in _count_ticks(most):
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{width - RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    parts += [_rect(x(bar.low), x(bar.high), y(bar.count), base, bar) for bar in even if bar.count]
    ticks = _score_ticks(start, end, 6 if width > 500 else 3)
    for value, label in ticks:
        parts.append(f'<text x="{x(value):.1f}" y="{height - BOTTOM + 17}" text-anchor="middle">{label}</text>')
    if beyond:
        left = width - RIGHT - tail + 18
        parts.append(_rect(left, width - RIGHT, y(beyond.count), base, beyond))
        middle, label = (left + width - RIGHT) / 2, f"&gt; {beyond.low:.3g}"
        parts.append(f'<text x="{middle:.1f}" y="{height - BOTTOM + 17}" text-anchor="middle">{label}</text>')
    at = x(threshold)
    side, shift = ("end", -6) if at > width * 0.6 else ("start", 6)
    parts += [
        f'<line class="axis" x1="{LEFT}" x2="{width - RIGHT - tail}" y1="{base}" y2="{base}"/>',
        f'<line class="threshold" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 14}" y2="{base}"/>',
        f'<text class="threshold" x="{at + shift:.1f}" y="{TOP - 6}" text-anchor="{side}">'
        f"threshold {threshold:.4g}</text>",
        f'<text x="{(LEFT + width - RIGHT) / 2}" y="{height - 8}" text-anchor="middle">'
        "score: further right is more unusual</text>",
        f'<text transform="translate(14 {(TOP + base) / 2}) rotate(-90)" text-anchor="middle">images</text>',
    ]
    flagged = int(above(values, threshold).sum())
    described = (
        f"Scores run from {values.min():.4g} to {values.max():.4g}; half of the images are below "
        f"{np.median(values):.4g}. {flagged} of {len(values)} images are above the threshold {threshold:.4g}."
    )
    svg = (
        f'<svg class="histogram" role="img" viewBox="0 0 {width} {height}" '
        f'aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">How the scores are spread</title>'
        f'<desc id="{name}-text">{described}</desc>{"".join(parts)}</svg>'
    )
    return Markup(svg)  # noqa: S704 - nothing but numbers and our own words is in it


def reliability_chart(bins: Sequence[ReliabilityBin]) -> "Figure":
    """Draw promised chances against shares that were bad; larger dots are more images."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7")
    axes.scatter([e.promised for e in bins], [e.bad for e in bins], [20 + 5 * e.count for e in bins])
    axes.set(xlabel="chance that was promised", ylabel="share that was bad", xlim=(-0.05, 1.05), ylim=(-0.05, 1.05))
    return figure


def _rect(left: float, right: float, top: float, base: float, bar: Bar) -> str:
    kind = "flagged" if bar.flagged else "ordinary"
    several = "image" if bar.count == 1 else "images"
    return (
        f'<rect class="{kind}" x="{left + 0.5:.1f}" y="{top:.1f}" width="{max(1.5, right - left - 1):.1f}" '
        f'height="{base - top:.1f}">'
        f"<title>{bar.count} {several}, {bar.low:.4g} to {bar.high:.4g}</title></rect>"
    )


def _count_ticks(most: int) -> list[int]:
    """Round counts, far enough apart on a square-root axis."""
    ticks: list[int] = []
    for count in (0, 1, 2, 5, *(step * 10**power for power in range(1, 9) for step in (1, 2, 5))):
        if count <= most and (not ticks or sqrt(count / most) - sqrt(ticks[-1] / most) > 0.11):
            ticks.append(count)
    return ticks


def _score_ticks(start: float, end: float, count: int) -> list[tuple[float, str]]:
    """Round scores between start and end with their labels."""
    rough = (end - start) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = float(power * next(m for m in (1, 2, 5, 10) if m * power >= rough * 0.999))
    values = [n * step for n in range(ceil(start / step), int(np.floor(end / step)) + 1)]
    digits = max(0, -int(np.floor(np.log10(step))))
    return [(v, f"{v:.{digits}f}" if 1e-4 < step < 1e6 else f"{v:.3g}") for v in values]
