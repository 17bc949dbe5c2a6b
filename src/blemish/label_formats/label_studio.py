"""Label Studio: tasks with predictions, the labelling configuration for them, and what an export of it says."""

import json
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from blemish.label_formats.annotated import BAD, DEFECT, GOOD, Annotated, Read, category, word_of
from blemish.machine.errors import RequestError
from blemish.scores.regions import Region

FILE, CONFIG_FILE = "label_studio.json", "label_config.xml"
LOCAL_FILES = "/data/local-files/?d="  # what Label Studio serves files below its document root by
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what it puts before the name of an uploaded file
BOXES, VERDICT, IMAGE = "defects", "verdict", "image"
CONFIG = """<View>
  <Image name="{IMAGE}" value="$image"/>
  <Choices name="{VERDICT}" toName="{IMAGE}" choice="single" showInline="true">
    <Choice value="{GOOD}"/>
    <Choice value="{BAD}"/>
  </Choices>
  <RectangleLabels name="{BOXES}" toName="{IMAGE}">
{labels}
  </RectangleLabels>
</View>
"""


def config(names: Iterable[str]) -> str:
    """The labelling configuration for boxes of some categories."""
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in names)
    return CONFIG.format(labels=labels, IMAGE=IMAGE, VERDICT=VERDICT, GOOD=GOOD, BAD=BAD, BOXES=BOXES)


def to_label_studio(images: Iterable[Annotated]) -> str:
    """Tasks, the images named as files below Label Studio's document root; what was found is written as predictions.

    The score of a prediction is the chance of being bad, 0..1, where it was estimated.
    """
    return json.dumps([_task(each) for each in images])


def _task(image: Annotated) -> dict[str, Any]:
    boxes = [(_box(at, each, image), each.drawn) for at, each in enumerate(image.regions)]
    result = [_choice(image.predicted), *(box for box, drawn in boxes if not drawn)]
    prediction: dict[str, Any] = {"model_version": "blemish", "result": result}
    if image.chance is not None:
        prediction["score"] = image.chance  # Label Studio takes 0..1 only
    task: dict[str, Any] = {
        "data": {"image": LOCAL_FILES + quote(image.name), "path": image.name, "score": image.score},
        "predictions": [prediction],
    }
    if image.label:
        said = [_choice(image.label), *(box for box, drawn in boxes if drawn)]
        task["annotations"] = [{"result": said, "was_cancelled": False, "ground_truth": False}]
    return task


def _choice(word: str) -> dict[str, Any]:
    value = {"choices": [word]}
    return {"id": "verdict", "type": "choices", "from_name": VERDICT, "to_name": IMAGE, "value": value}


def _box(number: int, region: Region, image: Annotated) -> dict[str, Any]:
    return {
        "id": f"box-{number + 1}",
        "type": "rectanglelabels",
        "from_name": BOXES,
        "to_name": IMAGE,
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
        "value": {
            "x": 100 * region.left / image.width,
            "y": 100 * region.top / image.height,
            "width": 100 * region.width / image.width,
            "height": 100 * region.height / image.height,
            "rotation": 0,
            "rectanglelabels": [category(region)],
        },
    }


def from_label_studio(content: Any) -> list[Read]:
    """What the people who annotated the tasks of an export (JSON) say of the images; predictions say nothing.

    A choice or the label of a region is taken as a category; a submitted annotation with neither says good. Raises
    `RequestError` if it is no such export.
    """
    try:
        return [_read_task(task) for task in content]
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise RequestError(
            f"It is no export of Label Studio ({type(error).__name__}: {error}): export the project as JSON, not as "
            "JSON-MIN, so that each task has data and annotations."
        ) from None


def _read_task(task: dict[str, Any]) -> Read:
    words: list[str] = []
    size = None
    for annotation in task["annotations"] if "annotations" in task else task.get("completions", ()):
        if annotation.get("was_cancelled") or annotation.get("skipped"):
            continue
        names: list[str] = []
        chosen: list[str] = []
        for each in annotation["result"]:
            if each.get("original_width") and each.get("original_height"):
                size = (int(each["original_width"]), int(each["original_height"]))
            value = each["value"]
            if each["type"] == "choices":
                chosen += value["choices"]
            elif each["type"].endswith("labels"):
                names += value.get(each["type"], ())
            elif each["type"] in ("rectangle", "polygon", "brush", "ellipse", "keypoint"):
                names.append(DEFECT)
        words_of_one = [word_of(name) for name in chosen or names] or [GOOD]
        words.append(BAD if BAD in words_of_one else GOOD)
    return Read(_path_of(task["data"]), tuple(words), size)


def _path_of(data: dict[str, Any]) -> str:
    """The path of the image of a task as far as it tells it: `path` as blemish writes it, or out of its address."""
    if isinstance(data.get("path"), str):
        return str(data["path"])
    address = data[IMAGE] if IMAGE in data else next(each for each in data.values() if isinstance(each, str))
    parts = urlsplit(address)
    inside = parse_qs(parts.query).get("d")
    path = PurePosixPath(inside[0] if inside else unquote(parts.path))
    if "upload" in path.parts:
        return UPLOADED.sub("", path.name)
    return str(path).lstrip("/")
