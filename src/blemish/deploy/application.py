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
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException

from blemish import __version__
from blemish.deploy.batching import Batcher
from blemish.deploy.current import CurrentRun
from blemish.deploy.metrics import Metrics
from blemish.deploy.openapi import described, listing, refusals, start_page
from blemish.deploy.schemas import Health, Problem, Scored, ServedModel, result
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

    Raises `RequestError` without a Run.
    """
    if not runs:
        raise RequestError("There is no Run to serve; name at least one.")
    limits, batching, threads = limits or Limits(), batching or Batching(), threads or available_cores()
    batchers: dict[str, Batcher] = {}
    metrics: Metrics

    def seen(images: int, seconds: float) -> None:
        metrics.scored(images, seconds)

    for name, current in runs.items():
        batchers[name] = Batcher(current, threads=threads, seen=seen, **asdict(batching))
    metrics = Metrics(batchers)
    room = PixelRoom(limits.pixels_at_once)
    under_way = 0
    stopping = False

    async def look_again() -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            for current in runs.values():
                await asyncio.to_thread(current.refresh)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        nonlocal stopping
        for batcher in batchers.values():
            batcher.start()
        looking = asyncio.get_running_loop().create_task(look_again())
        yield
        stopping = True
        looking.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN):
                await asyncio.gather(*(batcher.stop() for batcher in batchers.values()))

    app = FastAPI(
        title="blemish",
        version=__version__,
        description="Finds defects in images: score, decision, map.",
        lifespan=life,
        docs_url=None,  # FastAPI's page fetches its scripts from a CDN
        redoc_url=None,
    )

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

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(start_page(list(runs), key=bool(api_key)), headers=PAGE)

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(listing(app.openapi()), headers=PAGE)

    @app.get("/health", operation_id="health", responses={503: {"model": Health, "description": "It stops."}})
    async def health(response: Response) -> Health:
        """Whether the server is there, and with which Runs; 503 while it stops."""
        response.status_code = 503 if stopping else 200
        return Health(
            status="stopping" if stopping else "ok",
            models={
                name: ServedModel(
                    version=current.now()[1], detector=current.now()[0].detector.name, problem=current.problem
                )
                for name, current in runs.items()
            },
        )

    @app.get(
        "/metrics",
        operation_id="metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **refusals(401)},
    )
    async def tell() -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post(
        "/score",
        operation_id="score",
        response_model=Scored,
        openapi_extra=described(runs),
        responses=refusals(),
    )
    async def score(
        request: Request,
        model: Annotated[str, Query(description="A name of /health; needed where several are served.")] = "",
        maps: Annotated[bool, Query(description="Whether each result has its `map`.")] = False,
        heatmap: Annotated[bool, Query(description="Whether each result has its `heatmap`.")] = False,
    ) -> Response:
        """Score one or many images; the answers are in the order of the images."""
        nonlocal under_way
        start = time.perf_counter()
        name = model or next(iter(runs))
        label = name if name in runs else "unknown"  # a stranger's word does not become a label
        under_way += 1
        try:
            if under_way > limits.requests:
                raise BusyError
            found = await _scored(request, name, maps, heatmap)
            answer = Response(found.model_dump_json(exclude_unset=True), media_type="application/json")
        except RefusedError as refused:
            answer = _problem(refused.sentence, refused.status)
        except BusyError:
            answer = _problem("The server is busy; try again later.", 429, {"Retry-After": "1"})
        except BlemishError as error:
            answer = _problem(str(error), 422)
        finally:
            under_way -= 1
        metrics.requests.labels(label, str(answer.status_code)).inc()
        metrics.seconds.labels(label).observe(time.perf_counter() - start)
        return answer

    async def _scored(request: Request, name: str, maps: bool, heatmap: bool) -> Scored:
        if name not in runs:
            raise RefusedError(404, f"There is no model '{name[:80]}'; there is {', '.join(runs)}.")
        if not model_named(request) and len(runs) > 1:
            raise RefusedError(422, f"There are several models; give one with ?model=, of {', '.join(runs)}.")
        run, _ = runs[name].now()
        parts = await parts_of(request, limits)
        # Decoding takes a core for a while: not in the thread that answers everyone.
        with room.taking(await asyncio.to_thread(pixels_of, parts, limits)):
            uploads = await asyncio.to_thread(decoded_all, parts, limits, run.decoding, run.detector.whole_pixels)
            _check_sizes(run, uploads)
            try:
                async with asyncio.timeout(limits.answer_seconds):
                    answers = await batchers[name].score([(each.pixels, each.content, each.lost) for each in uploads])
            except TimeoutError:
                raise RefusedError(
                    503, f"There was no answer within {limits.answer_seconds:g} s; try again later."
                ) from None
            # Drawing and finding regions take a core for a while, too.
            results = await asyncio.to_thread(
                lambda: [
                    result(upload, answer, maps=maps, heatmap=heatmap)
                    for upload, answer in zip(uploads, answers, strict=True)
                ]
            )
        for each in results:
            metrics.images.labels(name, str(int(each.flagged))).inc()
        return Scored(model=name, results=results)

    return app


def _problem(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """What every refusal looks like."""
    return JSONResponse(Problem(error=sentence).model_dump(), status, headers)


def model_named(request: Request) -> bool:
    """Whether the request names a model."""
    return bool(request.query_params.get("model"))


def _check_sizes(run: Run, uploads: list[Upload]) -> None:
    """Raises `RefusedError` for what an exported model does not take, so that nobody else's batch meets it."""
    if isinstance(run.detector, ExportedModel):
        for each in uploads:
            if each.pixels.shape[:2] != run.detector.size:
                height, width = run.detector.size
                found = f"{each.pixels.shape[1]}x{each.pixels.shape[0]}"
                raise RefusedError(422, f"The model takes {width}x{height} pixels; '{each.name[:80]}' has {found}.")
