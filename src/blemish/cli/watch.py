"""`blemish watch`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import errors_as_sentences, tell
from blemish.cli.options import Debug, Json, Out, Quiet, Threads


def watch(
    folder: Annotated[Path, typer.Argument(help="The folder that images come to.")],
    model: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder that `fit` or `export` left.")],
    out: Out,
    action: Annotated[str, typer.Option(help="What is done with a scored file: move, link, copy or none.")] = "move",
    settle: Annotated[float, typer.Option(min=0, help="Seconds unchanged until a file counts as complete.")] = 1.0,
    give_up: Annotated[float, typer.Option(min=0, help="Seconds until an unreadable file is set aside.")] = 30.0,
    every: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="End when everything in the folder is dealt with.")] = False,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score each image that comes to a folder, note it in OUT/scores.csv, and move or link it by the decision."""
    with errors_as_sentences(debug, f"stopped; what was scored stands in {out / 'scores.csv'}."):
        from blemish.deploy.watch import Settled
        from blemish.deploy.watch import watch as watch_folder
        from blemish.machine.runtime import use_runtime

        def say(sentence: str) -> None:
            typer.echo(f"blemish: {sentence}", err=True)

        with use_runtime(threads=threads, keep_features=False):
            settled = Settled(settle, give_up)
            noted = watch_folder(
                folder,
                model,
                out,
                action=action,  # type: ignore[arg-type]
                settled=settled,
                every=every,
                once=once,
                tell=say,
            )
    summary = {"out": str(out), "noted": noted}
    tell([f"{noted} images noted in {out / 'scores.csv'}."], summary, quiet=quiet, as_json=as_json)
