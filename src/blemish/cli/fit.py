"""`blemish fit`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import (
    errors_as_sentences,
    pairs,
    progress_shown,
    purify_settings,
    skipped_line,
    tell,
)
from blemish.cli.inputs import images_or_features
from blemish.cli.options import (
    Cache,
    Contamination,
    Debug,
    Device,
    Features,
    Force,
    Grid,
    GroupRegex,
    How,
    Ids,
    Images,
    Json,
    Levels,
    MaxPixels,
    Normals,
    Out,
    Quiet,
    Settings,
    Strict,
    Threads,
    Threshold,
    Weights,
)
from blemish.errors import RequestError


def fit(
    out: Out,
    images: Images = None,
    features: Features = None,
    ids: Ids = None,
    grid: Grid = None,
    detector: Annotated[str, typer.Option(help="Which detector; see `blemish detectors`.")] = "funad",
    preset: Annotated[str | None, typer.Option(help="A named set of its settings: funad has fast, paper.")] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="About three times the speed, a somewhat worse ranking.")
    ] = False,
    purify: Annotated[
        bool, typer.Option("--purify", help="Set the most unusual images aside before the detector learns.")
    ] = False,
    how: How = None,
    normals: Normals = None,
    group_regex: GroupRegex = "",
    backbone: Annotated[
        str | None,
        typer.Option(help="What features come from, such as dino_vitb8, or any name of timm; see docs/backbones.md."),
    ] = None,
    weights: Weights = None,
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
        Path | None,
        typer.Option(help="Folder to keep half-trained nets in; the same command takes them up."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn from a folder of unlabelled images which of them show defects, and leave a detector."""
    with errors_as_sentences(debug), progress_shown(not (quiet or as_json)) as progress:
        looked_at = images_or_features(images, features, ids, grid)
        if features and (backbone or weights):
            raise RequestError("--features come as they are: leave out --backbone and --weights.")
        from blemish import jobs
        from blemish.detectors import detector_class
        from blemish.detectors.settings import set_by_name

        if how and not purify:
            raise RequestError(f"--how sets the purification, which --purify asks for; got '{how[0]}' without it.")
        kind = detector_class(detector)
        if kind.patent and not quiet:
            typer.echo(kind.patent, err=True)
        chosen = {"backbone": backbone, "weights": str(weights) if weights else None}
        settings = {name: value for name, value in chosen.items() if value is not None}
        run = jobs.fit(
            looked_at,
            out,
            detector=detector,
            preset=preset,
            fast=fast,
            purify=purify_settings(how or []) if purify else False,
            normals=normals,
            group_regex=group_regex,
            threshold=threshold,
            contamination=contamination,
            levels=levels,
            max_pixels=max_pixels,
            strict=strict,
            force=force,
            seed=seed,
            settings={**set_by_name(kind().settings(), pairs(setting or [])), **settings},
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
        "set_aside": run.about["purification"]["images"] - run.about["purification"]["kept"] if purify else 0,
        "threshold": run.threshold_,
        "contamination": run.contamination_,
        "report": str(out / "report.html"),
    }
    lines = [
        f"About {round(run.contamination_ * count)} of {count} images seem to show a defect "
        f"({flagged} flagged above {run.threshold_:.4g}).",
        *([f"{summary['set_aside']} images were set aside before the detector learned."] if purify else []),
        *skipped_line(len(run.skipped), out),
        f"Report: {out / 'report.html'}",
    ]
    tell(lines, summary, quiet=quiet, as_json=as_json)
