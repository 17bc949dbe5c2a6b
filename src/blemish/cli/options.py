"""Flags: those of a request, made from its options, and those that several commands take beside it."""

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Optional, get_type_hints

import typer

from blemish.jobs.request import Option, Request, options_of, panel_of

FEATURES = "Features in place of images"

Out = Annotated[Path, typer.Option("--out", help="Folder to leave the results in.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Replace earlier results in that folder.")]
Device = Annotated[str, typer.Option("--device", help="A torch device, such as cpu or cuda:0.")]
Threads = Annotated[Optional[int], typer.Option("--threads", min=1, help="Cores to use; all by default.")]  # noqa: UP045
Ray = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--ray", metavar="ADDRESS", help="A Ray cluster to share the work with; local starts one here."),
]
Cache = Annotated[Optional[Path], typer.Option("--cache", help="Folder to keep features in.")]  # noqa: UP045
Weights = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--weights", help="File with the backbone's weights (.safetensors, .pth)."),
]
Images = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(
        help="A folder of images, its URL such as s3://bucket/folder, or a list of paths (.txt, .csv).",
        show_default=False,
    ),
]
Features = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        "--features",
        metavar="FILE.npy",
        help="Features instead of images: (images, patches, width) floats.",
        rich_help_panel=FEATURES,
    ),
]
Ids = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--ids", help="An id for each image, one a line (.txt, .csv).", rich_help_panel=FEATURES),
]
Grid = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--grid",
        metavar="ROWSxCOLUMNS",
        help="The grid of the patches; a square by default.",
        rich_help_panel=FEATURES,
    ),
]
ClassToken = Annotated[
    str,
    typer.Option(
        "--class-token",
        help="Where the class token is: none, first (before the patches) or repeated (in the first half of each).",
        rich_help_panel=FEATURES,
    ),
]
PurifySet = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--purify-set",
        metavar="NAME=VALUE",
        help="A setting of the purification, such as subsets, repeats, keep or k; may be repeated.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")]


def with_flags_of(request: type[Request]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for each option of a request that it does not take itself; they are its `**options`."""

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
        first = [each for each in own if each.kind is not each.KEYWORD_ONLY]
        last = [each for each in own if each.kind is each.KEYWORD_ONLY]

        @functools.wraps(command)
        def with_flags(**values: Any) -> None:
            command(**values)

        parameters = [*first, *flags, *last]
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
        rich_help_panel=panel_of(request, name),
    )
    return Annotated[kind | None if default in (None, {}) else kind, about]


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
