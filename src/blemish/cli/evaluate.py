"""`blemish evaluate` and `blemish compare`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import tell
from blemish.cli.options import Json, Quiet

Labels = Annotated[
    Path | None, typer.Option("--labels", help="A labels.csv of a review, or a table path,label with good and bad.")
]


def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder that `fit` or `score` left.", show_default=False)],
    labels: Labels = None,
    purity: Annotated[
        Path | None,
        typer.Option("--purity", help="Folder for a table and a plot of how pure funad's banks were as it learned."),
    ] = None,
    reliability: Annotated[
        Path | None, typer.Option("--reliability", help="Folder for a table and a plot of how well the chances held.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Tell how good the ranking and the flags are on the images that somebody labelled."""
    from blemish.detectors.funad.curve import write_purity
    from blemish.jobs.evaluation import evaluate as of
    from blemish.jobs.evaluation import write_reliability

    found = of(run, labels)
    if reliability:
        write_reliability(reliability.expanduser(), found.reliability)
    if purity:
        write_purity(purity.expanduser(), found.bank_purity)
    tell(str(found).splitlines(), asdict(found), quiet=quiet, as_json=as_json)


def compare(
    first: Annotated[Path, typer.Argument(help="The folder that one `fit` or `score` left.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="The folder of another, of the same images.", show_default=False)],
    labels: Labels = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Tell how two Runs of the same images differ: rankings, flags, and with labels which is better."""
    from blemish.jobs.evaluation import compare as of

    found = of(first, second, labels)
    tell(str(found).splitlines(), asdict(found), quiet=quiet, as_json=as_json)
