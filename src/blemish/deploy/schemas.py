"""The answers of `serve`, typed: what the schema at `/openapi.json` is made of."""

import base64
import io
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from blemish.calibration import Band
from blemish.deploy.batching import Answer
from blemish.deploy.uploads import Upload
from blemish.scores import Scores
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
        flagged=answer.score > answer.run.threshold_,
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
