"""`blemish refit`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import progress_shown, tell_fitted
from blemish.cli.inputs import out_beside
from blemish.cli.options import Force, Json, NewOut, Quiet


def refit(
    run: Annotated[Path, typer.Argument(help="The folder that `fit` left; it stays as it is.", show_default=False)],
    out: NewOut = None,
    images: Annotated[Path | None, typer.Option(help="Where the images are now, if they moved.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Other labels than RUN/labels.csv.")] = None,
    force: Force = False,
    progress_as_lines: Annotated[
        bool, typer.Option("--progress-lines", hidden=True, help="Tell progress as lines of JSON on standard error.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a Run again, with the options it had, and learn from the labels of its review."""
    bars = not (quiet or as_json or progress_as_lines)
    with progress_shown(bars) as progress:
        out = out or out_beside(run, "refit", taken=force)
        from blemish.jobs.refitting import refit as fit_again
        from blemish.machine.progress import progress_lines

        fitted = fit_again(
            run,
            out,
            images=images,
            labels=labels,
            force=force,
            progress=progress_lines if progress_as_lines else progress,
            tell=None if quiet or as_json else lambda line: typer.echo(line, err=True),
        )
    tell_fitted(fitted, out, quiet=quiet, as_json=as_json)
