"""The page as a web application: addresses to pictures and pieces of HTML. Images are named by row, never by path."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from starlette.staticfiles import StaticFiles

from blemish.machine.errors import BlemishError, UnreadableImageError
from blemish.review import changing, learning, looking, pictures
from blemish.review.gallery import Gallery
from blemish.review.guard import Guard
from blemish.review.labelling import StaleError
from blemish.review.page import Page
from blemish.review.refitting import Refits


def application(
    gallery: Gallery, guard: Guard, *, fill: bool = True, ready: Callable[[], None] = lambda: None
) -> FastAPI:
    """The application of a gallery; with `fill` a thread makes the thumbnails that nobody has asked for yet.

    `ready` is called once the first view can be answered at once.
    """

    def adopt(folder: Path) -> None:
        """Show the Run that learned from the labels of the one shown now."""
        before: Page = app.state.page
        before.thumbnails.stop()
        after = Page(Gallery.open(folder, before.gallery.root, follow_links=before.gallery.follow_links))
        after.thumbnails.take_over(before.thumbnails)
        before.labelling.hand_over(after.labelling)
        app.state.page = after
        if fill:
            after.thumbnails.start()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        page: Page = app.state.page
        page.warm_up()
        ready()
        if fill:
            page.thumbnails.start()
        yield
        app.state.refits.stop()
        app.state.page.thumbnails.stop()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.page, app.state.refits = Page(gallery), Refits(adopt)
    app.middleware("http")(guard)
    app.mount("/static", StaticFiles(packages=[("blemish.review", "static")]), name="static")
    for part in (looking, changing, pictures, learning):
        app.include_router(part.router)

    @app.exception_handler(BlemishError)
    async def told(_: Request, error: BlemishError) -> Response:
        code = 404 if isinstance(error, UnreadableImageError) else 409 if isinstance(error, StaleError) else 400
        return PlainTextResponse(str(error), code)

    return app
