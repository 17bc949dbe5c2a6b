"""The page as a web application: addresses to pictures and pieces of HTML. Images are named by row, never by path."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from blemish.machine.errors import BlemishError, UnreadableImageError
from blemish.review import routes, viewer
from blemish.review.beside import Beside
from blemish.review.gallery import Gallery
from blemish.review.guard import Guard
from blemish.review.labels import StaleError
from blemish.review.refitting import Refits
from blemish.review.session import Session


def application(
    gallery: Gallery,
    guard: Guard,
    *,
    beside: Path | None = None,
    fill: bool = True,
    ready: Callable[[], None] = lambda: None,
) -> FastAPI:
    """The application of a gallery; with `fill` a thread makes the thumbnails that nobody has asked for yet.

    `beside` is the folder of another Run of the same images. `ready` is called once the first view can be answered at
    once.
    """

    def session_of(gallery: Gallery) -> Session:
        return Session(gallery, Beside.of(gallery, beside) if beside else None)

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
        session.warm_up()
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
