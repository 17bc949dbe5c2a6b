"""Options of a job as fields of dataclasses: their help and flags, and the groups of them that several jobs share."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_type_hints

F = TypeVar("F", bound=Callable[..., Any])
# A shell offers them at once, without the seconds that importing the detectors takes.
DETECTORS = ("dinomaly", "funad", "inreach", "nearest_images", "padim", "patchcore", "simplenet", "softpatch")


@dataclass(frozen=True, kw_only=True)
class Option:
    """What an option is for, and what its flag on the command line looks like.

    Attributes
    ----------
    help : what it is for.
    least : the smallest value it may have.
    flag : its flag, where that is not the name with dashes.
    metavar : the placeholder of its value.
    typed : the type of the text on the command line, where the option takes more than that.
    common : whether most people need it, so that the help shows it first.
    panel : its part of the help, where that is not the one of its group.
    words : values that a shell offers.
    """

    help: str
    least: float | None = None
    flag: str = ""
    metavar: str = ""
    typed: Any = None
    common: bool = False
    panel: str = ""
    words: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class InputOptions:
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
class ReferenceOptions:
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
class OutputOptions:
    """Where the results go."""

    panel: ClassVar[str] = "Results"
    out: Path | None = None
    force: Annotated[bool, Option(help="Replace earlier results in the folder.", common=True)] = False
    copy: Annotated[
        Path | None,
        Option(
            help="Copy the images into the folders good, look and bad of a new folder, for any other tool.",
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
class RegionOptions:
    """Where in the images to look, and what is left of where the defects are."""

    panel: ClassVar[str] = "Images"
    roi: Annotated[
        Any,
        Option(
            help="A mask for all images, white where to look, or a folder of masks named as the images, IMAGE.png. "
            "What is outside is neither learned from nor scored.",
            typed=Path,
        ),
    ] = None
    masks: Annotated[bool, Option(help="Leave masks of the images to reject or to look at, too.", panel="Results")] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class MethodOptions:
    """Which detector, and how it is set."""

    panel: ClassVar[str] = "Method"
    detector: Annotated[
        Any, Option(help="Which detector; `blemish detectors` lists them.", typed=str, words=DETECTORS)
    ] = "nearest_images"
    settings: Annotated[
        Mapping[str, Any],
        Option(help="Settings of the detector by name.", flag="--set", metavar="NAME=VALUE", typed=list[str]),
    ] = field(default_factory=dict)
    seed: Annotated[int, Option(help="Same seed, same results.", least=0)] = 0


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """How the detector looks at images: settings that detectors on patches share."""

    panel: ClassVar[str] = "Method"
    preset: Annotated[
        str | None, Option(help="A named set of the detector's settings: funad has paper.", words=("paper",))
    ] = None
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
class ThresholdOptions:
    """A number in place of the decision without labels."""

    panel: ClassVar[str] = "Decide"
    threshold: Annotated[
        float | None,
        Option(help="Flag and reject scores above this: a little less than that of the last image to reject."),
    ] = None
    contamination: Annotated[
        float | None, Option(help="Share of the training images that is bad, 0 to 1: sets the threshold.")
    ] = None
    sensitivity: Annotated[
        float | None,
        Option(help="0 flags few images, 1 flags many; 0.5 by default.", common=True),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """What of the folder is learned from."""

    panel: ClassVar[str] = "Method"

    purify: Annotated[
        Any,
        Option(help="Set images with very high scores aside before the detector learns.", typed=bool),
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
class DecisionOptions(ThresholdOptions):
    """How the threshold is found."""

    labels: Annotated[
        Path | Mapping[str, str] | None,
        Option(
            help="A labels.csv of `blemish review`, or a table path,label with good and bad. Good images are learned "
            "from whatever they score, bad ones never count as normal, and both move the threshold.",
            typed=Path,
        ),
    ] = None
    false_alarms: Annotated[
        float | str | None,
        Option(help="Flag at most this share of good images, such as 5%; a promise if good ones are given.", typed=str),
    ] = None


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """On what machine."""

    panel: ClassVar[str] = "Machine"
    device: Annotated[
        str | None, Option(help="A torch device, such as cpu or cuda:0; cpu by default.", common=True)
    ] = None
    threads: Annotated[int | None, Option(help="Cores to use; all by default.", least=1)] = None
    cache: Annotated[Path | None, Option(help="Folder to keep features in.")] = None
    ray: Annotated[
        str | None, Option(help="A Ray cluster to share the work with; local starts one here.", metavar="ADDRESS")
    ] = None


@dataclass(frozen=True, kw_only=True)
class LongJobOptions(MachineOptions):
    """On what machine, for a job that may take long."""

    disk: Annotated[float | None, Option(help="GiB that the features of one fit may take on disk.", least=0)] = None
    checkpoints: Annotated[
        Path | None, Option(help="Folder to keep half-trained nets in; the same command continues from them.")
    ] = None


def options_of(request: type[Any]) -> dict[str, Option]:
    """The options of a request by name, group by group."""
    found: dict[str, Option] = {}
    hints = get_type_hints(request, include_extras=True)
    for group in request.__mro__:
        for name in inspect.get_annotations(group):
            option = get_args(hints[name])[-1:]
            if option and isinstance(option[0], Option):
                found[name] = option[0]
    return found


def panel_of(request: type[Any], name: str) -> str:
    """What an option is about, or the group that it belongs to; "" for the common ones."""
    option = options_of(request)[name]
    if option.common or option.panel:
        return option.panel
    group = next(each for each in request.__mro__ if name in inspect.get_annotations(each))
    return str(getattr(group, "panel", "Other"))


def with_options_of(request: type[Any]) -> Callable[[F], F]:
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
