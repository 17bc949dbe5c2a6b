"""`blemish purify`."""

from typing import Annotated, Any

import typer

from blemish.cli.console import (
    check_exists,
    command_line,
    progress_shown,
    purify_settings,
    settings_of,
    skipped_line,
    tell,
)
from blemish.cli.inputs import out_beside
from blemish.cli.options import Json, NewOut, PurifySet, Quiet, with_flags_of
from blemish.jobs.request import PurifyRequest


@with_flags_of(PurifyRequest)
def purify(
    images: Annotated[str, typer.Argument(help="A folder of images, its URL, or a list of paths (.txt, .csv).")],
    out: NewOut = None,
    purify_set: PurifySet = None,
    *,
    quiet: Quiet = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Set aside the images that a detector should not learn from, and list those to keep.

    It is strict on purpose: unusual good images go, too, so that few defects stay. `fit` flags fewer.
    """
    with progress_shown(not (quiet or as_json)) as progress:
        check_exists(images)
        out = out or out_beside(images, "purified", taken=options["force"])
        from blemish.detectors import detector_class
        from blemish.jobs.purifying import purify as purify_images

        kind = detector_class(options["detector"])
        if kind.patent and not quiet:
            typer.echo(kind.patent, err=True)
        options["settings"] = settings_of(kind, options["settings"])
        keep = options.pop("keep")
        how = purify_settings([*(purify_set or []), *([f"keep={keep}"] if keep is not None else [])])
        found = purify_images(images, out, how=how, progress=progress, **options)
        from blemish.jobs.sorting import sorted_lines

        in_folders = sorted_lines(options["copy"], options["link"])
    kept, total = len(found.kept_ids), len(found.ids)
    following = command_line("fit", out / "kept.txt")
    summary = {
        "out": str(out),
        "images": total,
        "kept": kept,
        "set_aside": total - kept,
        "skipped": len(found.skipped),
        "limit": found.limit,
        "rule": found.rule,
        "notes": [*found.notes, *in_folders],
        "kept_list": str(out / "kept.txt"),
        "report": str(out / "report.html"),
        "next": [following],
    }
    lines = [
        f"Kept {kept} of {total} images; {total - kept} set aside, with scores above {found.limit:.4g}.",
        found.rule,
        *found.notes,
        *skipped_line(len(found.skipped), out),
        *in_folders,
        f"Kept images: {out / 'kept.txt'}",
        f"Report: {out / 'report.html'}",
        f"Next: {following}",
    ]
    tell(lines, summary, quiet=quiet, as_json=as_json)
