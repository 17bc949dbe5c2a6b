"""The command line: one file a command; the work is in `jobs`."""

import ctypes
import io
import logging
import platform
import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from blemish import __version__
from blemish.cli.bench import EPILOG, bench
from blemish.cli.cache import cache_app
from blemish.cli.console import as_command
from blemish.cli.datasets import datasets
from blemish.cli.demo import demo
from blemish.cli.detectors import detectors
from blemish.cli.doctor import doctor
from blemish.cli.evaluate import compare, evaluate
from blemish.cli.export import export
from blemish.cli.fit import fit
from blemish.cli.labels import labels_app
from blemish.cli.options import PlainCommand, PlainGroup
from blemish.cli.purify import purify
from blemish.cli.refit import refit
from blemish.cli.review import review
from blemish.cli.score import score
from blemish.cli.serve import serve
from blemish.cli.watch import watch

M_ARENA_MAX, HEAPS = -8, 2  # the number of the setting in malloc.h, and its value

FORMER = {  # flags of earlier versions, and what to do now
    "--range": "is called --levels now",
    "--learn-from": "is called --sample now",
    "--how": "is called --purify-set now",
    "--fast": "is gone; the default detector takes as long",
    "--rule": "is gone; --sensitivity, 0 to 1, moves how many images are flagged",
}


GROUPS = {
    "Start here": (demo, fit, score),
    "Look and correct": (review, refit, evaluate, compare, purify),
    "Hand on and act": (export, watch, serve),
    "Research": (detectors, bench, datasets),
    "Housekeeping": (doctor,),  # and `cache`, which has its own commands
}


class Program(PlainGroup):
    """The program, which answers flags of earlier versions with what they are called now."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse what was renamed, and a folder where a command should be; then as any program."""
        for word in args:
            if (old := word.partition("=")[0]) in FORMER:
                typer.echo(f"blemish: {old} {FORMER[old]}.", err=True)
                raise typer.Exit(2)
        if args and args[0] not in self.commands and Path(args[0]).exists():
            typer.echo(f"blemish: '{args[0]}' is no command; did you mean `blemish fit {args[0]}`?", err=True)
            raise typer.Exit(2)
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=Program,
    name="blemish",
    help="Finds defects in a folder of unlabelled images: ranks them, draws where, says how many are bad.",
    epilog="blemish COMMAND --help shows the options of a command.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"blemish {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Flags of the program itself."""


for group, commands in GROUPS.items():
    for command in commands:
        app.command(cls=PlainCommand, rich_help_panel=group, epilog=EPILOG if command is bench else None)(
            as_command(command)
        )
app.add_typer(labels_app, name="labels", rich_help_panel="Hand on and act")
app.add_typer(cache_app, name="cache", rich_help_panel=next(reversed(GROUPS)))


def main() -> None:
    """Entry point of the `blemish` program."""
    _share_heaps()
    for name in ("SIGTERM", "SIGHUP"):  # end as Ctrl-C does: nothing half done is left
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _as_interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what is wrong with a file is in skipped.csv
    try:
        app()
    except KeyboardInterrupt:  # before a command had begun
        sys.exit(130)


def _share_heaps() -> None:
    """Let glibc have two heaps. It gives each thread its own heap, and keeps in each what was freed there.

    That held 1 GB for nothing at the peak of a fit of 230 images. Other C libraries have no
    such setting, or another way.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS)


def _as_interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - the signature is signal's
    raise KeyboardInterrupt
