"""`blemish purify`."""

from typing import Annotated, Optional

import typer

from blemish.cli.console import (
    check_exists,
    errors_as_sentences,
    pairs,
    progress_shown,
    purify_settings,
    skipped_line,
    tell,
)
from blemish.cli.options import (
    Cache,
    Debug,
    Device,
    Force,
    GroupRegex,
    How,
    Json,
    Levels,
    MaxPixels,
    Normals,
    Out,
    Quiet,
    Ray,
    Settings,
    Strict,
    Threads,
)


def purify(
    images: Annotated[str, typer.Argument(help="A folder of images, its URL, or a list of paths (.txt, .csv).")],
    out: Out,
    detector: Annotated[str, typer.Option(help="Which detector; see `blemish detectors`.")] = "nearest_images",
    keep: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option("--keep", help="Share of the images to keep, 0 to 1, in place of a label-free cut."),
    ] = None,
    how: How = None,
    normals: Normals = None,
    group_regex: GroupRegex = "",
    levels: Levels = None,
    max_pixels: MaxPixels = None,
    setting: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same results.")] = 0,
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
    """Set aside the images that a detector should not learn from, and list those to keep."""
    with errors_as_sentences(debug), progress_shown(not (quiet or as_json)) as progress:
        check_exists(images)
        from blemish import jobs
        from blemish.detectors import detector_class
        from blemish.detectors.settings import set_by_name

        kind = detector_class(detector)
        if kind.patent and not quiet:
            typer.echo(kind.patent, err=True)
        found = jobs.purify(
            images,
            out,
            detector=detector,
            how=purify_settings([*(how or []), *([f"keep={keep}"] if keep is not None else [])]),
            normals=normals,
            group_regex=group_regex,
            levels=levels,
            max_pixels=max_pixels,
            strict=strict,
            force=force,
            seed=seed,
            settings=set_by_name(kind().settings(), pairs(setting or [])),
            device=device,
            threads=threads,
            cache=cache,
            ray=ray,
            progress=progress,
        )
    kept, total = len(found.kept_ids), len(found.ids)
    summary = {
        "out": str(out),
        "images": total,
        "kept": kept,
        "set_aside": total - kept,
        "skipped": len(found.skipped),
        "limit": found.limit,
        "notes": list(found.notes),
        "kept_list": str(out / "kept.txt"),
        "report": str(out / "report.html"),
    }
    lines = [
        f"Kept {kept} of {total} images; {total - kept} set aside, with scores above {found.limit:.4g}.",
        *found.notes,
        *skipped_line(len(found.skipped), out),
        f"Kept images: {out / 'kept.txt'}",
        f"Report: {out / 'report.html'}",
    ]
    tell(lines, summary, quiet=quiet, as_json=as_json)
