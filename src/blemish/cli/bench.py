"""`blemish bench`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.benchmark.experiment_names import ABOUT
from blemish.cli.console import progress_shown, tell
from blemish.cli.options import Cache, Device, Json, Out, Quiet, Ray, Threads, offered
from blemish.machine.errors import RequestError

# One paragraph a line: the help would join them otherwise.
EPILOG = "\n\n".join(f"{name}: {about}" for name, about in ABOUT.items())


def bench(
    names: Annotated[
        list[str],
        typer.Argument(help="Experiments, or `compare`; see the list below. Or an experiment.yaml to run again."),
    ],
    out: Out,
    data: Annotated[Path | None, typer.Option(help="The folder of a dataset; see `blemish datasets`.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few images and values: does it run?")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="All categories, values and three seeds: a night or more.")
    ] = False,
    categories: Annotated[str | None, typer.Option(help="These only, with commas: CATEGORY or DATASET.")] = None,
    detectors: Annotated[str | None, typer.Option(help="For compare and record: detectors, with commas.")] = None,
    contamination: Annotated[
        str | None,
        typer.Option(help="For compare: anomalies / normal training images, with commas, such as 0,0.1,0.2."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds.")] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            help="For compare, if anomalies are few: shrink (by default), cap or resample.",
            autocompletion=offered("shrink", "cap", "resample"),
        ),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="For compare: train on these images, a manifest or a split file of others (.txt, .csv, .json)."
        ),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="Of tables beside Markdown: md, latex or csv.",
            autocompletion=offered("md", "latex", "csv"),
        ),
    ] = "md",
    page: Annotated[
        Path | None, typer.Option(help="For record: write this page from the rows stored below --out, and run nothing.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and the expected time.")] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Run failed runs again.")] = False,
    mlflow: Annotated[
        str | None, typer.Option(help="Send the finished rows to this experiment of MLflow in the end, each once.")
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    cache: Cache = None,
    ray: Ray = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the papers' experiments, or compare detectors, on labelled images; finished runs are kept."""
    with progress_shown(not (quiet or as_json)) as progress:
        if quick and full:
            raise RequestError("--quick and --full are two sizes; give one of them.")
        from blemish.benchmark.bench import bench as run_bench
        from blemish.machine.runtime import use_runtime

        with use_runtime(device="cpu" if dry_run else device, threads=threads, cache=cache, ray=ray, progress=progress):
            found = run_bench(
                names,
                out,
                data=data,
                size="quick" if quick else "full" if full else "standard",
                categories=_listed(categories),
                detectors=_listed(detectors),
                ratios=_numbers(contamination),
                seeds=seeds,
                policy=policy,
                manifest=manifest,
                form=form,
                page=page,
                dry_run=dry_run,
                retry=retry,
                mlflow=mlflow,
            )
    tell(found.lines, found.summary, quiet=quiet, as_json=as_json)
    if found.failed:
        raise typer.Exit(1)


def _listed(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",") if part.strip()] if text is not None else None


def _numbers(text: str | None) -> list[float] | None:
    try:
        return [float(part) for part in _listed(text) or []] or None
    except ValueError:
        raise RequestError(f"--contamination takes numbers with commas, such as 0,0.1; got '{text}'.") from None
