"""`blemish score`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import check_exists, checked_range, errors_as_sentences, progress_shown, skipped_line, tell
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
    Strict,
    Threads,
    Threshold,
)


def score(
    images: Annotated[Path, typer.Argument(help="A folder of images, or a list of paths (.txt, .csv).")],
    model: Annotated[Path, typer.Option(help="The folder that `fit` left.")],
    out: Out,
    threshold: Threshold = None,
    contamination: Contamination = None,
    levels: Levels = None,
    max_pixels: MaxPixels = None,
    strict: Strict = False,
    force: Force = False,
    device: Device = "cpu",
    threads: Threads = None,
    cache: Cache = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score new images with a detector that `fit` left."""
    with errors_as_sentences(debug), progress_shown(not (quiet or as_json)) as progress:
        check_exists(images)
        from blemish import jobs

        scores, decision = jobs.score(
            images,
            model,
            out,
            threshold=threshold,
            contamination=contamination,
            levels=checked_range(levels),
            max_pixels=max_pixels,
            strict=strict,
            force=force,
            device=device,
            threads=threads,
            cache=cache,
            progress=progress,
        )
    flagged = int((scores.image > decision.threshold).sum())
    summary = {
        "out": str(out),
        "images": len(scores),
        "flagged": flagged,
        "skipped": len(scores.skipped),
        "threshold": decision.threshold,
    }
    lines = [
        f"{flagged} of {len(scores)} images flagged above {decision.threshold:.4g}.",
        *skipped_line(len(scores.skipped), out),
        f"Scores: {out / 'scores.csv'}",
    ]
    tell(lines, summary, quiet=quiet, as_json=as_json)
