"""`blemish fit`."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from blemish.cli.console import (
    check_exists,
    checked_range,
    errors_as_sentences,
    pairs,
    progress_shown,
    skipped_line,
    tell,
)
from blemish.cli.options import (
    Cache,
    Contamination,
    Debug,
    Device,
    Force,
    Json,
    Levels,
    MaxPixels,
    Out,
    Quiet,
    Settings,
    Strict,
    Threads,
    Threshold,
)


def fit(
    images: Annotated[Path, typer.Argument(help="A folder of images, or a list of paths (.txt, .csv).")],
    out: Out,
    detector: Annotated[str, typer.Option(help="Which detector; see `blemish detectors`.")] = "memory_bank",
    preset: Annotated[Optional[str], typer.Option(help="A named set of its settings: funad has fast, paper.")] = None,  # noqa: UP045
    fast: Annotated[
        bool, typer.Option("--fast", help="About three times the speed, a somewhat worse ranking.")
    ] = False,
    normals: Annotated[Optional[Path], typer.Option(help="A folder of images known to be good.")] = None,  # noqa: UP045
    levels: Levels = None,
    max_pixels: MaxPixels = None,
    threshold: Threshold = None,
    contamination: Contamination = None,
    setting: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same results.")] = 0,
    strict: Strict = False,
    force: Force = False,
    device: Device = "cpu",
    threads: Threads = None,
    cache: Cache = None,
    checkpoints: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder to keep half-trained nets in; the same command takes them up."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn from a folder of unlabelled images which of them show defects, and leave a detector."""
    with errors_as_sentences(debug), progress_shown(not (quiet or as_json)) as progress:
        check_exists(images)
        from blemish import jobs
        from blemish.decoding import MAX_PIXELS, Decoding
        from blemish.detectors import detector_class
        from blemish.detectors.settings import set_by_name

        kind = detector_class(detector)
        if kind.patent and not quiet:
            typer.echo(kind.patent, err=True)
        run = jobs.fit(
            images,
            out,
            detector=detector,
            preset=preset,
            fast=fast,
            normals=normals,
            threshold=threshold,
            contamination=contamination,
            decoding=Decoding(checked_range(levels), max_pixels or MAX_PIXELS),
            strict=strict,
            force=force,
            seed=seed,
            settings=set_by_name(kind().settings(), pairs(setting or [])),
            device=device,
            threads=threads,
            cache=cache,
            checkpoints=checkpoints,
            progress=progress,
        )
    count = len(run.training_scores)
    flagged = int((run.training_scores > run.threshold_).sum())
    summary = {
        "out": str(out),
        "images": count,
        "flagged": flagged,
        "skipped": len(run.skipped),
        "threshold": run.threshold_,
        "contamination": run.contamination_,
        "report": str(out / "report.html"),
    }
    lines = [
        f"About {round(run.contamination_ * count)} of {count} images seem to show a defect "
        f"({flagged} flagged above {run.threshold_:.4g}).",
        *skipped_line(len(run.skipped), out),
        f"Report: {out / 'report.html'}",
    ]
    tell(lines, summary, quiet=quiet, as_json=as_json)
