"""What a person asks of a job: one frozen dataclass a job, made of groups of options that several jobs share.

The command line makes its flags from these fields, `config.json` keeps them, and `refit` replaces some of them. Nothing
that takes long to import is imported before a request is made.
"""

import inspect
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args, get_type_hints

import numpy as np

from blemish.images.urls import located
from blemish.machine.errors import RequestError

REQUEST = "request"  # its entry in `config.json`
FILES = ("images", "normals", "roi", "cache", "checkpoints")
PATHS = ("out", "copy", "link", "weights", "cache", "checkpoints", "labels")
FROM_PYTHON = "an object in the memory of a Python program"  # stands for what no file holds
NOT_KEPT = (  # of this call alone, or kept with the detector
    *("out", "force", "copy", "link", "labels"),
    *("detector", "preset", "settings", "backbone", "weights", "pixels", "tile", "overlap"),
)
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Option:
    """What an option is for, and what its flag on the command line looks like.

    Attributes
    ----------
    help : what it is for.
    least : the smallest value it may have.
    flag : its flag, where that is not the name with dashes.
    metavar : what stands for its value.
    typed : the type of the text on the command line, where the option takes more than that.
    common : whether most people need it, so that the help shows it first.
    panel : its part of the help, where that is not the one of its group.
    """

    help: str
    least: float | None = None
    flag: str = ""
    metavar: str = ""
    typed: Any = None
    common: bool = False
    panel: str = ""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What is read."""

    panel: ClassVar[str] = "Images"
    images: Any = None
    levels: Annotated[
        tuple[float, float] | None,
        Option(
            help="Levels of images deeper than 8 bits that become black and white; found in the images by default.",
            metavar="LOW HIGH",
        ),
    ] = None
    max_pixels: Annotated[
        int | None, Option(help="Skip images with more pixels; 180,000,000 by default, or what the fit had.", least=1)
    ] = None
    strict: Annotated[bool, Option(help="Stop at a file that cannot be used instead of skipping it.")] = False


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What is known of the images beforehand."""

    panel: ClassVar[str] = "Images"
    normals: Annotated[
        Any,
        Option(
            help="Images known to be good, which are learned from but not listed: a folder, or what images may be.",
            typed=str,
            common=True,
            metavar="FOLDER",
        ),
    ] = None
    group_regex: Annotated[
        str,
        Option(
            help="Images whose paths hold the same text where this matches count as one, such as 'part(\\d+)_'. None "
            "of them is scored by what was learned from another.",
            metavar="REGEX",
        ),
    ] = ""


