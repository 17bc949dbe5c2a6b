"""`blemish watch`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import FLAGS, tell
from blemish.cli.options import Json, Out, Quiet, Threads, as_typed, offered


def watch(
    source: Annotated[
        str, typer.Argument(help="The folder that images come to; a video file, rtsp://... or /dev/video0 for frames.")
    ],
    model: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder that `fit` or `export` left.")],
    out: Out,
    action: Annotated[
        str,
        typer.Option(
            help="What is done with a scored file: move, link, copy or none.",
            autocompletion=offered("move", "link", "copy", "none"),
        ),
    ] = "move",
    settle: Annotated[float, typer.Option(min=0, help="Seconds unchanged until a file counts as complete.")] = 1.0,
    give_up: Annotated[float, typer.Option(min=0, help="Seconds until an unreadable file is set aside.")] = 30.0,
    every: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks, or frames.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="End when everything in the folder is dealt with.")] = False,
    on_bad: Annotated[
        str | None,
        typer.Option(
            "--on-bad",
            metavar="RECEIVER",
            help="Who learns of each flagged image: http://..., mqtt://HOST/TOPIC, or a command with {path}, {score}.",
        ),
    ] = None,
    on_each: Annotated[
        str | None, typer.Option("--on-each", metavar="RECEIVER", help="Who learns of each image; as --on-bad.")
    ] = None,
    summary: Annotated[float, typer.Option(min=0, help="Seconds between two lines of all; 0 for none.")] = 60.0,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Score each image that comes to a folder, note it in OUT/scores.csv, and move or link it by the decision."""
    from blemish.deploy.hot_folder import Settled
    from blemish.deploy.watch import watch as watch_source
    from blemish.machine.runtime import use_runtime

    def say(sentence: str) -> None:
        typer.echo(f"blemish: {as_typed(sentence, FLAGS)}", err=True)

    def show(sentence: str) -> None:
        typer.echo(sentence, err=True)

    with use_runtime(threads=threads, keep_features=False):
        settled = Settled(settle, give_up)
        noted = watch_source(
            source,
            model,
            out,
            action=action,  # type: ignore[arg-type]
            settled=settled,
            every=every,
            once=once,
            on_bad=on_bad,
            on_each=on_each,
            summary=summary,
            tell=say,
            show=None if quiet or as_json else show,
        )
    found = {"out": str(out), "noted": noted}
    tell([f"{noted} images noted in {out / 'scores.csv'}."], found, quiet=quiet, as_json=as_json)
