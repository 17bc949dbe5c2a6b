"""The application behind `serve`: what is asked over HTTP and what is answered."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException

from blemish import __version__
from blemish.deploy.batching import Batcher
from blemish.deploy.current import CurrentRun
from blemish.deploy.schemas import (
    Health,
    Problem,
    Scored,
    ServedModel,
    described,
    listing,
    refusals,
    result,
    template,
)
from blemish.deploy.uploads import (
    BusyError,
    Limits,
    PixelRoom,
    RefusedError,
    Upload,
    decoded_all,
    parts_of,
    pixels_of,
)
from blemish.machine.errors import BlemishError, RequestError
from blemish.machine.runtime import available_cores
from blemish.runs.exported import ExportedModel
from blemish.runs.run import Run

KEY_HEADER = "X-API-Key"
LOOK_AGAIN = 1.0  # seconds between two looks at whether a Run was replaced
STOP_WITHIN = 30  # seconds for what is under way when the server is told to end
OPEN = ("/", "/health", "/docs", "/openapi.json")  # without a key: they tell nothing of the images
PAGE = {  # no page of ours needs anything from elsewhere
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
BATCHES = (1, 2, 4, 8, 16, 32, 64)  # images, bounds of the histogram


@dataclass(frozen=True)
class Batching:
    """How images are put together; see `Batcher`."""

    most: int = 16
    room: int = 256
    wait: float = 0.005


def create_app(
    runs: Mapping[str, CurrentRun],
    *,
    limits: Limits | None = None,
    batching: Batching | None = None,
    threads: int | None = None,
    api_key: str | None = None,
) -> FastAPI:
    """The application: a page at `/`, `POST /score`, `GET /health`, `GET /metrics`, its description at `/docs`.

    With an `api_key`, everything but `OPEN` needs it in the header `KEY_HEADER`. Raises `RequestError` without a Run.
    """
    if not runs:
        raise RequestError("There is no Run to serve; name at least one.")
    server = _Server(runs, limits or Limits(), batching or Batching(), threads or available_cores())
    app = FastAPI(
        title="blemish",
        version=__version__,
        description="Finds defects in images: score, decision, map.",
        lifespan=server.life,
        docs_url=None,  # FastAPI's page fetches its scripts from a CDN
        redoc_url=None,
    )
    _add_refusals(app, api_key)
    _add_pages(app, server, keyed=bool(api_key))
    _add_scoring(app, server)
    return app


class _Server:
    """What the addresses share: the Runs, one `Batcher` each, figures for Prometheus, and what is under way."""

    def __init__(self, runs: Mapping[str, CurrentRun], limits: Limits, batching: Batching, threads: int) -> None:
        self.runs, self.limits = runs, limits
        self.batchers = {
            name: Batcher(current, threads=threads, seen=self._seen, **asdict(batching))
            for name, current in runs.items()
        }
        self.metrics = Metrics(self.batchers)
        self.room = PixelRoom(limits.pixels_at_once)
        self.under_way, self.stopping = 0, False

    def _seen(self, images: int, seconds: float) -> None:
        self.metrics.scored(images, seconds)

    @asynccontextmanager
    async def life(self, _: FastAPI) -> AsyncIterator[None]:
        """From start to end: score batches, take up replaced Runs; in the end, answer accepted requests."""
        for batcher in self.batchers.values():
            batcher.start()
        looking = asyncio.get_running_loop().create_task(self._look_again())
        yield
        self.stopping = True
        looking.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN):
                await asyncio.gather(*(batcher.stop() for batcher in self.batchers.values()))

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            for current in self.runs.values():
                await asyncio.to_thread(current.refresh)

    def health(self) -> Health:
        """Whether the server takes images, and with which Runs."""
        models = {
            name: ServedModel(
                version=current.now()[1], detector=current.now()[0].detector.name, problem=current.problem
            )
            for name, current in self.runs.items()
        }
        return Health(status="stopping" if self.stopping else "ok", models=models)

    async def answer(self, request: Request, model: str, *, maps: bool, heatmap: bool) -> Response:
        """The scores of the images of a request, or why there are none; counted and timed."""
        start = time.perf_counter()
        name = model or next(iter(self.runs))
        label = name if name in self.runs else "unknown"  # a stranger's word does not become a label
        self.under_way += 1
        try:
            if self.under_way > self.limits.requests:
                raise BusyError
            found = await self._scored(request, name, maps, heatmap)
            answer = Response(found.model_dump_json(exclude_unset=True), media_type="application/json")
        except RefusedError as refused:
            answer = _problem(refused.sentence, refused.status)
        except BusyError:
            answer = _problem("The server is busy; try again later.", 429, {"Retry-After": "1"})
        except BlemishError as error:
            answer = _problem(str(error), 422)
        finally:
            self.under_way -= 1
        self.metrics.requests.labels(label, str(answer.status_code)).inc()
        self.metrics.seconds.labels(label).observe(time.perf_counter() - start)
        return answer

    async def _scored(self, request: Request, name: str, maps: bool, heatmap: bool) -> Scored:
        if name not in self.runs:
            raise RefusedError(404, f"There is no model '{name[:80]}'; there is {', '.join(self.runs)}.")
        if not request.query_params.get("model") and len(self.runs) > 1:
            raise RefusedError(422, f"There are several models; give one with ?model=, of {', '.join(self.runs)}.")
        run, _ = self.runs[name].now()
        limits = self.limits
        parts = await parts_of(request, limits)
        # Decoding takes a core for a while: not in the thread that answers everyone.
        with self.room.taking(await asyncio.to_thread(pixels_of, parts, limits)):
            uploads = await asyncio.to_thread(decoded_all, parts, limits, run.decoding, run.detector.whole_pixels)
            _check_sizes(run, uploads)
            try:
                async with asyncio.timeout(limits.answer_seconds):
                    images = [(each.pixels, each.content, each.lost) for each in uploads]
                    answers = await self.batchers[name].score(images)
            except TimeoutError:
                raise RefusedError(
                    503, f"There was no answer within {limits.answer_seconds:g} s; try again later."
                ) from None
            # Drawing and finding regions take a core for a while, too.
            results = await asyncio.to_thread(
                lambda: [result(*each, maps=maps, heatmap=heatmap) for each in zip(uploads, answers, strict=True)]
            )
        for each in results:
            self.metrics.images.labels(name, str(int(each.flagged))).inc()
        return Scored(model=name, results=results)


def _add_refusals(app: FastAPI, api_key: str | None) -> None:
    """One shape for whatever is refused, and the key, if there is one, asked for."""

    @app.middleware("http")
    async def check_key(request: Request, call_next: Any) -> Response:
        given = request.headers.get(KEY_HEADER, "")
        if api_key and request.url.path not in OPEN and not secrets.compare_digest(given.encode(), api_key.encode()):
            return _problem(f"The header {KEY_HEADER} does not hold the key.", 401)
        answer: Response = await call_next(request)
        return answer

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> JSONResponse:
        where = request.url.path[:80]
        sentences = {
            404: f"There is nothing at '{where}'; images go to /score by POST.",
            405: f"{request.method} is not answered at '{where}'; images go to /score by POST.",
        }
        return _problem(sentences.get(error.status_code, str(error.detail)), error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def refuse_words(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name, value = ".".join(str(each) for each in first["loc"][1:]), str(first.get("input"))[:40]
        return _problem(f"'{name}' cannot be '{value}': {first['msg'].lower()}.", 422)

    @app.exception_handler(Exception)
    async def own_fault(_: Request, error: Exception) -> JSONResponse:
        return _problem(f"This is a fault of blemish ({type(error).__name__}); its log has the trace, report it.", 500)


def _add_pages(app: FastAPI, server: _Server, *, keyed: bool) -> None:
    """What a person opens: a page to drop an image on, and the description of the addresses."""

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(template("start.html").render(models=list(server.runs), key=keyed), headers=PAGE)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(listing(app.openapi()), headers=PAGE)


def _add_scoring(app: FastAPI, server: _Server) -> None:
    """What programs call."""

    @app.get("/health", operation_id="health", responses={503: {"model": Health, "description": "It stops."}})
    async def health(response: Response) -> Health:
        """Whether the server is there, and with which Runs; 503 while it stops."""
        response.status_code = 503 if server.stopping else 200
        return server.health()

    @app.get(
        "/metrics",
        operation_id="metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **refusals(401)},
    )
    async def tell() -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(server.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post(
        "/score",
        operation_id="score",
        response_model=Scored,
        openapi_extra=described(server.runs),
        responses=refusals(),
    )
    async def score(
        request: Request,
        model: Annotated[str, Query(description="A name of /health; needed where several are served.")] = "",
        maps: Annotated[bool, Query(description="Whether each result has its `map`.")] = False,
        heatmap: Annotated[bool, Query(description="Whether each result has its `heatmap`.")] = False,
    ) -> Response:
        """Score one or many images; the answers are in the order of the images."""
        return await server.answer(request, model, maps=maps, heatmap=heatmap)


def _problem(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """What every refusal looks like."""
    return JSONResponse(Problem(error=sentence).model_dump(), status, headers)


def _check_sizes(run: Run, uploads: list[Upload]) -> None:
    """Raises `RefusedError` for what an exported model does not take, so that nobody else's batch meets it."""
    if isinstance(run.detector, ExportedModel):
        for each in uploads:
            if each.pixels.shape[:2] != run.detector.size:
                height, width = run.detector.size
                found = f"{each.pixels.shape[1]}x{each.pixels.shape[0]}"
                raise RefusedError(422, f"The model takes {width}x{height} pixels; '{each.name[:80]}' has {found}.")


