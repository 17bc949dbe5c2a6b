"""The report of a purification: what was set aside, and how to go on with the rest."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from blemish.detectors import REGISTRY
from blemish.machine.disk import writing_to
from blemish.machine.errors import RequestError, UnreadableImageError
from blemish.machine.runtime import runtime
from blemish.purification import Purification
from blemish.report.histogram import histogram
from blemish.report.page import (
    EMBEDDED,
    LISTED,
    LISTED_BYTES,
    MAX_BYTES,
    PAGE_BYTES,
    QUALITY,
    THUMBNAIL,
    JobContent,
    data_uri,
    link,
    write_page,
)
from blemish.scores.heatmaps import heatmap_path, shown


@dataclass(frozen=True, kw_only=True)
class PurificationContent(JobContent):
    """What the report of a purification says.

    Attributes
    ----------
    purification : of ids that are all in `images`.
    thumbnails : folder for a small picture of each image that was set aside.
    kept_list : where the list of kept images will lie in the end.
    """

    purification: Purification
    thumbnails: Path
    kept_list: Path


@dataclass(frozen=True)
class Aside:
    """One image that was set aside; `file` and `thumbnail` are links, `picture` a data URI, else `trouble` says why."""

    rank: int
    name: str
    score: float
    spread: float
    file: str | None = None
    thumbnail: str | None = None
    picture: str = ""
    trouble: str = ""


def write_purification_report(path: Path, content: PurificationContent) -> None:
    """Write the thumbnails, and the report to `path`, one HTML file of at most `MAX_BYTES`. Raises `JobError`."""
    found = content.purification
    content.thumbnails.mkdir()
    shown_here: list[Aside] = []
    listed: list[Aside] = []
    left, left_for_list = MAX_BYTES - LISTED_BYTES - PAGE_BYTES, LISTED_BYTES
    progress, names, rows = runtime().progress, found.set_aside_ids, {name: row for row, name in enumerate(found.ids)}
    for rank, name in enumerate(names, start=1):
        aside = _aside(content, rank, rows[name], path.parent)
        progress("thumbnails", rank, len(names))
        left -= len(aside.picture) + 1_000 + _bytes(aside)
        if left >= 0 and len(shown_here) < EMBEDDED and not listed:
            shown_here.append(aside)
        elif len(listed) < LISTED and left_for_list > 0:
            left_for_list -= 300 + _bytes(aside)
            listed.append(aside)
    values = found.scores.astype("float32")
    write_page(
        path,
        "purification.html",
        content,
        total=len(found.ids),
        kept=int(found.kept.sum()),
        aside=len(names),
        command=_command(content),
        wide_histogram=histogram(values, found.limit, 760, "wide"),
        narrow_histogram=histogram(values, found.limit, 350, "narrow"),
        cards=shown_here,
        listed=listed,
        unlisted=len(names) - len(shown_here) - len(listed),
    )


def _command(content: PurificationContent) -> str:
    detector = ["--detector", content.detector] if content.detector in REGISTRY else []
    return shlex.join(["blemish", "fit", str(content.kept_list), *detector, "--out", "NEW_FOLDER"])


def _aside(content: PurificationContent, rank: int, row: int, folder: Path) -> Aside:
    found = content.purification
    name = found.ids[row]
    source = content.images.sources[name]
    file = link(source, folder) if isinstance(source, Path) else None
    facts = (rank, name, float(found.scores[row]), float(found.spread[row]), file)
    try:
        thumbnail = shown(content.images.read(name), THUMBNAIL)
    except UnreadableImageError as error:
        return Aside(*facts, trouble=str(error))
    return Aside(*facts, link(_kept(thumbnail, content.thumbnails, name), folder), data_uri(thumbnail))


def _kept(thumbnail: Image.Image, folder: Path, name: str) -> Path:
    target = heatmap_path(folder, name, ".jpg")
    if not target.resolve().is_relative_to(folder.resolve()):
        raise RequestError(f"'{target}' leads out of '{folder}'; remove the link or name a new folder.")
    with writing_to(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        thumbnail.save(target, "JPEG", quality=QUALITY)
    return target


def _bytes(aside: Aside) -> int:
    """Of the names once escaped, at the worst."""
    return 6 * (len(aside.name) + len(aside.file or "") + len(aside.thumbnail or ""))
