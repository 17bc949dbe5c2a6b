"""The answers of `serve`, typed, its pages, and what the schema at `/openapi.json` says beyond the types.

The body of `POST /score` is read by hand, so that limits hold while it arrives.
"""

import base64
import io
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

import numpy as np
from jinja2 import Template
from pydantic import BaseModel, Field

from blemish.calibration import Band
from blemish.deploy.batching import Answer
from blemish.deploy.current import CurrentRun
from blemish.deploy.uploads import FIELD, KINDS, RAW, SHAPE, Upload
from blemish.report.page import environment
from blemish.scores import Scores, above
from blemish.scores.heatmaps import overlay
from blemish.scores.regions import MOST_REGIONS, regions_of

Share = float


class Problem(BaseModel):
    """The one shape of whatever is not answered with scores."""

    error: str = Field(description="One sentence: the value, the rule, what to do.")


class Box(BaseModel):
    """Where a defect is thought to be: shares of the width and the height of the image, 0..1."""

    left: Share
    top: Share
    right: Share
    bottom: Share
    area: Share = Field(description="Of the image, 0..1; the region need not fill its box.")
    peak: float = Field(description="The highest value of the map in it.")


class ScoreMap(BaseModel):
    """The map of an image: a value a patch."""

    shape: tuple[int, int] = Field(description="Rows and columns.")
    float32: str = Field(description="Base64 of little-endian float32, row by row.")
    box: tuple[float, float, float, float] = Field(
        description="Left, top, right, bottom of the image in the map, each 0..1; the rest is padding."
    )


class Result(BaseModel):
    """What there is to say of one image."""

    name: str
    score: float = Field(description="Higher is worse; 0 is an ordinary image.")
    flagged: bool = Field(description="Whether the score is above the threshold.")
    band: Band = Field(description="What to do: reject it, look at it, or let it pass.")
    chance: float | None = Field(description="Of being bad, 0..1; null where the Run has no numbers for it.")
    threshold: float
    version: str = Field(description="Of the Run that scored; changes when it is replaced.")
    boxes: list[Box] | None = Field(
        description="Of an image that does not pass, the highest peak first; null where the Run has no pixel threshold."
    )
    map: ScoreMap | None = Field(default=None, description="With ?maps=true.")
    heatmap: str | None = Field(default=None, description="With ?heatmap=true: base64 of a PNG, the map drawn over it.")


class Scored(BaseModel):
    """The answers in the order of the images."""

    model: str
    results: list[Result]


class ServedModel(BaseModel):
    """A Run that is served."""

    version: str
    detector: str
    problem: str = Field(description="What is wrong with its folder; empty if nothing is.")


class Health(BaseModel):
    """Whether the server takes images."""

    status: Literal["ok", "stopping"]
    models: dict[str, ServedModel]


def result(upload: Upload, answer: Answer, *, maps: bool, heatmap: bool) -> Result:
    """One answer, with its map and its heatmap if they are wanted."""
    found = Result(
        name=upload.name,
        score=answer.score,
        flagged=bool(above([answer.score], answer.run.threshold_)[0]),
        band=answer.band,
        chance=answer.chance,
        threshold=answer.run.threshold_,
        version=answer.version,
        boxes=_boxes(upload, answer),
    )
    if maps:
        data = base64.b64encode(answer.map.astype("<f4").tobytes()).decode()
        found.map = ScoreMap(shape=answer.map.shape, float32=data, box=answer.box)
    if heatmap:
        drawn = io.BytesIO()
        overlay(upload.pixels, _scores(upload, answer).map(upload.name), answer.run.map_scale).save(drawn, "PNG")
        found.heatmap = base64.b64encode(drawn.getvalue()).decode()
    return found


def _boxes(upload: Upload, answer: Answer) -> list[Box] | None:
    level = answer.run.pixel_threshold
    if level is None:
        return None
    if answer.band == "pass":
        return []
    values = _scores(upload, answer).map(upload.name)
    height, width = values.shape
    return [
        Box(
            left=each.left / width,
            top=each.top / height,
            right=each.right / width,
            bottom=each.bottom / height,
            area=each.area / (width * height),
            peak=each.peak,
        )
        for each in regions_of(values > level, values)[:MOST_REGIONS]
    ]


def _scores(upload: Upload, answer: Answer) -> Scores:
    """The answer as `Scores` of one image."""
    height, width = upload.pixels.shape[:2]
    return Scores(
        (upload.name,),
        np.array([answer.score], np.float32),
        answer.map[None],
        np.array([answer.box], np.float32),
        np.array([[width, height]]),
    )


def described(runs: Mapping[str, CurrentRun]) -> dict[str, Any]:
    """The body and the parameters of `/score`."""
    binary = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": [FIELD],
        "properties": {
            FIELD: {"type": "array", "items": binary, "description": f"PNG, JPEG, or raw arrays ({RAW})"},
            SHAPE: {"type": "array", "items": {"type": "string"}, "description": "of each raw array, H,W,3 or H,W"},
        },
    }
    content = {kind: {"schema": form if kind.startswith("multipart") else binary} for kind in KINDS}
    shape = {"name": SHAPE, "in": "query", "schema": {"type": "string"}, "description": "of a raw body, H,W,3 or H,W"}
    return {"requestBody": {"required": True, "content": content}, "parameters": [shape], "x-models": list(runs)}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What each status but 200 means, for the schema: all statuses of `/score`, or only `statuses`."""
    said = {
        400: "The body is cut short or no multipart form.",
        401: "The key is missing or wrong.",
        404: "There is no such model.",
        408: "The body took too long.",
        413: "Too many bytes, pixels or images.",
        415: "Another content type.",
        422: "An image that cannot be used; nothing of the request was scored.",
        429: "No room; try again later.",
        500: "A fault of blemish.",
        503: "No answer in time.",
    }
    return {
        status: {"model": Problem, "description": text} for status, text in said.items() if status in (statuses or said)
    }


def listing(schema: Mapping[str, Any]) -> str:
    """The description of the server as HTML, made from its OpenAPI schema."""
    return template("docs.html").render(schema=schema, of=_type_of)


@cache
def template(name: str) -> Template:
    """A page of the server: "start.html" to drop an image on, "docs.html"."""
    return environment("blemish.deploy").get_template(name)


def _type_of(schema: Mapping[str, Any]) -> str:
    """The type of a value in a schema, in words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type_of(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f'"{each}"' for each in schema["enum"])
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_type_of(each) for each in schema['prefixItems'])}]"
        return f"list of {_type_of(schema.get('items', {}))}"
    if isinstance(more := schema.get("additionalProperties"), Mapping):
        return f"object of {_type_of(more)} by name"
    return str(schema.get("format") or schema.get("type", "anything"))
