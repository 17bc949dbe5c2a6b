"""`blemish review`."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.options import Quiet


def review(
    run: Annotated[Path, typer.Argument(help="The folder that `fit` or `score` left.", show_default=False)],
    images: Annotated[Path | None, typer.Option(help="Where the images are now, if they moved.")] = None,
    beside: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Another Run of the same images, to compare with: both heatmaps and ranks."),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free one.")] = 0,
    host: Annotated[str, typer.Option(help="Only this machine reaches the default; others need the link, too.")] = (
        "127.0.0.1"
    ),
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Show images that links lead to outside of the image folder.")
    ] = False,
    copy: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="At the end, copy the images into good, look and bad of this folder, as you labelled.",
        ),
    ] = None,
    link: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="As --copy, with hard links; copied where there can be none.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier sorted images in that folder.")] = False,
    quiet: Quiet = False,
) -> None:
    """Look at ranked images in the browser and label them good or bad; Ctrl-C ends it, every click is kept."""
    from blemish.jobs.sorting import Sorting, sorted_lines
    from blemish.review.label_export import sort_run, source_of
    from blemish.review.server import is_loopback
    from blemish.review.server import review as serve

    if sorting := Sorting.of(copy, link, force=force):
        sorting.check(images or source_of(run), run)

    def tell(address: str) -> None:
        typer.echo(f"Review: {address}")
        if not quiet:
            typer.echo(f"Your labels are kept in {run / 'labels.csv'} after every click. Ctrl-C ends this page.")
        if not is_loopback(host):
            typer.echo("Everyone who has the link and reaches this machine can see and label the images.", err=True)

    with suppress(KeyboardInterrupt):  # the way to end it
        serve(run, images, beside=beside, host=host, port=port, follow_links=follow_links, tell=tell)
    if sorting:
        sort_run(run, sorting, images)
        for line in sorted_lines(copy, link):
            typer.echo(line)
