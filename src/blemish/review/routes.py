"""The addresses of the page: cards, counts, labels, threshold, lists, and the fit that learns from the labels."""

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, unquote

import numpy as np
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from blemish.calibration import BAND_WORDS
from blemish.images import UNKNOWN
from blemish.machine.errors import RequestError
from blemish.report.histogram import histogram
from blemish.review.label_export import ONE_FILE, Annotations, as_text
from blemish.review.labelling import LONGEST
from blemish.review.ranking import PAGE, SHOWN, Filter, exported
from blemish.review.refits import Refits
from blemish.review.session import VERSION, Current, Same, Session

WHO = "blemish-who"  # the cookie with the name of the person
YEAR = 365 * 24 * 3600
IN_VIEW = 30  # cards that a window shows at once
PATIENCE = 0.05  # seconds that cards wait for thumbnails; what is not made by then comes after them
HISTOGRAM_HEIGHT = 150  # pixels

router = APIRouter()


async def form(request: Request, work: Callable[[dict[str, str]], str]) -> HTMLResponse:
    """The HTML that `work` makes of the fields of a form, in a thread."""
    body = (await request.body()).decode("utf-8", "replace")
    values = {name: found[-1] for name, found in parse_qs(body, keep_blank_values=True).items()}
    return HTMLResponse(await run_in_threadpool(work, values))


def person(request: Request) -> str:
    """The name that the person gave, empty if none."""
    return unquote(request.cookies.get(WHO, ""))[: LONGEST["who"]]


def number_of(text: str) -> int:
    """A row from a form, -1 for what is none."""
    return int(text) if text.isdecimal() and len(text) < 12 else -1


def listed(session: Session, chosen: Filter, number: int) -> str:
    """The HTML of some cards."""
    found = session.listed(chosen)
    rows, more = found[number * PAGE : (number + 1) * PAGE], len(found) > (number + 1) * PAGE
    session.thumbnails.make(rows[:IN_VIEW], PATIENCE)
    session.thumbnails.soon(found[number * PAGE : (number + 2) * PAGE])
    return session.render("cards.html", cards=session.cards(rows), more=more, chosen=chosen, number=number + 1)


def changed(session: Session, rows: list[int], values: dict[str, str]) -> str:
    """The HTML of what is different now: some cards, and the counts."""
    zoomed = number_of(values.get("zoomed", ""))
    return session.render("changed.html", cards=session.cards(rows), zoomed=zoomed, status=session.status())


def front_page(session: Session, refits: Refits, who: str = "") -> str:
    """The HTML of the page with the first cards."""
    return session.render(
        "review.html",
        first=listed(session, Filter(), 0),
        shown=SHOWN,
        bands=BAND_WORDS,
        who=who,
        status=session.status(),
        labels=session.labelling.file,
        threshold=session.labelling.threshold,
        refit=refits.now(session),
    )


@router.get("/", response_class=HTMLResponse)
def whole(session: Current, request: Request) -> str:
    """The page itself."""
    return front_page(session, request.app.state.refits, person(request))


def _filter(
    show: str = "all", folder: str = "", order: str = "score", group: int = -1, band: str = "",
    kind: Annotated[str, Query(alias="type")] = "", text: str = "",
) -> Filter:  # fmt: skip
    return Filter(show, folder, group, band, kind, text, order)


@router.get("/cards", response_class=HTMLResponse)
def cards(
    session: Same, chosen: Annotated[Filter, Depends(_filter)], number: Annotated[int, Query(ge=0, le=10**6)] = 0
) -> str:
    """Cards by filter, order and page."""
    return listed(session, chosen, number)


@router.get("/status", response_class=HTMLResponse)
def status(session: Same) -> str:
    """The counts."""
    return session.render("status.html", status=session.status(), swap=False)


@router.get("/scores")
def scores(session: Same) -> Response:
    """All scores, falling, and the thresholds: the slider counts while it moves, without asking."""
    return JSONResponse({
        "scores": [float(f"{value:.9g}") for value in session.gallery.scores.image.tolist()],
        "threshold": session.labelling.threshold,
        "found": session.gallery.decision.threshold,
    })  # fmt: skip


@router.get("/histogram", response_class=HTMLResponse)
def chart(
    session: Same,
    threshold: Annotated[float, Query(allow_inf_nan=False)],
    width: Annotated[int, Query(ge=200, le=4000)] = 900,
) -> str:
    """The histogram of the scores as in the report, as wide as the page."""
    return histogram(session.gallery.scores.image, threshold, width, "scores", HISTOGRAM_HEIGHT)


