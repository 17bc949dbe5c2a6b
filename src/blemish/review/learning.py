"""The addresses of "Learn from these labels": start, look how far it is, cancel."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from blemish.review.page import VERSION, Current, Page, Same
from blemish.review.refitting import Refits

router = APIRouter()


def shown(request: Request, page: Page) -> HTMLResponse:
    """How far it is, as a piece of the page; once there is a new ranking, the tab loads anew."""
    refits: Refits = request.app.state.refits
    now = refits.now(page)  # first: once it says that nothing runs, the page that is asked for below is the new one
    if request.headers.get(VERSION, page.version) != request.app.state.page.version:
        return HTMLResponse("", headers={"HX-Refresh": "true"})
    return HTMLResponse(page.render("refit.html", refit=now))


@router.get("/refit")
def progress(request: Request, page: Current) -> Response:
    """How far the fit is; asked every second while it runs."""
    return shown(request, page)


@router.post("/refit")
def start(request: Request, page: Same) -> Response:
    """Start the fit, unless one is under way."""
    request.app.state.refits.start(page)
    return shown(request, page)


@router.post("/refit/cancel")
def cancel(request: Request, page: Same) -> Response:
    """End the fit; nothing of it is left."""
    request.app.state.refits.cancel()
    return shown(request, page)
