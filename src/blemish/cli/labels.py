"""`blemish labels export` and `blemish labels import`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import as_command, command_line, progress_shown, tell
from blemish.cli.options import Force, Json, Out, PlainCommand, PlainGroup, Quiet, offered

labels_app = typer.Typer(cls=PlainGroup, help="Labels for other programs, and from them.", no_args_is_help=True)

Run = Annotated[Path, typer.Argument(help="The folder that `fit` or `score` left.", show_default=False)]


@labels_app.command("export", cls=PlainCommand)
@as_command
def export(
    run: Run,
    out: Out,
    format: Annotated[  # noqa: A002
        str,
        typer.Option(
            "--format",
            help="coco, yolo, label-studio, cvat, fiftyone or csv.",
            autocompletion=offered("coco", "yolo", "label-studio", "cvat", "fiftyone", "csv"),
        ),
    ] = "coco",
    masks: Annotated[
        str,
        typer.Option(help="polygons, or rle for the exact masks: for coco.", autocompletion=offered("polygons", "rle")),
    ] = "polygons",
    images: Annotated[Path | None, typer.Option(help="Where the images are now, if they moved.")] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write what a Run found, and what people labelled, for another program."""
    with progress_shown(not (quiet or as_json)) as progress:
        from blemish.machine.runtime import use_runtime
        from blemish.report.data import counted
        from blemish.review.label_export import export_labels

        with use_runtime(progress=progress):
            left = export_labels(run, out, format=format, masks=masks, images=images, force=force)
    summary = {"out": str(out), "format": format, "images": left.images, "boxes": left.boxes, "notes": list(left.notes)}
    boxes = "1 box" if left.boxes == 1 else f"{left.boxes:,} boxes"
    lines = [f"{counted(left.images)} and {boxes} as {format}: {out}", *left.notes]
    tell(lines, summary, quiet=quiet, as_json=as_json)


@labels_app.command("import", cls=PlainCommand)
@as_command
def import_(
    run: Run,
    file: Annotated[
        Path, typer.Argument(help="A COCO file, a JSON export of Label Studio, or a .csv.", show_default=False)
    ],
    format: Annotated[  # noqa: A002
        str | None,
        typer.Option(
            "--format",
            help="coco, label-studio or csv; found in the file by default.",
            autocompletion=offered("coco", "label-studio", "csv"),
        ),
    ] = None,
    empty_is_good: Annotated[
        bool, typer.Option("--empty-is-good", help="Images of a COCO file without annotations are good.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Let these labels replace those that the Run has.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Add labels from another program to the labels of a Run."""
    from blemish.review.label_import import import_labels

    found = import_labels(run, file, format=format, empty_is_good=empty_is_good, force=force)
    summary = {"run": str(run), "good": found.good, "bad": found.bad, "notes": list(found.notes)}
    following = command_line("refit", run)
    lines = [
        f"Added {found.good} good and {found.bad} bad to {run / 'labels.csv'}.",
        *found.notes,
        f"Next: {following}",
    ]
    tell(lines, summary, quiet=quiet, as_json=as_json)
