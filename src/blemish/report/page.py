"""A report as HTML and as Markdown, from its dict: see `report.data`."""

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from blemish.calibration import BAND_WORDS, ReliabilityBin
from blemish.report.data import Report, counted
from blemish.report.histogram import histogram, reliability_chart
from blemish.report.pictures import Picture
from blemish.scores.heatmaps import colours

LISTED = 2_000  # further images named with a link; all are in the table beside the report
LISTED_BYTES = 1_500_000
ROWS = 200  # skipped files and groups of identical ones shown
WORST = 20  # images in the Markdown


def as_html(report: Report, pictures: Mapping[str, Picture]) -> str:
    """One page that needs no other file and runs nothing: the images with a picture first, the others by name."""
    cards = [each for each in report["images"] if each["path"] in pictures]
    threshold = report["limit"] if report["kind"] == "purification" else report["decision"]["threshold"]
    values = np.array([each["score"] for each in report["images"]], dtype=np.float32)
    charts = {
        name: histogram(values, threshold, width, name) if len(values) else ""
        for name, width in (("wide", 760), ("narrow", 350))
    }
    rest = [each for each in report["images"] if each["path"] not in pictures]
    if report["kind"] == "purification":
        rest = [each for each in rest if each["set_aside"]]
    listed = list(_fitting(rest))
    bins = [ReliabilityBin(**each) for each in report.get("reliability", ())]
    return environment().get_template(f"{report['kind']}.html").render(
        report=report,
        pictures=pictures,
        cards=cards,
        listed=listed,
        words=BAND_WORDS,
        unlisted=len(rest) - len(listed),
        charts=charts,
        places={name: at for at, name in enumerate(sorted(each["path"] for each in cards))},
        reliability=_reliability(bins) if bins else "",
        settings=list(_flat(report["settings"])),
        skipped=list(report["skipped"].items())[:ROWS],
        identical=report["identical"][:ROWS],
        total_time=_duration(sum(report["seconds"].values())),
        gradient=", ".join(f"rgb({r} {g} {b})" for r, g, b in colours(16).tolist()),
    )  # fmt: skip


def _reliability(bins: Sequence[ReliabilityBin]) -> Markup:
    """The chart as a picture that needs no other file."""
    data = io.BytesIO()
    reliability_chart(bins).savefig(data, dpi=100)
    said = "; ".join(f"promised {each.promised:.0%}, bad {each.bad:.0%} of {each.count}" for each in bins)
    uri = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    return Markup('<img class="reliability" src="{}" alt="Whether the chances hold: {}">').format(uri, said)


def as_markdown(report: Report) -> str:
    """The result in a page of text: for a merge request, a ticket, a terminal."""
    return environment(autoescape=False).get_template("report.md").render(report=report, worst=report["images"][:WORST])


def _fitting(images: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The first of `images` whose names fit on the page."""
    left = LISTED_BYTES
    for each in images[:LISTED]:
        left -= 300 + 6 * sum(len(str(each.get(name) or "")) for name in ("path", "file", "heatmap", "thumbnail"))
        if left < 0:
            return
        yield each


def _flat(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", ", ".join(str(item) for item in value) or "none"
        else:
            yield f"{prefix}{name}", "none" if value is None or value == {} else str(value)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _three_digits(value: float) -> str:
    """A score as a person reads it."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _typed(text: str) -> Markup:
    """A sentence with what stands in `backticks` as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - it is escaped


def environment(*packages: str, autoescape: bool = True) -> Environment:
    """Templates of these packages and of the report, which escape what they are given and know all they name."""
    found = Environment(
        loader=ChoiceLoader([PackageLoader(each) for each in (*packages, "blemish.report")]),
        autoescape=autoescape,  # noqa: S701 - off for Markdown alone
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"images": counted, "duration": _duration, "score": _three_digits, "typed": _typed}
    return found
