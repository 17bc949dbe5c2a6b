"""Flags: made from the options of a request, and such as several commands take beside it."""

import functools
import inspect
import re
from collections.abc import Callable
from copy import copy
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from blemish.jobs.option_groups import Option, options_of, panel_of
from blemish.jobs.request import Request

RESULTS, FEATURES = "Results", "Features in place of images"
PANELS = ("", "Decide", "Images", "Method", RESULTS, "Machine", FEATURES)  # of the help; the first has the common flags
SHORT = PANELS[:2]  # those of a help that is not asked for all
HELP_ALL = "help_all"
METAVARS = {bool: "", int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}  # the placeholder of a value in the help


def offered(*words: str) -> Callable[[str], list[str]]:
    """What a shell offers as the value of a flag."""

    def beginning(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return beginning


def _help_all(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        ctx.meta[HELP_ALL] = True
        typer.echo(ctx.get_help())
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all",
        callback=_help_all,
        is_eager=True,
        help="Show every option, also those that are seldom needed.",
    ),
]
Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder for the results.", show_default=False)]
NewOut = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="Folder for the results; by default a new one beside the images, or the Run, and named after it.",
        show_default=False,
    ),
]
Force = Annotated[
    bool, typer.Option("--force", help="Replace earlier results in that folder.", rich_help_panel=RESULTS)
]
Device = Annotated[str, typer.Option("--device", help="A torch device, such as cpu or cuda:0.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Cores to use; all by default.")]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="A Ray cluster to share the work with; local starts one here."),
]
Cache = Annotated[Path | None, typer.Option("--cache", metavar="FOLDER", help="Folder to keep features in.")]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="File with the backbone's weights (.safetensors, .pth)."),
]
Images = Annotated[
    str | None,
    typer.Argument(
        metavar="IMAGES",
        help="A folder of images, one image, a URL such as s3://bucket/folder, or a list of paths (.txt, .csv).",
        show_default=False,
    ),
]
Features = Annotated[
    Path | None,
    typer.Option(
        "--features",
        metavar="FILE.npy",
        help="Features instead of images: (images, patches, width) floats.",
        rich_help_panel=FEATURES,
    ),
]
Ids = Annotated[
    Path | None,
    typer.Option(
        "--ids", metavar="FILE", help="An id for each image, one per line (.txt, .csv).", rich_help_panel=FEATURES
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(
        "--grid", metavar="ROWSxCOLUMNS", help="The grid of the patches; a square by default.", rich_help_panel=FEATURES
    ),
]
ClassToken = Annotated[
    str,
    typer.Option(
        "--class-token",
        help="Where the class token is: none, first (before the patches) or repeated (in the first half of each).",
        autocompletion=offered("none", "first", "repeated"),
        rich_help_panel=FEATURES,
    ),
]
PurifySet = Annotated[
    list[str] | None,
    typer.Option(
        "--purify-set",
        metavar="NAME=VALUE",
        help="A setting of the purification, such as subsets, repeats, keep or k; may be repeated.",
        rich_help_panel="Method",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.", rich_help_panel=RESULTS)]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.", rich_help_panel=RESULTS)]
Debug = Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.", rich_help_panel=RESULTS)]


def with_flags_of(request: type[Request]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for each option of a request that it does not take itself; they are its `**options`.

    They are many, so that --help shows the common ones, and --help-all all of them.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            each
            for each in inspect.signature(command, eval_str=True).parameters.values()
            if each.kind is not each.VAR_KEYWORD
        ]
        taken = {each.name for each in own}
        hints, defaults = get_type_hints(request), request()
        flags = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if option.typed == list[str] else getattr(defaults, name),
                annotation=_annotation(request, name, option, hints[name], getattr(defaults, name)),
            )
            for name, option in options_of(request).items()
            if name not in taken
        ]

        flags.append(inspect.Parameter(HELP_ALL, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=HelpAll))
        arguments = [each for each in own if _about(each, typer.models.ArgumentInfo)]
        options = [each for each in own if each not in arguments]
        first = [each for each in options if each.kind is not each.KEYWORD_ONLY]
        last = [each for each in options if each.kind is each.KEYWORD_ONLY]
        options = sorted([*first, *flags, *last], key=lambda each: PANELS.index(_panel(each)))
        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*arguments, *options)]

        @functools.wraps(command)
        def with_flags(**values: Any) -> None:
            del values[HELP_ALL]  # it has shown the help by now, if it was given
            command(**values)

        with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_flags.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_flags

    return decorated


