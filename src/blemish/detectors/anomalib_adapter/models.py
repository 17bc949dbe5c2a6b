"""A detector class for each model of anomalib, with the settings of the model's constructor."""

import inspect
import warnings
from dataclasses import field, fields, make_dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from blemish.detectors.anomalib_adapter.catalogue import DEFAULTS, EMBEDDED, INSTALL, NEEDS, OTHER_WORK, PREFIX, models
from blemish.detectors.anomalib_adapter.detector import AnomalibDetector
from blemish.errors import RequestError
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


def anomalib_class(model: str) -> Any:
    """The class of an image model of anomalib. Raises `RequestError`, with near names or with what to install."""
    known = models()
    if not known:
        raise RequestError(f"'{PREFIX}{model}' needs anomalib, which is not installed; run: {INSTALL}")
    if model in OTHER_WORK:
        raise RequestError(f"'{PREFIX}{model}' does not learn from a folder of images; see: blemish detectors")
    if model not in known:
        lower = {each.lower(): each for each in known}
        near = [PREFIX + lower[each] for each in get_close_matches(model.lower(), lower, n=2)]
        meant = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}."
        raise RequestError(f"anomalib {version('anomalib')} has no image model '{model}'; {meant}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what its modules say of each other concerns nobody here
            import anomalib.models.image
    except ImportError as error:
        raise RequestError(f"anomalib is installed but cannot be imported ({error}); run: {INSTALL}") from error
    return getattr(anomalib.models.image, model)


def _plain(value: Any) -> Any:
    """A default as it can stand in JSON and in a frozen field."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    return tuple(value) if isinstance(value, list) else value
