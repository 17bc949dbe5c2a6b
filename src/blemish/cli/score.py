"""`blemish score`."""

from collections import Counter
from typing import Annotated, Any

import typer

from blemish.cli.console import (
    bands_line,
    command_line,
    errors_as_sentences,
    progress_shown,
    skipped_line,
    summary_of,
    tell,
    worst_lines,
)
from blemish.cli.inputs import images_or_features, out_beside
from blemish.cli.options import ClassToken, Debug, Features, Grid, Ids, Images, Json, NewOut, Quiet, with_flags_of
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
    debug: Debug = False,
    **options: Any,
) -> None:
    """Score new images with a detector that `fit` left."""
    with errors_as_sentences(debug), progress_shown(not (quiet or as_json)) as progress:
        scored = images_or_features(images, features, ids, grid, class_token)
        out = out or out_beside(images or features or "", "scores", taken=options["force"])
        from blemish import jobs
        from blemish.runs.artifact import read_config

        scores = jobs.score(scored, model, out, progress=progress, **options)
        from blemish.jobs.sorting import sorted_lines
        from blemish.report import headline

        in_folders = sorted_lines(options["copy"], options["link"])
    decision = scores.decision
    if decision is None:
        raise TypeError("A Run scores with its decision.")
    about = read_config(out)
    drifted, false_share = about["drift"], about["false_share"]
    following = [command_line("review", out)] if features is None else []
    bands = decision.bands(scores.image)
    counts = Counter(bands)
    summary = summary_of(out, scores, decision, bands, [*scores.notes, *in_folders], following)
    summary |= {"false_share": false_share, "drift": drifted}
    lines = [
        headline(len(scores), counts),
        bands_line(counts, summary["flagged"], decision.threshold),
        *(
            [f"On average at most {false_share:.0%} of the flagged ones are good, by the known good images."]
            if false_share is not None
            else []
        ),
        *worst_lines(summary["worst"]),
        *skipped_line(len(scores.skipped), out),
        *scores.notes,
        *([drifted] if drifted else []),
        *in_folders,
        f"Scores: {out / 'scores.csv'}",
        f"Report: {summary['report']}",
        *(f"Next: {each}" for each in following),
    ]
    tell(lines, summary, quiet=quiet, as_json=as_json)