def _annotation(request: type[Request], name: str, option: Option, kind: Any, default: Any) -> Any:
    kind = option.typed or kind
    about = typer.Option(
        option.flag or f"--{name.replace('_', '-')}",
        help=option.help,
        metavar=option.metavar or None,
        show_default=default not in (None, "", False, {}),
        rich_help_panel=panel_of(request, name) or None,
        autocompletion=offered(*option.words) if option.words else None,
    )
    return Annotated[kind | None if default in (None, {}) else kind, about]


class PlainCommand(TyperCommand):
    """A command whose help has no names of types: each value is named by its metavar, see `with_metavars`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, `--help` among them."""
        return _without_types(super().get_params(ctx))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Show the help: without the seldom needed panels, where --help-all shows those."""
        shown = copy(self)
        if any(each.name == HELP_ALL for each in self.params) and not ctx.meta.get(HELP_ALL):
            shown.params = [each for each in self.params if (getattr(each, "rich_help_panel", None) or "") in SHORT]
        super(PlainCommand, shown).format_help(ctx, formatter)


class PlainGroup(TyperGroup):
    """Commands under one name, whose help has no names of types either."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, `--help` among them."""
        return _without_types(super().get_params(ctx))


def _without_types(params: list[Any]) -> list[Any]:
    for each in params:
        each.get_missing_message = functools.partial(_about_missing, each)
        if each.param_type_name == "argument":
            each.display_type_rich = lambda **_: None  # typer would set <str> beside IMAGES
        elif each.is_flag and each.metavar is None:
            each.metavar = ""
    return params


def _about_missing(parameter: Any, **_: Any) -> str:
    """What a value that is missing is for."""
    return str(parameter.help or "")


def with_metavars(command: Callable[..., None]) -> Callable[..., None]:
    """The command, whose help has a plain word for each value, and none beside a flag that takes no value."""
    for each in inspect.signature(command, eval_str=True).parameters.values():
        if (about := _about(each, typer.models.OptionInfo)) and about.metavar is None:
            about.metavar = METAVARS.get(_plain(each.annotation))
        elif (about := _about(each, typer.models.ArgumentInfo)) and about.metavar is None:
            about.metavar = each.name.upper()
    return command


def _plain(annotation: Any) -> Any:
    """The type of one value: that of `Annotated[Path | None, ...]` is Path."""
    while get_origin(annotation) in (Annotated, Union, UnionType, list):
        annotation = next(each for each in get_args(annotation) if each is not type(None))
    return annotation


def _panel(parameter: inspect.Parameter) -> str:
    """The panel of the help that a parameter is in; "" for common flags."""
    about = _about(parameter, typer.models.OptionInfo)
    return about.rich_help_panel or "" if about else ""


def _about(parameter: inspect.Parameter, kind: type[Any]) -> Any:
    """What typer knows of a parameter, if that is of this kind."""
    return next((each for each in getattr(parameter.annotation, "__metadata__", ()) if isinstance(each, kind)), None)


def flags_of(command: Callable[..., None]) -> dict[str, str]:
    """By the name of each parameter of a command, what a person types for it."""
    found = {}
    for each in inspect.signature(command, eval_str=True).parameters.values():
        for about in getattr(each.annotation, "__metadata__", ()):
            if isinstance(about, typer.models.OptionInfo):
                decided = [str(word) for word in (about.default, *(about.param_decls or ()))]
                decided = [word for word in decided if word.startswith("--")]
                found[each.name] = (decided or [f"--{each.name.replace('_', '-')}"])[0]
            elif isinstance(about, typer.models.ArgumentInfo):
                found[each.name] = about.metavar or each.name.upper()
    return found


def as_typed(sentence: str, flags: dict[str, str]) -> str:
    """A sentence of the library with its options as a person types them: `levels` becomes --levels."""
    return re.sub(r"`([a-z_]+)`", lambda found: flags.get(found[1], found[0]), sentence)
