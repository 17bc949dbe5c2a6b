"""What a fit was asked for, as `config.json` keeps it, so that it can be done again with what was learned since."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from blemish.images.urls import located
from blemish.machine.errors import RequestError
from blemish.purification import PurifySettings

ASKED = "asked"  # its entry in `config.json`
FILES = ("images", "normals", "roi", "cache", "checkpoints")
FROM_PYTHON = "handed in from Python"  # stands for what no file holds


def recorded(words: Mapping[str, Any]) -> dict[str, Any]:
    """The words of `fit` as JSON: files by their absolute path or URL, the settings of a purification by name."""
    return {name: _recorded(name, value) for name, value in words.items()}


def _recorded(name: str, value: Any) -> Any:
    if isinstance(value, PurifySettings):
        return asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    if name == "levels" and value:
        return [float(each) for each in value]
    if name not in FILES or value is None:
        return value
    if not isinstance(value, (str, Path)):
        return FROM_PYTHON
    where = located(value)
    return where if isinstance(where, str) else os.path.abspath(where)  # noqa: PTH100 - a link stays the link it is


def asked_again(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The words to hand to `fit` to do the fit of a Run once more. Raises `RequestError` with why that cannot be."""
    if config.get("model"):
        raise RequestError(
            f"'{folder}' holds scores of new images, and only a fit learns from labels: review the Run, "
            f"'{config['model']}', or fit these images."
        )
    found = config.get(ASKED)
    if not isinstance(found, dict):
        raise RequestError(
            f"'{folder}' does not hold what its fit was asked for (an earlier version made it, or another command); "
            "fit the images with --labels."
        )
    for name in FILES:
        if found.get(name) == FROM_PYTHON:
            raise RequestError(f"The {name} of '{folder}' were handed in from Python; fit them there, with labels=.")
    words = dict(found)
    if isinstance(words.get("purify"), dict):
        words["purify"] = PurifySettings(**words["purify"])
    if words.get("levels"):
        words["levels"] = tuple(words["levels"])
    return words