@router.post("/label")
async def label(session: Same, request: Request) -> HTMLResponse:
    """Label one image, several (`rows`), or all that are alike and have no label yet."""

    def work(values: dict[str, str]) -> str:
        rows = [number_of(each) for each in values.get("rows", values.get("row", "")).split(",")]
        session.check(*rows)
        if values.get("alike"):
            groups, words = session.thumbnails.groups, session.labelling.words()
            alike = np.flatnonzero(groups == groups[rows[0]]).tolist()
            rows += [each for each in alike if each not in (rows[0], *words)]
        session.labelling.label(rows, values.get("word", ""), kind=values.get("type"), who=person(request))
        return changed(session, rows, values)

    return await form(request, work)


@router.post("/remark")
async def remark(session: Same, request: Request) -> HTMLResponse:
    """Keep the defect type and the comment of an image; with a type it is bad."""

    def work(values: dict[str, str]) -> str:
        row, kind, comment = number_of(values.get("row", "")), values.get("type", "").strip(), values.get("comment", "")
        session.check(row)
        if kind or session.labelling.words().get(row) == "bad":
            session.labelling.label([row], "bad", kind=kind, comment=comment, who=person(request))
        else:
            session.labelling.comment(row, comment, person(request))
        return changed(session, [row], values)

    return await form(request, work)


@router.post("/threshold")
async def threshold(session: Same, request: Request) -> HTMLResponse:
    """Keep a threshold for the page and its lists."""

    def work(values: dict[str, str]) -> str:
        try:
            value = float(values.get("value", ""))
        except ValueError:
            value = float("nan")
        session.labelling.set_threshold(value)
        return changed(session, [], values)

    return await form(request, work)


@router.post("/who")
async def who(_: Same, request: Request) -> Response:
    """Keep the name of the person in a cookie; it goes with every label from now on."""
    name: list[str] = []

    def work(values: dict[str, str]) -> str:
        name.append(" ".join(values.get("who", "").split()))
        if len(name[0]) > LONGEST["who"]:
            raise RequestError(f"A name has at most {LONGEST['who']} characters; got {len(name[0])}.")
        return ""

    answer = await form(request, work)
    answer.set_cookie(WHO, quote(name[0]), max_age=YEAR, httponly=True, samesite="strict", path="/")
    return answer


@router.get("/export/{which}.csv")
def export(session: Current, which: str) -> Response:
    """The list of kept or rejected images."""
    text = exported(which, session.gallery, session.labelling.words(), session.labelling.threshold)
    headers = {"Content-Disposition": f'attachment; filename="{which}.csv"'}
    return Response(text.encode("utf-8", "backslashreplace"), media_type="text/csv", headers=headers)


@router.get("/export/labels/{which}")
def export_labels(session: Current, which: str) -> Response:
    """The images, their labels and boxes as one file of a format of other programs."""
    found = enumerate(session.labelling.labels())
    labels = {session.gallery.name(row): int(label) for row, label in found if label != UNKNOWN}
    annotations = Annotations(session.gallery, labels, session.labelling.threshold, which == "coco")
    text = as_text(annotations, which)
    headers = {"Content-Disposition": f'attachment; filename="{ONE_FILE[which]}"'}
    return Response(text.encode("utf-8", "backslashreplace"), media_type="application/octet-stream", headers=headers)


@router.get("/favicon.ico")
def icon() -> Response:
    """None; browsers ask for it."""
    return Response(status_code=204)


@router.get("/style.css")
def style(session: Current) -> Response:
    """The colours of the report, and the page's own rules."""
    return Response(session.render("review.css"), media_type="text/css")


def _refit(request: Request, session: Session) -> HTMLResponse:
    """How far the fit is, as a piece of the page; once there is a new ranking, the tab loads anew."""
    refits: Refits = request.app.state.refits
    now: Any = refits.now(session)  # first: once it says that nothing runs, the session below is the new one
    if request.headers.get(VERSION, session.version) != request.app.state.session.version:
        return HTMLResponse("", headers={"HX-Refresh": "true"})
    return HTMLResponse(session.render("refit.html", refit=now))


@router.get("/refit")
def refit_progress(request: Request, session: Current) -> Response:
    """How far the fit is; asked every second while it runs."""
    return _refit(request, session)


@router.post("/refit")
def start_refit(request: Request, session: Same) -> Response:
    """Start the fit, unless one is under way."""
    request.app.state.refits.start(session)
    return _refit(request, session)


@router.post("/refit/cancel")
def cancel_refit(request: Request, session: Same) -> Response:
    """End the fit; nothing of it is left."""
    request.app.state.refits.cancel()
    return _refit(request, session)
