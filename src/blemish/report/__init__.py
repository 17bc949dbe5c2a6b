"""The report of a job: a page for people who have never read a paper, and the same as JSON and Markdown."""

import json
from collections.abc import Mapping
from pathlib import Path

from blemish.machine.errors import writing_to
from blemish.report.data import Report, headline, of_job, of_purification, of_scores
from blemish.report.page import as_html, as_markdown
from blemish.report.pictures import Picture, pictures_of, write_thumbnails

HTML, JSON, MARKDOWN = "report.html", "report.json", "report.md"

__all__ = [
    "HTML",
    "JSON",
    "MARKDOWN",
    "headline",
    "of_job",
    "of_purification",
    "of_scores",
    "pictures_of",
    "write_report",
    "write_thumbnails",
]


def write_report(folder: Path, report: Report, pictures: Mapping[str, Picture]) -> None:
    """Leave a report in `folder` as `report.html`, at most 20 MB, `report.json` and `report.md`."""
    # Names from other systems may hold what is not Unicode; they are shown, never a reason to fail.
    for name, text in ((HTML, as_html(report, pictures)), (MARKDOWN, as_markdown(report))):
        with writing_to(folder):
            (folder / name).write_bytes(text.encode("utf-8", "backslashreplace"))
    with writing_to(folder):
        (folder / JSON).write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
