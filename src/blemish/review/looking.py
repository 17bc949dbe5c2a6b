"""The addresses that show something: the page, its cards, one image and why, the lists."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from blemish.images import ANOMALOUS, NORMAL
from blemish.images.labels import MEANINGS, WORDS
from blemish.machine.errors import BlemishError, UnreadableImageError
from blemish.review.answers import Row, check_row
from blemish.review.label_export import ONE_FILE, Annotations, as_text, pixel_level
from blemish.review.listing import PAGE, SHOWN, Filter, exported
from blemish.review.page import Current, Page, Same
from blemish.review.refitting import Refits

router = APIRouter()
JUDGED = (WORDS[NORMAL], WORDS[ANOMALOUS])


def listed(page: Page, chosen: Filter, order: str, number: int) -> str:
    """The HTML of some cards."""
    if order == "teach":
        rows, more = page.proposed(), False
    else:
        labelling = page.labelling
        found = chosen.rows(page.gallery, labelling.words(), labelling.threshold, page.thumbnails.groups)
        rows, more = found[number * PAGE : (number + 1) * PAGE], len(found) > (number + 1) * PAGE
    return page.render("cards.html", cards=page.cards(rows), more=more, chosen=chosen, order=order, number=number + 1)


@router.get("/", response_class=HTMLResponse)
def whole(page: Current, request: Request) -> str:
    """The page itself."""
    refits: Refits = request.app.state.refits
    return page.render(
        "review.html",
        first=listed(page, Filter(), "score", 0),
        shown=SHOWN,
        status=page.status(),
        labels=page.labelling.file,
        threshold=page.labelling.threshold,
        refit=refits.now(page),
    )


@router.get("/cards", response_class=HTMLResponse)
def cards(
    page: Same, show: str = "all", folder: str = "", order: str = "score", group: int = -1,
    number: Annotated[int, Query(ge=0, le=10**6)] = 0,
) -> str:  # fmt: skip
    """Cards by filter, order and page."""
    return listed(page, Filter(show, folder, group), order, number)


@router.get("/status", response_class=HTMLResponse)
def status(page: Same) -> str:
    """The counts."""
    return page.render("status.html", status=page.status(), swap=False)


@router.get("/scores")
def scores(page: Same) -> Response:
    """What the histogram shows."""
    decision = page.gallery.decision
    return JSONResponse({
        "scores": [float(f"{value:.9g}") for value in page.gallery.scores.image.tolist()],
        "threshold": page.labelling.threshold,
        "found": decision.threshold,
        "interval": decision.look_between,
    })  # fmt: skip


@router.get("/zoom/{row}", response_class=HTMLResponse)
def zoom(page: Same, row: Row) -> str:
    """One image, large, with its heatmap."""
    check_row(page.gallery, row)
    trouble = ""
    try:
        page.gallery.file(row)
    except UnreadableImageError as error:
        trouble = str(error)
    changed = not trouble and page.gallery.changed(row)
    return page.render("zoom.html", card=page.cards([row])[0], trouble=trouble, changed=changed)


@router.get("/why/{row}", response_class=HTMLResponse)
def why(page: Same, row: Row) -> str:
    """The unusual places of an image beside the most similar normal ones."""
    check_row(page.gallery, row)
    try:
        reasons, trouble = page.reasons.of(row), ""
    except (BlemishError, KeyError) as error:
        reasons, trouble = [], str(error)
    return page.render("why.html", reasons=reasons, trouble=trouble)


@router.get("/export/{which}.csv")
def export(page: Current, which: str) -> Response:
    """The list of kept or rejected images."""
    text = exported(which, page.gallery, page.labelling.words(), page.labelling.threshold)
    headers = {"Content-Disposition": f'attachment; filename="{which}.csv"'}
    return Response(text.encode("utf-8", "backslashreplace"), media_type="text/csv", headers=headers)


@router.get("/export/labels/{which}")
def export_labels(page: Current, which: str) -> Response:
    """The images, their labels and boxes as one file of a format of other programs."""
    labels = {page.gallery.name(row): MEANINGS[word] for row, word in page.labelling.words().items() if word in JUDGED}
    found = Annotations(page.gallery, labels, page.labelling.threshold, pixel_level(page.gallery), which == "coco")
    text = as_text(found, which)
    headers = {"Content-Disposition": f'attachment; filename="{ONE_FILE[which]}"'}
    return Response(text.encode("utf-8", "backslashreplace"), media_type="application/octet-stream", headers=headers)


@router.get("/favicon.ico")
def icon() -> Response:
    """None; browsers ask for it."""
    return Response(status_code=204)


@router.get("/style.css")
def style(page: Current) -> Response:
    """The colours of the report, and the page's own rules."""
    return Response(page.render("review.css"), media_type="text/css")
