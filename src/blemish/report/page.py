"""One HTML file that needs no other: how much fits in, and what the reports of all jobs say."""

import base64
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from blemish.images import ImageSet
from blemish.machine.errors import JobError

EMBEDDED = 200  # images shown; the rest is listed
MAX_BYTES = 20_000_000  # of the file
THUMBNAIL = 288  # pixels, longer side
QUALITY = 80  # JPEG
LISTED = 2_000  # further images named with a link; all are in scores.csv
LISTED_BYTES = 1_500_000
ROWS = 200  # skipped files and groups of identical ones shown
PAGE_BYTES = 1_000_000  # left for everything that is neither thumbnail nor list


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


def _flat(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", ", ".join(str(item) for item in value) or "none"
        else:
            yield f"{prefix}{name}", "none" if value is None or value == {} else str(value)


def counted(count: int) -> str:
    """A number of images in words."""
    return "1 image" if count == 1 else f"{count:,} images"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("blemish.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["images"] = counted
    return environment