@dataclass(frozen=True, kw_only=True)
class Leaving:
    """Where the results go."""

    panel: ClassVar[str] = "Results"
    out: Path | None = None
    force: Annotated[bool, Option(help="Replace earlier results in that folder.")] = False
    copy: Annotated[
        Path | None,
        Option(
            help="Copy the images into the folders good, look and bad of this folder, for any other tool.",
            metavar="FOLDER",
        ),
    ] = None
    link: Annotated[
        Path | None,
        Option(
            help="As `copy`, with hard links, which take no space; copied where there can be none.", metavar="FOLDER"
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Regions:
    """Where in the images to look, and what is left of where the defects are."""

    panel: ClassVar[str] = "Images"
    roi: Annotated[
        Any,
        Option(
            help="A mask for all images, white where to look, or a folder of masks named as the images, IMAGE.png. "
            "What lies outside is neither learned from nor scored.",
            typed=Path,
        ),
    ] = None
    masks: Annotated[bool, Option(help="Leave masks of the flagged images, too.", panel="Results")] = False


@dataclass(frozen=True, kw_only=True)
class Method:
    """Which detector, and how it is set."""

    panel: ClassVar[str] = "Method"
    detector: Annotated[Any, Option(help="Which detector; `blemish detectors` lists them.", typed=str)] = (
        "nearest_images"
    )
    settings: Annotated[
        Mapping[str, Any],
        Option(help="A setting of the detector; may be repeated.", flag="--set", metavar="NAME=VALUE", typed=list[str]),
    ] = field(default_factory=dict)
    seed: Annotated[int, Option(help="Same seed, same results.", least=0)] = 0


@dataclass(frozen=True, kw_only=True)
class Looking:
    """How the detector looks at images: settings that detectors on patches share."""

    panel: ClassVar[str] = "Method"
    preset: Annotated[str | None, Option(help="A named set of the detector's settings: funad has paper.")] = None
    backbone: Annotated[
        str | None, Option(help="What features come from, such as dino_vitb8, or any name of timm.")
    ] = None
    weights: Annotated[Path | None, Option(help="File with the backbone's weights (.safetensors, .pth).")] = None
    pixels: Annotated[
        int | None,
        Option(
            help="Side in pixels that images are looked at; 256 by default. More for small defects.",
            least=64,
            common=True,
        ),
    ] = None
    tile: Annotated[int | None, Option(help="Look at large images in tiles of this many pixels.", least=64)] = None
    overlap: Annotated[int | None, Option(help="Pixels that tiles share; 32 by default.", least=0)] = None


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A number in place of the decision without labels."""

    panel: ClassVar[str] = "Decide"
    threshold: Annotated[float | None, Option(help="Flag scores above this.")] = None
    contamination: Annotated[
        float | None, Option(help="Share of the training images that is bad, 0 to 1: sets the threshold.")
    ] = None
    sensitivity: Annotated[
        float | None,
        Option(help="0 flags the fewest images that may be bad, 1 the most; 0.5 by default."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What of the folder is learned from."""

    panel: ClassVar[str] = "Method"

    purify: Annotated[
        Any,
        Option(help="Set images that stand far out aside before the detector learns.", typed=bool),
    ] = False
    sample: Annotated[
        int | None,
        Option(
            help="Images to learn from, at random; by default all up to 1,000, then as the square root of their "
            "number. The others are scored as new images are.",
            least=1,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Deciding(Threshold):
    """How the threshold is found."""

    labels: Annotated[
        Path | None,
        Option(
            help="A labels.csv of `blemish review`, or a table path,label with good and bad. Good images are learned "
            "from whatever they score, bad ones never count as normal, and both move the threshold."
        ),
    ] = None
    false_alarms: Annotated[
        float | str | None,
        Option(help="Flag at most this share of the good images, such as 5%: a promise with --normals.", typed=str),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """On what machine."""

    panel: ClassVar[str] = "Machine"
    device: Annotated[str | None, Option(help="A torch device, such as cpu or cuda:0; cpu by default.")] = None
    threads: Annotated[int | None, Option(help="Cores to use; all by default.", least=1)] = None
    cache: Annotated[Path | None, Option(help="Folder to keep features in.")] = None
    ray: Annotated[
        str | None, Option(help="A Ray cluster to share the work with; local starts one here.", metavar="ADDRESS")
    ] = None


@dataclass(frozen=True, kw_only=True)
class LongMachine(Machine):
    """On what machine, for a job that may take long."""

    disk: Annotated[float | None, Option(help="GiB that the features of one fit may take on disk.", least=0)] = None
    checkpoints: Annotated[
        Path | None, Option(help="Folder to keep half-trained nets in; the same command goes on with them.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What all requests can do. Raises `RequestError` for a value that no job could take."""

    def __post_init__(self) -> None:
        """Check each value against the least its field may be, and make paths of texts."""
        for name in PATHS:
            value = getattr(self, name, None)
            if isinstance(value, str):
                object.__setattr__(self, name, Path(value))
        for name, option in options_of(type(self)).items():
            value = getattr(self, name)
            if value is None or option.least is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
                raise RequestError(f"`{name}` is a number, {option.least:g} or more; got {value!r}.")
            if not value >= option.least:
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
class FitRequest(Request, Reading, Reference, Regions, Method, Looking, Learning, Deciding, Leaving, LongMachine):
    """What `fit` is asked for."""

    def __post_init__(self) -> None:
        """Check what contradicts itself."""
        from blemish import calibration
        from blemish.purification import PurifySettings

        super().__post_init__()
        aim = share(self.false_alarms, "false_alarms")
        object.__setattr__(self, "false_alarms", aim)
        if not isinstance(self.purify, bool | PurifySettings):
            raise RequestError(f"`purify` is True, False or PurifySettings(...); got {self.purify!r}.")
        if self.overlap is not None and self.tile is None:
            raise RequestError(f"`overlap` {self.overlap} is that of tiles; give their size with `tile`.")
        calibration.check(self.threshold, self.contamination, aim, self.sensitivity)

    def to_json(self) -> dict[str, Any]:
        """The request as it stands in `config.json`: files by their absolute path or URL."""
        return {
            each.name: _as_json(each.name, getattr(self, each.name))
            for each in fields(self)
            if each.name not in NOT_KEPT
        }

    @classmethod
    def from_json(cls, folder: Path, config: Mapping[str, Any]) -> "FitRequest":
        """The request that the Run in `folder` was fitted with. Raises `RequestError` where it cannot be done again."""
        if config.get("model"):
            raise RequestError(
                f"'{folder}' holds scores of new images, and only a fit learns from labels: review the Run, "
                f"'{config['model']}', or fit these images."
            )
        found = config.get(REQUEST)
        if not isinstance(found, dict):
            raise RequestError(
                f"'{folder}' does not hold what its fit was asked for (an earlier version made it, or another "
                "command); fit the images with `labels`."
            )
        for name in FILES:
            if found.get(name) == FROM_PYTHON:
                raise RequestError(
                    f"The {name} of '{folder}' came from the memory of a Python program; fit them there, with labels=."
                )
        from blemish.purification import PurifySettings

        options = {each.name: found[each.name] for each in fields(cls) if each.name in found}
        if isinstance(options.get("purify"), dict):
            options["purify"] = PurifySettings(**options["purify"])
        if options.get("levels"):
            options["levels"] = tuple(options["levels"])
        return cls(**options)


@dataclass(frozen=True, kw_only=True)
class PurifyRequest(Request, Reading, Reference, Method, Leaving, Machine):
    """What `purify` is asked for; `how` is a `PurifySettings`, its defaults if there is none."""

    how: Any = None


@dataclass(frozen=True, kw_only=True)
class ScoreRequest(Request, Reading, Regions, Threshold, Leaving, Machine):
    """What `score` is asked for."""

    weights: Annotated[Path | None, Option(help="File with the backbone's weights, if it is not where it was.")] = None
    runtime: Annotated[
        str | None, Option(help="What has to run the model: torch, onnx or openvino; what fits by default.")
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


def options_of(request: type[Request]) -> dict[str, Option]:
    """The options of a request by name, group by group."""
    found: dict[str, Option] = {}
    hints = get_type_hints(request, include_extras=True)
    for group in request.__mro__:
        for name in inspect.get_annotations(group):
            option = get_args(hints[name])[-1:]
            if option and isinstance(option[0], Option):
                found[name] = option[0]
    return found


def panel_of(request: type[Request], name: str) -> str:
    """What an option is about, or the group that it belongs to; "" for the common ones."""
    option = options_of(request)[name]
    if option.common or option.panel:
        return option.panel
    group = next(each for each in request.__mro__ if name in inspect.get_annotations(each))
    return str(getattr(group, "panel", "Other"))


def with_options_of(request: type[Request]) -> Callable[[F], F]:
    """Give a job the signature and the documentation of the request that its `**options` become."""

    def decorated(job: F) -> F:
        signature, hints = inspect.signature(job), get_type_hints(request)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        options = options_of(request)
        defaults = request()
        added = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=getattr(defaults, name), annotation=hints[name]
            )
            for name in options
        ]
        about = "\n".join(f"    {name} : {each.help}" for name, each in options.items())
        job.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        job.__doc__ = f"{(job.__doc__ or '').rstrip()}\n\n    Options\n    -------\n{about}\n    "
        return job

    return decorated


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
