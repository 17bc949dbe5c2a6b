"""A detector class for each model of anomalib, with the settings of the model's constructor."""

import inspect
from dataclasses import field, fields, make_dataclass
from enum import Enum
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from blemish.detectors.anomalib_adapter.catalogue import DEFAULTS, EMBEDDED, NEEDS, PREFIX, anomalib_class
from blemish.detectors.anomalib_adapter.detector import AnomalibDetector
from blemish.features.backbones import DEFAULT_BACKBONE

# Parameters of constructors that the detector sets by itself.
NOT_SETTINGS = frozenset({
    "pre_trained", "pre_processor", "post_processor", "evaluator", "visualizer",
    "batch_size", "image_size", "input_shape",
})  # fmt: skip


@cache
def model_class(name: str) -> type[AnomalibDetector]:
    """The detector called `name`, such as "anomalib:Padim". Raises `RequestError`, with near names."""
    model = name.removeprefix(PREFIX)
    kind = anomalib_class(model)
    ours = {each.name for each in fields(AnomalibDetector)}
    defaults = {
        parameter.name: _plain(parameter.default)
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.name not in ours | NOT_SETTINGS
    }
    own = tuple(defaults)
    if NEEDS.get(model) == EMBEDDED:
        defaults["backbone"] = DEFAULT_BACKBONE
    defaults |= DEFAULTS.get(model, {})
    about = {
        "name": name,
        "model": model,
        "own": own,
        "summary": (inspect.getdoc(kind) or model).splitlines()[0].rstrip("."),
        "source": f"anomalib {version('anomalib')}",
    }
    settings = [(name, type(default), field(default=default)) for name, default in defaults.items()]
    return make_dataclass(model, settings, bases=(AnomalibDetector,), kw_only=True, namespace=about)


def _plain(value: Any) -> Any:
    """A default that JSON and a frozen field can hold."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    return tuple(value) if isinstance(value, list) else value
