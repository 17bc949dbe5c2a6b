"""`blemish score`."""

from typing import Annotated, Any

import typer

from blemish.cli.console import command_line, progress_shown, tell_scores
from blemish.cli.inputs import images_or_features, out_beside
from blemish.cli.options import ClassToken, Features, Grid, Ids, Images, Json, NewOut, Quiet, with_flags_of
from blemish.jobs.request import ScoreRequest


@with_flags_of(ScoreRequest)
def score(
    model: Annotated[
        str, typer.Option(metavar="FOLDER", help="What `fit` or `export` left: a folder, or a URL of one.")
    ],
    images: Images = None,
    out: NewOut = None,
    features: Features = None,
    ids: Ids = None,
    grid: Grid = None,
    class_token: ClassToken = "none",
    *,
    quiet: Quiet = False,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Score new images with a detector that `fit` left."""
    with progress_shown(not (quiet or as_json)) as progress:
        scored = images_or_features(images, features, ids, grid, class_token)
        out = out or out_beside(images or features or "", "scores", taken=options["force"])
        from blemish.jobs.scoring import score as score_images
        from blemish.runs.artifact import read_config

        scores = score_images(scored, model, out, progress=progress, **options)
        from blemish.jobs.sorting import sorted_lines

        in_folders = sorted_lines(options["copy"], options["link"])
    about = read_config(out)
    drifted, false_share = about["drift"], about["false_share"]
    tell_scores(
        out,
        scores,
        of_fit=False,
        certainty=[]
        if false_share is None
        else [f"On average at most {false_share:.0%} of the flagged ones are good, by the known good images."],
        notes=[*scores.notes, *([drifted] if drifted else []), *in_folders],
        following=[command_line("review", out)] if features is None else [],
        more={"false_share": false_share, "drift": drifted},
        quiet=quiet,
        as_json=as_json,
    )
