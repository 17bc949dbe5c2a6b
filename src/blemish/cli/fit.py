"""`blemish fit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli.console import (
    errors_as_sentences,
    pairs,
    progress_shown,
    purify_settings,
    share,
    tell,
)
from blemish.cli.fitted import tell_fitted
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
    Masks,
    MaxPixels,
    Normals,
    Out,
    Quiet,
    Ray,
    RegionOfInterest,
    Settings,
    Strict,
    Threads,
    Threshold,
    Weights,
)
from blemish.machine.errors import RequestError

if TYPE_CHECKING:
    from blemish.jobs.each_subfolder import Fitted


def fit(
    out: Out,
    images: Images = None,
    features: Features = None,
    ids: Ids = None,
    grid: Grid = None,
    detector: Annotated[str, typer.Option(help="Which detector; see `blemish detectors`.")] = "nearest_images",
    preset: Annotated[str | None, typer.Option(help="A named set of its settings: funad has paper.")] = None,
    purify: Annotated[
        bool, typer.Option("--purify", help="Set images that stand far out aside before the detector learns.")
    ] = False,
    how: How = None,
    normals: Normals = None,
    group_regex: GroupRegex = "",
    backbone: Annotated[
        str | None,
        typer.Option(help="What features come from, such as dino_vitb8, or any name of timm; see docs/backbones.md."),
    ] = None,
    weights: Weights = None,
    pixels: Annotated[
        int | None,
        typer.Option("--pixels", min=64, help="Side in pixels that images are looked at; 256. More for small defects."),
    ] = None,
    tile: Annotated[
        int | None, typer.Option("--tile", min=64, help="Look at large images in tiles of this many pixels.")
    ] = None,
    overlap: Annotated[int | None, typer.Option("--overlap", min=0, help="Pixels that tiles share; 64.")] = None,
    each_subfolder: Annotated[
        bool, typer.Option("--each-subfolder", help="One Run for each folder in IMAGES; finished ones are kept.")
    ] = False,
    learn_from: Annotated[
        int | None,
        typer.Option("--learn-from", min=1, help="Images to learn from; all up to 1,000, then as their square root."),
    ] = None,
    disk: Annotated[
        float | None, typer.Option("--disk", min=0, help="GiB that the features of one fit may take on disk.")
    ] = None,
    levels: Levels = None,
    max_pixels: MaxPixels = None,
    labels: Annotated[
        Path | None, typer.Option(help="A labels.csv of `blemish review`, or a table path,label with good and bad.")
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="How the threshold is found: adaptive, mad, mixture, tail, pythresh:NAME.")
    ] = None,
    false_alarms: Annotated[
        str | None, typer.Option(help="Flag this share of the good images, such as 1%; needs no bad ones.")
    ] = None,
    threshold: Threshold = None,
    contamination: Contamination = None,
    masks: Masks = False,
    roi: RegionOfInterest = None,
    setting: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same results.")] = 0,
    strict: Strict = False,
    force: Force = False,
    device: Device = "cpu",
    threads: Threads = None,
    cache: Cache = None,
    ray: Ray = None,
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
        of_images = {"--roi": roi, "--range": levels, "--max-pixels": max_pixels}
        if features and (idle := [name for name, value in of_images.items() if value]):
            raise RequestError(f"--features are no images: {idle[0]} would change nothing; leave it out.")
        from blemish import jobs
        from blemish.detectors import detector_class
        from blemish.detectors.settings import set_by_name

        if how and not purify:
            raise RequestError(f"--how sets the purification, which --purify asks for; got '{how[0]}' without it.")
        kind = detector_class(detector)
        if overlap is not None and tile is None:
            raise RequestError(f"--overlap {overlap} is that of tiles; give their size with --tile.")
        chosen: dict[str, Any] = {"backbone": backbone, "weights": str(weights) if weights else None}
        chosen |= {"pixels": pixels, "tile": tile, "overlap": overlap}
        settings = {name: value for name, value in chosen.items() if value is not None}
        if each_subfolder and images is None:
            raise RequestError("--each-subfolder needs IMAGES, a folder of folders.")
        job: Any = jobs.fit_each if each_subfolder else jobs.fit
        run = job(
            looked_at,
            out,
            detector=detector,
            preset=preset,
            purify=purify_settings(how or [], before_fit=True) if purify else False,
            normals=normals,
            learn_from=learn_from,
            disk=disk,
            labels=labels,
            rule=rule,
            false_alarms=share(false_alarms, "--false-alarms"),
            masks=masks,
            roi=roi,
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
            ray=ray,
            checkpoints=checkpoints,
            progress=progress,
            tell=None if quiet or as_json else lambda line: typer.echo(line, err=True),
        )
    if kind.patent and not quiet:
        typer.echo(kind.patent, err=True)
    if each_subfolder:
        _tell_each(run, out, quiet=quiet, as_json=as_json)
        return
    tell_fitted(run, out, quiet=quiet, as_json=as_json)


def _tell_each(runs: "list[Fitted]", out: Path, *, quiet: bool, as_json: bool) -> None:
    failed = [each for each in runs if each.error]
    lines = [f"{each.name}: {each.error or f'{each.flagged} of {each.images} flagged'}" for each in runs]
    lines.append(f"{len(runs) - len(failed)} of {len(runs)} folders done; see {out / 'subfolders.csv'}.")
    summary = {"out": str(out), "folders": [vars(each) for each in runs]}
    tell(lines, summary, quiet=quiet, as_json=as_json)
    if failed:
        raise typer.Exit(1)
