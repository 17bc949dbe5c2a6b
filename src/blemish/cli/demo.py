"""`blemish demo`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import progress_shown, tell
from blemish.cli.options import Force, Out, Quiet, Threads


def demo(
    out: Out = Path("demo"),
    count: Annotated[int, typer.Option(min=20, help="Images to make.")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same images.")] = 0,
    force: Force = False,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Make a contaminated folder from sample photos and run the main job on it."""
    with progress_shown(not quiet) as progress:
        from blemish.jobs.demo import run_demo

        lines = run_demo(out, count=count, seed=seed, force=force, threads=threads, progress=progress)
    tell(lines, {}, quiet=quiet, as_json=False)
