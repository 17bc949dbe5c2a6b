"""The report of a run: one HTML file for people who have never read a paper; no script, no network."""

import base64
import io
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from blemish.calibration import Decision, ReliabilityBin
from blemish.errors import JobError, RequestError, UnreadableImageError
from blemish.heatmaps import MapScale, colours, heatmap_path, overlay, shown
from blemish.histogram import histogram, reliability_chart
from blemish.images import ImageSet
from blemish.scores import Scores

EMBEDDED = 200  # images shown; the rest is listed
MAX_BYTES = 20_000_000  # of the file
THUMBNAIL = 288  # pixels, longer side
QUALITY = 80  # JPEG
LISTED = 2_000  # further images named with a link; all are in scores.csv
LISTED_BYTES = 1_500_000
ROWS = 200  # skipped files and groups of identical ones shown
PAGE_BYTES = 1_000_000  # left for everything that is neither thumbnail nor list
SHORTEST_LOOK = 10  # images to look at even where fewer are believed to be bad


@dataclass(frozen=True, kw_only=True)
class JobContent:
    """What the reports of all jobs say.

    Attributes
    ----------
    title : name of the job, such as the folder's name.
    source : the folder or list as the person gave it; None for images handed in as arrays.
    detector, detector_description : name and one line; `patent_notice` where there is one.
    settings : every setting, nested as they are stored.
    versions : version by program or library.
    seconds : time by stage; `peak_memory_mib` in MiB where it was measured.
    skipped : reason by path of files that could not be used.
    notes : sentences a person should read.
    identical : groups of ids with equal content.
    """

    title: str
    images: ImageSet
    detector: str
    detector_description: str
    source: str | None = None
    patent_notice: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mib: float | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    identical: Sequence[Sequence[str]] = ()


