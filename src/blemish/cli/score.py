"""`blemish score`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from blemish.cli.console import errors_as_sentences, progress_shown, skipped_line, tell
from blemish.cli.inputs import images_or_features
from blemish.cli.options import ClassToken, Debug, Features, Grid, Ids, Images, Json, Out, Quiet, with_flags_of
from blemish.jobs.request import ScoreRequest


@with_flags_of(ScoreRequest)
def score(
    model: Annotated[Path, typer.Option(help="The folder that `fit` or `export` left.")],
    out: Out,
    images: Images = None,
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
        from blemish import jobs
        from blemish.runs.artifact import read_config

        scores, decision = jobs.score(scored, model, out, progress=progress, **options)
    about = read_config(out)
    drifted, false_share = about["drift"], about["false_share"]
    bands = decision.bands(scores.image)
    flagged = int((scores.image > decision.threshold).sum())
    summary = {
        "out": str(out),
        "images": len(scores),
        "flagged": flagged,
        "skipped": len(scores.skipped),
        "reject": bands.count("reject"),
        "look": bands.count("look"),
        "threshold": decision.threshold,
        "sensitivity": decision.sensitivity,
        "false_share": false_share,
        "drift": drifted,
        "notes": list(scores.notes),
        "report": str(out / "report.html"),
    }
    lines = [
        f"{flagged} of {len(scores)} images flagged above {decision.threshold:.4g}: {bands.count('reject')} to reject, "
        f"{bands.count('look')} to look at.",
        *(
            [f"On average at most {false_share:.0%} of the flagged ones are good, by the known good images."]
            if false_share is not None
            else []
        ),
        *skipped_line(len(scores.skipped), out),
        *scores.notes,
        *([drifted] if drifted else []),
        f"Scores: {out / 'scores.csv'}",
        f"Report: {out / 'report.html'}",
    ]
    tell(lines, summary, quiet=quiet, as_json=as_json)
