"""`blemish score`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import errors_as_sentences, progress_shown, skipped_line, tell
from blemish.cli.inputs import images_or_features
from blemish.cli.options import (
    Cache,
    Contamination,
    Debug,
    Device,
    Features,
    Force,
    Grid,
    Ids,
    Images,
    Json,
    Levels,
    Masks,
    MaxPixels,
    Out,
    Quiet,
    Ray,
    RegionOfInterest,
    Strict,
    Threads,
    Threshold,
    Weights,
)


def score(
    model: Annotated[Path, typer.Option(help="The folder that `fit` or `export` left.")],
    out: Out,
    images: Images = None,
    features: Features = None,
    ids: Ids = None,
    grid: Grid = None,
    weights: Weights = None,
    threshold: Threshold = None,
    contamination: Contamination = None,
    masks: Masks = False,
    roi: RegionOfInterest = None,
    levels: Levels = None,
    max_pixels: MaxPixels = None,
    engine: Annotated[
        str | None, typer.Option("--runtime", help="What has to run the model: torch, onnx or openvino.")
    ] = None,
    strict: Strict = False,
    force: Force = False,
    device: Device = "cpu",
    threads: Threads = None,
    cache: Cache = None,
    ray: Ray = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score new images with a detector that `fit` left."""
    with errors_as_sentences(debug), progress_shown(not (quiet or as_json)) as progress:
        looked_at = images_or_features(images, features, ids, grid)
        from blemish import jobs
        from blemish.runs.artifact import read_config

        scores, decision = jobs.score(
            looked_at,
            model,
            out,
            threshold=threshold,
            contamination=contamination,
            masks=masks,
            roi=roi,
            levels=levels,
            max_pixels=max_pixels,
            strict=strict,
            force=force,
            device=device,
            threads=threads,
            cache=cache,
            ray=ray,
            weights=weights,
            engine=engine,
            progress=progress,
        )
    drifted = read_config(out)["drift"]
    flagged = int((scores.image > decision.threshold).sum())
    summary = {
        "out": str(out),
        "images": len(scores),
        "flagged": flagged,
        "skipped": len(scores.skipped),
        "threshold": decision.threshold,
        "drift": drifted,
    }
    lines = [
        f"{flagged} of {len(scores)} images flagged above {decision.threshold:.4g}.",
        *skipped_line(len(scores.skipped), out),
        *([drifted] if drifted else []),
        f"Scores: {out / 'scores.csv'}",
    ]
    tell(lines, summary, quiet=quiet, as_json=as_json)
