"""The page as a web application, and who may talk to it: whoever has the link, from this machine, through this page.

Images are named by row, never by path.
"""

import secrets
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.staticfiles import StaticFiles

from blemish.machine.errors import BlemishError, UnreadableImageError
from blemish.review import routes, viewer
from blemish.review.gallery import Beside, Gallery
from blemish.review.labelling import StaleError
from blemish.review.refits import Refits
from blemish.review.session import Session

# Everything comes from this server; nothing inline runs, nothing is sent elsewhere, nobody frames the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
MOST_BYTES = 100_000  # of a request
Next = Callable[[Request], Awaitable[Response]]


class Guard:
    """A middleware: the token in a link or a cookie, the host's own name, and no request from another page."""

    def __init__(self, token: str, hosts: frozenset[str], cookie: str) -> None:
        self.token, self.hosts, self.cookie = token, hosts, cookie

    async def __call__(self, request: Request, call_next: Next) -> Response:
        """Answer 403 to what may not pass."""
        refused = self._refused(request.headers)
        if refused:
            return _protected(PlainTextResponse(refused, 403))
        given = request.query_params.get("token")
        if given is not None:
            if not self._right(given):
                return _protected(PlainTextResponse(WRONG, 403))
            # The token leaves the address, so that it stands in no history and on no screenshot.
            answer: Response = RedirectResponse(request.url.path, 303)
            answer.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
            return _protected(answer)
        if not self._right(request.cookies.get(self.cookie, "")):
            return _protected(PlainTextResponse(WRONG, 403))
        if int(request.headers.get("content-length") or 0) > MOST_BYTES:
            return _protected(PlainTextResponse("The request is too large.", 413))
        return _protected(await call_next(request))

    def _right(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self.token.encode())

    def _refused(self, headers: Headers) -> str | None:
        """Why a request may not pass whatever its token: a name that only leads here, or another page's request."""
        if self.hosts and headers.get("host", "").lower() not in self.hosts:
            return "This page answers only under the address it was started with."
        origin = headers.get("origin")
        if origin and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            return "This request comes from another page."
        return None


WRONG = "The token is missing or wrong; open the link that `blemish review` printed when it started."


def _protected(answer: Response) -> Response:
    answer.headers.setdefault("Content-Security-Policy", POLICY)
    answer.headers.setdefault("X-Content-Type-Options", "nosniff")
    answer.headers.setdefault("Referrer-Policy", "no-referrer")
    answer.headers.setdefault("Cache-Control", "no-store")
    return answer


def application(
    gallery: Gallery,
    guard: Guard,
    *,
    beside: Path | None = None,
    fill: bool = True,
    ready: Callable[[], None] = lambda: None,
    stopping: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """The application of a gallery; with `fill` a thread makes the thumbnails that nobody has asked for yet.

    `beside` is the folder of another Run of the same images. `ready` is called once the first view can be answered at
    once. `stopping` says whether the server waits for answers to end.
    """

    def session_of(gallery: Gallery) -> Session:
        return Session(gallery, Beside.of(gallery, beside) if beside else None, stopping)

    def adopt(folder: Path) -> None:
        """Show the Run that learned from the labels of the one shown now."""
        before: Session = app.state.session
        before.thumbnails.stop()
        after = session_of(Gallery.open(folder, before.gallery.root, follow_links=before.gallery.follow_links))
        after.thumbnails.take_over(before.thumbnails)
        before.labelling.hand_over(after.labelling)
        app.state.session = after
        if fill:
            after.thumbnails.start()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        session: Session = app.state.session
        # Once, for nobody: libraries are loaded, chances estimated, templates compiled, the level of outlines found.
        session.chances()
        routes.front_page(session, app.state.refits)
        viewer.zoom(session, 0)
        ready()
        if fill:
            session.thumbnails.start()
        yield
        app.state.refits.stop()
        app.state.session.thumbnails.stop()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.session, app.state.refits = session_of(gallery), Refits(adopt)
    app.middleware("http")(guard)
    app.mount("/static", StaticFiles(packages=[("blemish.review", "static")]), name="static")
    for part in (routes, viewer):
        app.include_router(part.router)

    @app.exception_handler(BlemishError)
    async def answer_error(_: Request, error: BlemishError) -> Response:
        code = 404 if isinstance(error, UnreadableImageError) else 409 if isinstance(error, StaleError) else 400
        return PlainTextResponse(str(error), code)

    return app
