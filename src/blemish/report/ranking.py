"""The images of a report in the order of their ranks: the first ones with pictures, more by name."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.machine.errors import UnreadableImageError
from blemish.report.content import ReportContent
from blemish.report.page import EMBEDDED, LISTED, LISTED_BYTES, MAX_BYTES, PAGE_BYTES, THUMBNAIL, data_uri, link
from blemish.scores.heatmaps import heatmap_path, overlay, shown


@dataclass(frozen=True)
class Row:
    """One image in the ranking; `file` and `heatmap` are links, None where there is no file."""

    rank: int
    name: str
    score: float
    flagged: bool
    set_aside: bool
    file: str | None
    heatmap: str | None


@dataclass(frozen=True)
class Card:
    """A `Row` with its pictures as data URIs; without them, `trouble` says why."""

    row: Row
    shape: str = "square"
    plain: str = ""
    heated: str = ""
    hottest: str = ""
    trouble: str = ""


def cards_of(content: ReportContent, ranking: list[str], folder: Path) -> list[Card]:
    """The first images of the ranking with their pictures, as many as the page has room for."""
    left = MAX_BYTES - LISTED_BYTES - PAGE_BYTES
    cards: list[Card] = []
    for rank, name in enumerate(ranking[:EMBEDDED], start=1):
        card = _card(content, _row(content, name, rank, folder))
        left -= len(card.plain) + len(card.heated) + 1_500 + 6 * _length(card.row)
        if left < 0:
            break
        cards.append(card)
    return cards


def _card(content: ReportContent, row: Row) -> Card:
    if row.name not in content.images.sources:
        return Card(row, trouble="the image is not at hand")
    try:
        rgb = content.images.read(row.name)
    except UnreadableImageError as error:
        return Card(row, trouble=str(error))
    plain = shown(rgb, THUMBNAIL)
    levels = content.scores.map(row.name, plain.size)
    heated = overlay(rgb, levels, content.scale, THUMBNAIL)
    ratio = plain.width / plain.height
    shape = "wide" if ratio > 2 else "tall" if ratio < 0.5 else "square"
    return Card(row, shape, data_uri(plain), data_uri(heated), _hottest(levels))


def listed_after(content: ReportContent, ranking: list[str], shown_already: int, folder: Path) -> list[Row]:
    """Those that follow the first `shown_already`, by name, as many as the page has room for."""
    rows: list[Row] = []
    left = LISTED_BYTES
    for rank, name in enumerate(ranking[shown_already : shown_already + LISTED], start=shown_already + 1):
        row = _row(content, name, rank, folder)
        left -= 200 + 6 * _length(row)
        if left < 0:
            break
        rows.append(row)
    return rows


def _length(row: Row) -> int:
    """Characters of what is written for a row; six times that is their bytes once escaped, at the worst."""
    return len(row.name) + len(row.file or "") + len(row.heatmap or "")


def _row(content: ReportContent, name: str, rank: int, folder: Path) -> Row:
    source = content.images.sources.get(name)
    drawn = heatmap_path(content.heatmaps, name) if content.heatmaps else None
    score = content.scores[name]
    return Row(
        rank,
        name,
        score,
        content.flags(score),
        name in (content.set_aside or ()),
        link(source, folder) if isinstance(source, Path) else None,
        link(drawn, folder) if drawn and drawn.is_file() else None,
    )


def _hottest(levels: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    """Say where the map peaks, in words, for those who do not see it."""
    y, x = np.unravel_index(int(np.argmax(np.nan_to_num(levels, nan=-np.inf))), levels.shape)
    down = ("upper", "middle", "lower")[int(3 * y // levels.shape[0])]
    across = ("left", "centre", "right")[int(3 * x // levels.shape[1])]
    return "centre" if (down, across) == ("middle", "centre") else f"{down} {across}"