@dataclass(frozen=True, kw_only=True)
class ReportContent(JobContent):
    """What the report of a Run says.

    Attributes
    ----------
    images, scores : of the same ids; `images` may hold more.
    threshold : images with a score above it are flagged.
    contamination : estimated share of bad images, 0..1; `estimated_bad` is their estimated number.
    threshold_method : a sentence on how the threshold was found.
    threshold_assumption : a sentence on what must hold for it.
    decision : the whole decision, for its intervals and where no threshold is supported.
    expected_bad : sum of the images' chances of being bad, where those were estimated.
    reviewed : how many images a person looked at; `reliability` of the chances on them.
    scale : of the maps, as in the heatmap files.
    set_aside : ids that purification kept the detector from learning from; None where there was none.
    heatmaps : the folder of `write_heatmaps`; files found there are linked.
    run : the folder of the run as it will be named in the end, if the report is written elsewhere first.
    """

    scores: Scores
    threshold: float
    contamination: float
    estimated_bad: int
    threshold_method: str
    threshold_assumption: str
    scale: MapScale
    decision: Decision | None = None
    expected_bad: float | None = None
    reviewed: int = 0
    reliability: Sequence[ReliabilityBin] = ()
    set_aside: frozenset[str] | None = None
    heatmaps: Path | None = None
    run: Path | None = None

    def __post_init__(self) -> None:
        """Check the one number everything is drawn against."""
        if not np.isfinite(self.threshold):
            raise RequestError(f"The threshold must be a finite number; got {self.threshold}.")

    def flags(self, score: float) -> bool:
        """Whether a score is above the threshold, both as float32: the same answer as in scores.csv."""
        return bool(np.float32(score) > np.float32(self.threshold))


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


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report to `path`, one HTML file of at most `MAX_BYTES`. Raises `JobError` if that fails."""
    ranking = content.scores.ranking()
    flagged = int((content.scores.image > content.threshold).sum())
    cards = [] if content.images.features_alone else _cards(content, ranking, path.parent)
    listed = _listed(content, ranking, len(cards), path.parent)
    look = min(len(ranking), max(SHORTEST_LOOK, ceil(1.5 * max(content.estimated_bad, flagged))))
    values, threshold = content.scores.image, content.threshold
    write_page(
        path,
        "report.html",
        content,
        total=len(ranking),
        flagged=flagged,
        headline=headline(content.estimated_bad, len(ranking), supported=_supported(content)),
        supported=_supported(content),
        between=_between(content, len(ranking)),
        reliability=reliability_chart(content.reliability) if content.reliability else "",
        review=shlex.join(["blemish", "review", os.fspath(content.run or path.parent)]),
        look=look,
        command=_command(path, content),
        wide_histogram=histogram(values, threshold, 760, "wide") if ranking else "",
        narrow_histogram=histogram(values, threshold, 350, "narrow") if ranking else "",
        gradient=", ".join(f"rgb({r} {g} {b})" for r, g, b in colours(16).tolist()),
        cards=cards,
        listed=listed,
        unlisted=len(ranking) - len(cards) - len(listed),
    )


def write_page(path: Path, template: str, content: JobContent, **values: object) -> None:
    """Write `template` filled with `content`, what all reports show of it, and `values`. Raises `JobError`."""
    page = (
        _environment()
        .get_template(template)
        .render(
            content=content,
            settings=list(_flat(content.settings)),
            skipped=list(content.skipped.items())[:ROWS],
            identical=content.identical[:ROWS],
            stages=[(name, _duration(seconds)) for name, seconds in content.seconds.items()],
            total_time=_duration(sum(content.seconds.values())),
            **values,
        )
    )
    try:
        # Names from other systems may hold what is not Unicode; they are shown, never a reason to fail.
        path.write_bytes(page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise JobError(f"'{path}' cannot be written: {error.strerror}.") from error


def headline(bad: int, total: int, *, supported: bool = True) -> str:
    """Say the result in a sentence."""
    if total == 0:
        return "No image could be scored."
    if not supported:
        return f"The scores of {_images(total)} do not show where good ends and bad begins."
    if bad == 0:
        return f"We see no clear defect in {_images(total)}."
    return f"We believe about {bad:,} of {_images(total)} {'shows' if bad == 1 else 'show'} a defect."


def _supported(content: ReportContent) -> bool:
    return content.decision is None or content.decision.supported


def _between(content: ReportContent, total: int) -> str:
    """How many bad images there may be, as numbers of images; empty where no interval was found."""
    interval = content.decision.contamination_interval if content.decision else None
    if interval is None or not total:
        return ""
    low, high = (round(share * total) for share in interval)
    return f"{low:,} to {high:,}" if low < high else ""


def _cards(content: ReportContent, ranking: list[str], folder: Path) -> list[Card]:
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


def _listed(content: ReportContent, ranking: list[str], shown_already: int, folder: Path) -> list[Row]:
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


def link(file: Path, folder: Path) -> str:
    """Make a link that survives moving the report together with what lies beside it, else a file URI."""
    absolute, base = file.absolute(), folder.absolute()
    if absolute.is_relative_to(base):
        return quote(os.fsencode(absolute.relative_to(base).as_posix()))
    return absolute.as_uri()


def data_uri(image: Image.Image) -> str:
    """The image as JPEG inside a link, so that a page needs no other file."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def _hottest(levels: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    """Say where the map peaks, in words, for those who do not see it."""
    y, x = np.unravel_index(int(np.argmax(np.nan_to_num(levels, nan=-np.inf))), levels.shape)
    down = ("upper", "middle", "lower")[int(3 * y // levels.shape[0])]
    across = ("left", "centre", "right")[int(3 * x // levels.shape[1])]
    return "centre" if (down, across) == ("middle", "centre") else f"{down} {across}"


def _command(path: Path, content: ReportContent) -> str:
    source = ["--features", "NEW_FEATURES.npy"] if content.images.features_alone else [content.source or "IMAGES"]
    run = os.fspath(content.run or path.parent)
    given = f"{content.threshold:.6g}"
    return shlex.join(["blemish", "score", *source, "--model", run, "--out", "NEW_FOLDER", "--threshold", given])


def _flat(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", ", ".join(str(item) for item in value) or "none"
        else:
            yield f"{prefix}{name}", "none" if value is None or value == {} else str(value)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("blemish"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["images"] = _images
    return environment
