"""The report of a Run: one HTML file for people who have never read a paper; no script, no network."""

import os
import shlex
from collections import Counter
from math import ceil
from pathlib import Path

from blemish.calibration import CLEAN, UNCLEAR, Decision
from blemish.report.content import ReportContent
from blemish.report.histogram import histogram, reliability_chart
from blemish.report.page import counted, write_page
from blemish.report.ranking import cards_of, listed_after
from blemish.scores.heatmaps import colours

SHORTEST_LOOK = 10  # images to look at even where fewer are believed to be bad


def write_report(path: Path, content: ReportContent) -> None:
    """Write the report to `path`, one HTML file of at most `MAX_BYTES`. Raises `JobError` if that fails."""
    ranking = content.scores.ranking()
    flagged = int((content.scores.image > content.threshold).sum())
    cards = [] if content.images.features_alone else cards_of(content, ranking, path.parent)
    listed = listed_after(content, ranking, len(cards), path.parent)
    look = min(len(ranking), max(SHORTEST_LOOK, ceil(1.5 * max(content.estimated_bad, flagged))))
    values, threshold = content.scores.image, content.threshold
    write_page(
        path,
        "report.html",
        content,
        total=len(ranking),
        flagged=flagged,
        headline=headline(content.estimated_bad, len(ranking), content.decision),
        counts=Counter(content.decision.bands(values)) if content.decision else {},
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


def headline(bad: int, total: int, decision: Decision | None = None) -> str:
    """Say the result in a sentence."""
    if total == 0:
        return "No image could be scored."
    if decision is not None and decision.answer == UNCLEAR:
        return f"We cannot tell which of {counted(total)} {'shows' if total == 1 else 'show'} a defect."
    if bad == 0 or (decision is not None and decision.answer == CLEAN):
        return f"We see no sign of defects in {counted(total)}."
    return f"We believe about {bad:,} of {counted(total)} {'shows' if bad == 1 else 'show'} a defect."


def _between(content: ReportContent, total: int) -> str:
    """How many bad images there may be, as numbers of images; empty where no interval was found."""
    interval = content.decision.contamination_interval if content.decision else None
    if interval is None or not total:
        return ""
    low, high = (round(share * total) for share in interval)
    return f"{low:,} to {high:,}" if low < high else ""


def _command(path: Path, content: ReportContent) -> str:
    source = ["--features", "NEW_FEATURES.npy"] if content.images.features_alone else [content.source or "IMAGES"]
    run = os.fspath(content.model or content.run or path.parent)
    given = f"{content.threshold:.6g}"
    return shlex.join(["blemish", "score", *source, "--model", run, "--out", "NEW_FOLDER", "--threshold", given])