class Metrics:
    """What `/metrics` tells, in a separate registry."""

    def __init__(self, batchers: Mapping[str, Batcher]) -> None:
        self.registry = CollectorRegistry()
        of = self.registry
        self.requests = Counter("blemish_requests", "Answered requests to /score", ["model", "status"], registry=of)
        self.images = Counter("blemish_images", "Images scored", ["model", "flagged"], registry=of)
        self.seconds = Histogram("blemish_request_seconds", "From the first byte to the answer", ["model"], registry=of)
        self.batch = Histogram("blemish_batch_images", "Images scored together", buckets=BATCHES, registry=of)
        self.busy = Counter("blemish_scoring_seconds", "Time spent scoring", registry=of)
        waiting = Gauge("blemish_waiting_images", "Images let in and not answered yet", ["model"], registry=of)
        replaced = Gauge("blemish_replaced", "How often the Run was replaced", ["model"], registry=of)
        for name, batcher in batchers.items():
            waiting.labels(name).set_function(lambda batcher=batcher: batcher.depth)  # type: ignore[misc]
            replaced.labels(name).set_function(lambda batcher=batcher: batcher.current.replaced)  # type: ignore[misc]

    def scored(self, images: int, seconds: float) -> None:
        """Note a batch."""
        self.batch.observe(images)
        self.busy.inc(seconds)
