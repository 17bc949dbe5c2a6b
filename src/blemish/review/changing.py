"""The addresses that change something: what is said of an image, and the threshold."""

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from blemish.review.answers import check_row, form
from blemish.review.page import Page, Same

router = APIRouter()


def changed(page: Page, rows: list[int], values: dict[str, str]) -> str:
    """The HTML of what is different now: some cards, and the counts."""
    zoomed = int(values["zoomed"]) if values.get("zoomed", "").isdecimal() else -1
    return page.render("changed.html", cards=page.cards(rows), zoomed=zoomed, status=page.status())


@router.post("/label")
async def label(page: Same, request: Request) -> HTMLResponse:
    """Say one word of an image, or of all that are alike and nobody spoke of."""

    def work(values: dict[str, str]) -> str:
        row = int(values["row"]) if values.get("row", "").isdecimal() else -1
        check_row(page.gallery, row)
        rows = [row]
        if values.get("alike"):
            groups, words = page.thumbnails.groups, page.labelling.words()
            rows += [each for each in np.flatnonzero(groups == groups[row]).tolist() if each not in (row, *words)]
        page.labelling.say(rows, values.get("word", ""))
        return changed(page, rows, values)

    return await form(request, work)


@router.post("/undo")
async def undo(page: Same, request: Request) -> HTMLResponse:
    """Take back what was said last."""
    return await form(request, lambda values: changed(page, page.labelling.undo(), values))


@router.post("/threshold")
async def threshold(page: Same, request: Request) -> HTMLResponse:
    """Keep a threshold for the page and its lists."""

    def work(values: dict[str, str]) -> str:
        try:
            value = float(values.get("value", ""))
        except ValueError:
            value = float("nan")
        page.labelling.set_threshold(value)
        return changed(page, [], values)

    return await form(request, work)
