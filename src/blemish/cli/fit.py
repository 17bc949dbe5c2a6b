"""`blemish fit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from blemish.cli.console import progress_shown, purify_settings, settings_of, tell, tell_fitted
from blemish.cli.inputs import images_or_features, out_beside
from blemish.cli.options import (
    ClassToken,
    Features,
    Grid,
    Ids,
    Images,
    Json,
    NewOut,
    PurifySet,
    Quiet,
    with_flags_of,
)
from blemish.jobs.request import FitRequest
from blemish.machine.errors import RequestError
from blemish.runs.transaction import check_place

if TYPE_CHECKING:
    from blemish.jobs.each_subfolder import Fitted


@with_flags_of(FitRequest)
def fit(
    images: Images = None,
    out: NewOut = None,
    features: Features = None,
    ids: Ids = None,
    grid: Grid = None,
    class_token: ClassToken = "none",
    *,
    purify_set: PurifySet = None,
    each_subfolder: Annotated[
        bool,
        typer.Option(
            "--each-subfolder",
            help="One Run for each folder in IMAGES; finished ones are kept.",
            rich_help_panel="Images",
        ),
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Learn from a folder of unlabelled images which of them show defects, and leave a detector.

    IMAGES alone is enough. --help shows the common options, --help-all every one.
    """
    with progress_shown(not (quiet or as_json)) as progress:
        options["images"] = images_or_features(images, features, ids, grid, class_token)
        if purify_set and not options["purify"]:
            raise RequestError(f"--purify-set needs --purify; got '{purify_set[0]}' without it.")
        if each_subfolder and images is None:
            raise RequestError("--each-subfolder needs IMAGES, a folder of folders.")
        if out is None:
            again = each_subfolder or options["force"]  # what is there is to be kept, or replaced
            out = out_beside(images or features or "", "runs" if each_subfolder else "run", taken=again)
        if not each_subfolder:  # before the seconds that importing torch takes
            check_place(out.expanduser(), force=options["force"])
        from blemish.detectors import detector_class
        from blemish.jobs.each_subfolder import fit_each
        from blemish.jobs.fitting import fit as fit_images

        kind = detector_class(options["detector"])
        options["settings"] = settings_of(kind, options["settings"])
        if options["purify"]:
            options["purify"] = purify_settings(purify_set, before_fit=True)
        if each_subfolder:
            fitted = fit_each(out=out, progress=progress, **options)
        else:
            say = None if quiet or as_json else lambda sentence: typer.echo(sentence, err=True)
            run = fit_images(out=out, progress=progress, tell=say, **options)
            from blemish.jobs.sorting import sorted_lines

            in_folders = sorted_lines(options["copy"], options["link"])
    if kind.patent and not quiet:
        typer.echo(kind.patent, err=True)
    if each_subfolder:
        _tell_each(fitted, out, quiet=quiet, as_json=as_json)
    else:
        tell_fitted(run, out, in_folders, quiet=quiet, as_json=as_json)


def _tell_each(runs: "list[Fitted]", out: Path, *, quiet: bool, as_json: bool) -> None:
    failed = [each for each in runs if each.error]
    lines = [f"{each.name}: {each.error or f'{each.flagged} of {each.images} flagged'}" for each in runs]
    lines.append(f"{len(runs) - len(failed)} of {len(runs)} folders done; see {out / 'subfolders.csv'}.")
    summary = {"out": str(out), "folders": [vars(each) for each in runs]}
    tell(lines, summary, quiet=quiet, as_json=as_json)
    if failed:
        raise typer.Exit(1)
