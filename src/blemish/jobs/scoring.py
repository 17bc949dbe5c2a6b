"""`score`: new images with a Run."""

from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from blemish import calibration
from blemish.artifact import PARAMETERS, SCORES, write_config
from blemish.calibration import Decision
from blemish.errors import RequestError
from blemish.images import ImageSet
from blemish.jobs.request import decoding_of
from blemish.jobs.results import refuse_skipped, write_flagged_heatmaps, write_skipped
from blemish.run import Run, load, versions
from blemish.runtime import use_runtime
from blemish.scores import Scores
from blemish.transaction import whole_or_absent


def score(
    images: Any,
    model: str | Path | Run,
    out: str | Path | None = None,
    *,
    threshold: float | None = None,
    contamination: float | None = None,
    levels: tuple[float, float] | None = None,
    max_pixels: int | None = None,
    strict: bool = False,
    force: bool = False,
    device: str | None = None,
    threads: int | None = None,
    cache: str | Path | None = None,
    weights: str | Path | None = None,
    progress: Any = None,
) -> tuple[Scores, Decision]:
    """Score new images with a Run; see `fit` for the parameters and `load` for `weights`.

    Leaves scores, heatmaps and what was skipped.
    """
    calibration.check(threshold, contamination)
    run = model if isinstance(model, Run) else load(model, weights)
    decoding = decoding_of(levels, max_pixels, run.decoding)
    out = Path(out) if out is not None else None
    if out and (out.expanduser() / PARAMETERS).exists():
        raise RequestError(f"'{out}' holds a detector, which scores would overwrite; name another folder with --out.")
    place = whole_or_absent(out, force=force) if out else nullcontext()
    changes = {"cache": Path(cache) if cache else None, "device": device, "threads": threads}
    with use_runtime(**changes, progress=progress, keep_features=False), place as staging:
        found = ImageSet.of(images, decoding=decoding, leave_out=out, find_range=False)
        if strict:
            refuse_skipped(found.skipped)
        scores = run.scored(found)
        skipped = {**found.skipped, **scores.skipped}
        if strict:
            refuse_skipped(skipped)
        decision = run.decision
        if threshold is not None:
            decision = calibration.at_threshold(run.training_scores, threshold)
        elif contamination is not None:
            decision = calibration.at_contamination(run.training_scores, contamination)
        if staging is not None:
            scores.to_csv(staging / SCORES, decision.threshold)
            write_skipped(skipped, staging)
            write_flagged_heatmaps(found, scores, decision.threshold, run.map_scale, staging)
            about = {
                "model": str(run.folder.resolve()) if run.folder else None,
                "image_root": str(found.root.resolve()) if found.root else None,
                "decision": decision.to_json(),
                "map_scale": asdict(run.map_scale),
                "versions": versions(),
            }
            write_config(staging, about)
    return replace(scores, skipped=skipped), decision
