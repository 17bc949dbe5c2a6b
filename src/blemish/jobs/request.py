"""What a person wants of a job: one frozen dataclass a job, made of the groups in `option_groups.py`.

The command line makes its flags from these fields, `config.json` keeps them, and `refit` replaces some of them. Nothing
that takes long to import is imported before a request is made.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self, get_type_hints

import numpy as np

from blemish.images.urls import located
from blemish.jobs.option_groups import (
    DecisionOptions,
    FeatureOptions,
    InputOptions,
    LongJobOptions,
    MachineOptions,
    MethodOptions,
    Option,
    OutputOptions,
    ReferenceOptions,
    RegionOptions,
    SampleOptions,
    ThresholdOptions,
    options_of,
)
from blemish.machine.errors import RequestError

REQUEST = "request"  # its entry in `config.json`
FILES = ("images", "normals", "roi", "cache", "checkpoints")
PATHS = ("out", "copy", "link", "weights", "cache", "checkpoints", "labels")
FROM_PYTHON = "an object in the memory of a Python program"  # in place of what no file holds
NOT_KEPT = (  # of this call alone, or kept with the detector
    *("out", "force", "copy", "link", "labels"),
    *("detector", "preset", "settings", "backbone", "weights", "pixels", "tile", "overlap"),
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What all requests can do. Raises `RequestError` for a value that no job could take."""

    def __post_init__(self) -> None:
        """Check each value against the least its field may be, and make paths of texts."""
        for name in PATHS:
            value = getattr(self, name, None)
            if isinstance(value, str):
                object.__setattr__(self, name, Path(value))
            elif name == "labels" and isinstance(value, Mapping):
                continue
            elif value is not None and not isinstance(value, Path):
                table = " of a table path,label, or a dict from id to good or bad" if name == "labels" else ""
                raise RequestError(f"`{name}` must be the path{table}; got a {type(value).__name__}.")
        hints = get_type_hints(type(self))
        for name, option in options_of(type(self)).items():
            value = getattr(self, name)
            if value is None or hints[name] not in (int, int | None, float | None):
                continue
            least = "" if option.least is None else f", {option.least:g} or more"
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
                raise RequestError(f"`{name}` is a number{least}; got {value!r}.")
            if option.least is not None and not value >= option.least:
                raise RequestError(f"`{name}` must be {option.least:g} or more; got {value:g}.")
        levels = getattr(self, "levels", None)
        if levels and not -math.inf < levels[0] < levels[1] < math.inf:
            raise RequestError(
                f"`levels` needs two levels, the lower one first, such as 0 4095; got {levels[0]:g} {levels[1]:g}."
            )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """The request with these options. Raises `RequestError` for one there is not, with near names."""
        known = {each.name for each in fields(cls)}
        for name in options:
            if name not in known:
                near = get_close_matches(name, known, n=2)
                meant = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(sorted(known))}."
                raise RequestError(f"There is no option `{name}`; {meant}")
        return cls(**options)


@dataclass(frozen=True, kw_only=True)
class FitRequest(
    Request, InputOptions, ReferenceOptions, RegionOptions, MethodOptions, FeatureOptions, SampleOptions,
    DecisionOptions, OutputOptions, LongJobOptions,
):  # fmt: skip
    """The options of `fit`."""

    def __post_init__(self) -> None:
        """Check what contradicts itself."""
        from blemish import calibration

        super().__post_init__()
        aim = share(self.false_alarms, "false_alarms")
        object.__setattr__(self, "false_alarms", aim)
        if not isinstance(self.purify, bool):
            from blemish.purification import PurifySettings  # it imports torch, which takes seconds

            if not isinstance(self.purify, PurifySettings):
                raise RequestError(f"`purify` is True, False or PurifySettings(...); got {self.purify!r}.")
        if self.overlap is not None and self.tile is None:
            raise RequestError(f"`overlap` {self.overlap} is for tiles; give their size with `tile`.")
        calibration.check(self.threshold, self.contamination, aim, self.sensitivity)

    def to_json(self) -> dict[str, Any]:
        """The request for `config.json`: files by their absolute path or URL."""
        return {
            each.name: _as_json(each.name, getattr(self, each.name))
            for each in fields(self)
            if each.name not in NOT_KEPT
        }

    @classmethod
    def from_json(cls, folder: Path, config: Mapping[str, Any], images: Any = None) -> "FitRequest":
        """The request that the Run in `folder` was fitted with, with other `images` if there are some.

        Raises `RequestError` where it cannot be done again.
        """
        if config.get("model"):
            raise RequestError(
                f"'{folder}' holds scores of new images, and only a fit learns from labels: review the Run, "
                f"'{config['model']}', or fit these images."
            )
        found = config.get(REQUEST)
        if not isinstance(found, dict):
            raise RequestError(
                f"'{folder}' does not hold the options of its fit (an earlier version made it, or another "
                "command); fit the images with `labels`."
            )
        if images is not None:
            found = {**found, "images": images}
        for name in FILES:
            if isinstance(found.get(name), str) and found[name] == FROM_PYTHON:
                fix = "give them with `images`" if name == "images" else "fit there, with `labels`"
                raise RequestError(f"The {name} of '{folder}' came from the memory of a Python program; {fix}.")
        from blemish.purification import PurifySettings

        options = {each.name: found[each.name] for each in fields(cls) if each.name in found}
        if isinstance(options.get("purify"), dict):
            options["purify"] = PurifySettings(**options["purify"])
        if options.get("levels"):
            options["levels"] = tuple(options["levels"])
        return cls(**options)


@dataclass(frozen=True, kw_only=True)
class PurifyRequest(Request, InputOptions, ReferenceOptions, MethodOptions, OutputOptions, MachineOptions):
    """The options of `purify`; `how` is a `PurifySettings`, its defaults if there is none."""

    how: Any = None
    keep: Annotated[
        float | None, Option(help="Share of the images to keep, 0 to 1, in place of a label-free cut.", common=True)
    ] = None


@dataclass(frozen=True, kw_only=True)
class ScoreRequest(Request, InputOptions, RegionOptions, ThresholdOptions, OutputOptions, MachineOptions):
    """The options of `score`."""

    weights: Annotated[Path | None, Option(help="File with the backbone's weights, if it is not where it was.")] = None
    runtime: Annotated[
        str | None,
        Option(
            help="What has to run the model: torch, onnx or openvino; what fits by default.",
            words=("torch", "onnx", "openvino"),
        ),
    ] = None

    def __post_init__(self) -> None:
        """Check what contradicts itself."""
        from blemish import calibration

        super().__post_init__()
        calibration.check(self.threshold, self.contamination, sensitivity=self.sensitivity)


def share(value: float | str | None, name: str) -> float | None:
    """A share such as "1%" or 0.01 as a number. Raises `RequestError`."""
    if not isinstance(value, str):
        return value
    try:
        return float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        raise RequestError(f"`{name}` takes a share, such as 1% or 0.01; got '{value}'.") from None


def _as_json(name: str, value: Any) -> Any:
    if name == "purify" and not isinstance(value, bool):
        return asdict(value)
    if isinstance(value, np.generic):
        return value.item()
    if name == "levels" and value:
        return [float(level) for level in value]
    if name not in FILES:
        return str(value) if isinstance(value, Path) else value
    if value is None:
        return None
    if not isinstance(value, (str, Path)):
        return FROM_PYTHON
    where = located(value)
    return where if isinstance(where, str) else os.path.abspath(where)  # noqa: PTH100 - a link stays the link it is
