"""The page as a web application: addresses to pictures and pieces of HTML. Images are named by row, never by path."""

import io
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any
from urllib.parse import parse_qs

import numpy as np
from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.staticfiles import StaticFiles

from blemish.calibration import probability
from blemish.errors import BlemishError, UnreadableImageError
from blemish.heatmaps import shown
from blemish.images import UNKNOWN
from blemish.review.gallery import Gallery
from blemish.review.guard import Guard
from blemish.review.labelling import LABELS, Labelling
from blemish.review.listing import PAGE, SHOWN, Filter, exported, rejected
from blemish.review.proposals import describe, propose
from blemish.review.reasons import Reasons
from blemish.review.thumbnails import Thumbnails

PROPOSED = 12
LARGE, PATCH = 1400, 180  # pixels of the longer side: an image zoomed into, a place of it
AROUND = 3.0  # patches shown around a place, each way
KEEP = "private, max-age=86400"
Row = Annotated[int, Path(ge=0)]
Share = Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class Card:
    """What the page says of one image."""

    row: int
    name: str
    score: float
    chance: float | None
    word: str
    group: int
    alike: int
    flagged: bool


class Page:
    """All that the addresses share."""

    def __init__(self, gallery: Gallery) -> None:
        self.gallery, self.labelling = gallery, Labelling(gallery)
        self.thumbnails, self.reasons = Thumbnails(gallery), Reasons(gallery)
        self.described = describe(gallery.scores)
        # In the addresses of pictures, which browsers keep: after another fit they are others.
        self.version = sha256(gallery.scores.image.tobytes() + "".join(gallery.content).encode()).hexdigest()[:10]
        self._chances: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None] | None = None
        self.environment = Environment(
            loader=ChoiceLoader([PackageLoader("blemish.review"), PackageLoader("blemish")]),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, template: str, **values: object) -> Markup:
        """A template, which escapes what it is given, as text that may stand inside another."""
        return Markup(self.environment.get_template(template).render(gallery=self.gallery, v=self.version, **values))  # noqa: S704

    def chances(self) -> np.ndarray[Any, Any] | None:
        """(N,) of being bad, with what was reviewed so far."""
        labels = self.labelling.labels()
        if self._chances is None or not np.array_equal(self._chances[0], labels):
            found = probability(self.gallery.scores.image, self.gallery.decision, labels)
            self._chances = labels, None if found is None else found.of(self.gallery.scores.image)
        return self._chances[1]

    def cards(self, rows: list[int]) -> list[Card]:
        """Cards of some rows."""
        gallery, words, chances, groups = self.gallery, self.labelling.words(), self.chances(), self.thumbnails.groups
        sizes = np.bincount(groups, minlength=len(gallery))
        line = np.float32(self.labelling.threshold)
        return [
            Card(
                row, gallery.name(row), float(gallery.scores.image[row]),
                None if chances is None else float(chances[row]), words.get(row, ""),
                int(groups[row]), int(sizes[groups[row]]), bool(gallery.scores.image[row] > line),
            )
            for row in rows
        ]  # fmt: skip

    def status(self) -> dict[str, object]:
        """Counts for the head of the page."""
        words, total = self.labelling.words(), len(self.gallery)
        counts = {word: sum(each == word for each in words.values()) for word in ("good", "bad", "skipped")}
        bad = sum(rejected(self.gallery, words, self.labelling.threshold))
        return {"total": total, "counts": counts, "rejected": bad, "kept": total - bad, "notes": self.labelling.notes}

    def proposed(self) -> list[int]:
        """The rows whose label would teach most."""
        return propose(
            self.gallery.scores.image, self.chances(), self.gallery.decision.threshold, self._said(), self.described,
            self.thumbnails.groups, PROPOSED,
        )  # fmt: skip

    def _said(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Labels, with what was skipped as said, too: it is not proposed again."""
        labels = self.labelling.labels()
        for row, word in self.labelling.words().items():
            if word == "skipped" and labels[row] == UNKNOWN:
                labels[row] = UNKNOWN - 1
        return labels


def application(gallery: Gallery, guard: Guard, *, fill: bool = True) -> FastAPI:
    """The application of a gallery; with `fill` a thread makes the thumbnails that nobody has asked for yet."""
    page = Page(gallery)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        if fill:
            page.thumbnails.start()
        yield
        page.thumbnails.stop()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.page = page
    app.middleware("http")(guard)
    app.mount("/static", StaticFiles(packages=[("blemish.review", "static")]), name="static")
    _errors(app)
    _html(app, page)
    _changes(app, page)
    _pictures(app, page)
    return app


def _errors(app: FastAPI) -> None:
    @app.exception_handler(BlemishError)
    async def told(_: Request, error: BlemishError) -> Response:
        return PlainTextResponse(str(error), 404 if isinstance(error, UnreadableImageError) else 400)


def _html(app: FastAPI, page: Page) -> None:
    gallery, labelling = page.gallery, page.labelling

    def listed(chosen: Filter, order: str, number: int) -> str:
        if order == "teach":
            rows, more = page.proposed(), False
        else:
            found = chosen.rows(gallery, labelling.words(), labelling.threshold, page.thumbnails.groups)
            rows, more = found[number * PAGE : (number + 1) * PAGE], len(found) > (number + 1) * PAGE
        return page.render(
            "cards.html", cards=page.cards(rows), more=more, chosen=chosen, order=order, number=number + 1
        )

    @app.get("/", response_class=HTMLResponse)
    def whole() -> str:
        return page.render(
            "review.html",
            first=listed(Filter(), "score", 0),
            shown=SHOWN,
            status=page.status(),
            labels=gallery.folder / LABELS,
            threshold=labelling.threshold,
        )

    @app.get("/cards", response_class=HTMLResponse)
    def cards(
        show: str = "all", folder: str = "", order: str = "score", group: int = -1,
        number: Annotated[int, Query(ge=0, le=10**6)] = 0,
    ) -> str:  # fmt: skip
        return listed(Filter(show, folder, group), order, number)

    @app.get("/status", response_class=HTMLResponse)
    def status() -> str:
        return page.render("status.html", status=page.status(), swap=False)

    @app.get("/scores")
    def scores() -> Response:
        decision = gallery.decision
        return JSONResponse({
            "scores": [float(f"{value:.9g}") for value in gallery.scores.image.tolist()],
            "threshold": labelling.threshold,
            "found": decision.threshold,
            "interval": decision.threshold_interval,
        })  # fmt: skip

    @app.get("/zoom/{row}", response_class=HTMLResponse)
    def zoom(row: Row) -> str:
        _check(gallery, row)
        trouble = ""
        try:
            gallery.file(row)
        except UnreadableImageError as error:
            trouble = str(error)
        changed = not trouble and gallery.changed(row)
        return page.render("zoom.html", card=page.cards([row])[0], trouble=trouble, changed=changed)

    @app.get("/why/{row}", response_class=HTMLResponse)
    def why(row: Row) -> str:
        _check(gallery, row)
        try:
            reasons, trouble = page.reasons.of(row), ""
        except (BlemishError, KeyError) as error:
            reasons, trouble = [], str(error)
        return page.render("why.html", reasons=reasons, trouble=trouble)

    @app.get("/export/{which}.csv")
    def export(which: str) -> Response:
        text = exported(which, gallery, labelling.words(), labelling.threshold)
        headers = {"Content-Disposition": f'attachment; filename="{which}.csv"'}
        return Response(text.encode("utf-8", "backslashreplace"), media_type="text/csv", headers=headers)

    @app.get("/favicon.ico")
    def icon() -> Response:
        return Response(status_code=204)

    @app.get("/style.css")
    def style() -> Response:
        return Response(page.render("review.css"), media_type="text/css")


def _changes(app: FastAPI, page: Page) -> None:
    gallery, labelling = page.gallery, page.labelling

    def changed(rows: list[int], values: dict[str, str]) -> str:
        zoomed = int(values["zoomed"]) if values.get("zoomed", "").isdecimal() else -1
        return page.render("changed.html", cards=page.cards(rows), zoomed=zoomed, status=page.status())

    async def form(request: Request, work: Callable[[dict[str, str]], str]) -> HTMLResponse:
        body = (await request.body()).decode("utf-8", "replace")
        values = {name: found[-1] for name, found in parse_qs(body, keep_blank_values=True).items()}
        return HTMLResponse(await run_in_threadpool(work, values))

    @app.post("/label")
    async def label(request: Request) -> HTMLResponse:
        def work(values: dict[str, str]) -> str:
            row = int(values["row"]) if values.get("row", "").isdecimal() else -1
            _check(gallery, row)
            rows = [row]
            if values.get("alike"):
                groups, words = page.thumbnails.groups, labelling.words()
                rows += [each for each in np.flatnonzero(groups == groups[row]).tolist() if each not in (row, *words)]
            labelling.say(rows, values.get("word", ""))
            return changed(rows, values)

        return await form(request, work)

    @app.post("/undo")
    async def undo(request: Request) -> HTMLResponse:
        return await form(request, lambda values: changed(labelling.undo(), values))

    @app.post("/threshold")
    async def threshold(request: Request) -> HTMLResponse:
        def work(values: dict[str, str]) -> str:
            try:
                value = float(values.get("value", ""))
            except ValueError:
                value = float("nan")
            labelling.set_threshold(value)
            return changed([], values)

        return await form(request, work)


def _pictures(app: FastAPI, page: Page) -> None:
    gallery, thumbnails = page.gallery, page.thumbnails

    @app.get("/thumbnail/{row}")
    def thumbnail(row: Row) -> Response:
        _check(gallery, row)
        return Response(thumbnails.get(row), media_type="image/jpeg", headers={"Cache-Control": KEEP})

    @app.get("/heat/{row}")
    def heat(row: Row) -> Response:
        _check(gallery, row)
        return Response(thumbnails.heat(row), media_type="image/png", headers={"Cache-Control": KEEP})

    @app.get("/picture/{row}")
    def picture(row: Row) -> Response:
        _check(gallery, row)
        return _jpeg(shown(gallery.read(row), LARGE))

    @app.get("/patch/{row}")
    def patch(row: Row, left: Share, top: Share, right: Share, bottom: Share) -> Response:
        """A place of an image, shares of its sides, with what is around it."""
        _check(gallery, row)
        image = Image.fromarray(gallery.read(row))
        across, down = (right - left) * AROUND / 2, (bottom - top) * AROUND / 2
        shares = (left - across, top - down, right + across, bottom + down)
        sides = (image.width, image.height, image.width, image.height)
        box = [round(min(max(share, 0.0), 1.0) * side) for share, side in zip(shares, sides, strict=True)]
        box[2], box[3] = max(box[2], box[0] + 1), max(box[3], box[1] + 1)
        crop = image.crop((box[0], box[1], box[2], box[3]))
        factor = PATCH / max(crop.size)
        return _jpeg(crop.resize((max(1, round(crop.width * factor)), max(1, round(crop.height * factor)))))


def _jpeg(image: Image.Image) -> Response:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    return Response(data.getvalue(), media_type="image/jpeg", headers={"Cache-Control": KEEP})


def _check(gallery: Gallery, row: int) -> None:
    if not 0 <= row < len(gallery):
        raise UnreadableImageError("There is no such image in this Run.")
