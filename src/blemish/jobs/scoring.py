"""`score`: new images with a Run."""

from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from blemish import calibration
from blemish.calibration import Decision
from blemish.images import ImageSet
from blemish.jobs.option_groups import with_options_of
from blemish.jobs.outputs import HEATMAPS, pictures_of_report, write_scores
from blemish.jobs.preparing import check_features_alone, decoding_of, within_roi
from blemish.jobs.refusals import refuse_equal, refuse_skipped
from blemish.jobs.request import ScoreRequest
from blemish.jobs.sorting import folders_by_id, sort_images, sorting_of
from blemish.machine.errors import RequestError
from blemish.machine.extras import versions
from blemish.machine.measuring import Stopwatch, peak_memory_mib
from blemish.machine.progress import progress_of
from blemish.machine.runtime import use_runtime
from blemish.report import of_job, of_scores, write_report
from blemish.runs.artifact import PARAMETERS, write_config
from blemish.runs.exported import FORMATS, ExportedModel
from blemish.runs.run import Run, in_order_of, load
from blemish.runs.transaction import whole_or_absent
from blemish.scores import Scores, above


@with_options_of(ScoreRequest)
def score(
    images: Any,
    model: str | Path | Run,
    out: str | Path | None = None,
    *,
    progress: Any = None,
    **options: Any,
) -> Scores:
    """Score new images with a Run, or with what `export` made of one.

    The result is what `Run.score` returns, with the decision of the Run, or that of `threshold`, `contamination` or
    `sensitivity`.

    Parameters
    ----------
    images, out, progress : see `fit`. Leaves scores, heatmaps and what was skipped in `out`.
    model : the folder of the Run or of the exported model, or the Run.

    Raises
    ------
    RequestError, JobError
    """
    request = ScoreRequest.of({"images": images, "out": out, **options})
    check_features_alone(request, images)
    with use_runtime(threads=request.threads):
        run = model if isinstance(model, Run) else load(model, request.weights)
    _check_runtime(run, request.runtime)
    if request.out and (request.out.expanduser() / PARAMETERS).exists():
        raise RequestError(f"'{out}' holds a detector, which scores would overwrite; give another folder with `out`.")
    place = whole_or_absent(request.out, force=request.force) if request.out else nullcontext()
    where = {name: getattr(request, name) for name in ("cache", "device", "threads", "ray")}
    with (
        progress_of(progress) as shown,
        use_runtime(**where, progress=shown, keep_features=False),
        place as staging,
    ):
        decoding = decoding_of(request, run.decoding)
        watch = Stopwatch()
        with watch.stage("finding images"):
            found = ImageSet.of(request.images, decoding=decoding, leave_out=request.out, find_range=False)
            sorting = sorting_of(request, found, request.images)
        if request.strict:
            refuse_skipped(found.skipped)
        with watch.stage("scoring"):
            scores = run.scored(within_roi(found, request.roi, run.detector))
        scores = replace(scores, skipped={**found.skipped, **scores.skipped}, notes=found.notes)
        refuse_equal(scores, found)
        if request.strict:
            refuse_skipped(scores.skipped)
        choice = {name: getattr(request, name) for name in ("threshold", "contamination", "sensitivity")}
        decision = calibration.moved(run.training_scores, run.decision, **choice)
        scores = replace(scores, decision=decision, root=found.root)
        if staging is not None:
            _write(run, found, scores, decision, request, staging, watch)
    if sorting:
        sort_images(found.sources, folders_by_id(scores.ids, decision.bands(scores.image), {}), sorting, progress)
    return in_order_of(request.images, scores)


def _write(
    run: Run,
    found: ImageSet,
    scores: Scores,
    decision: Decision,
    request: ScoreRequest,
    folder: Path,
    watch: Stopwatch,
) -> None:
    with watch.stage("heatmaps"):
        write_scores(found, scores, run, folder, masks=request.masks)
    drifted = drift_of(run, found, scores)
    job = of_job(
        found,
        source=request.images,
        detector=run.detector,
        settings={"decoding": asdict(run.decoding)},
        versions=versions(),
        seconds=watch.seconds,
        memory=peak_memory_mib(),
        skipped=scores.skipped,
        notes=(*found.notes, *([drifted] if drifted else [])),
    )
    flagged = float(above(scores.image, decision.threshold).mean())
    report = of_scores(
        job,
        found,
        scores,
        replace(decision, contamination=flagged),  # that of the decision is of the images of the fit
        run.map_scale,
        folder=folder,
        heatmaps=folder / HEATMAPS,
        out=request.out,
        model=run.folder,
    )
    write_report(folder, report, pictures_of_report(found, scores, run.map_scale))
    about = {
        "model": str(run.folder.resolve()) if run.folder else None,
        "image_root": found.place,
        "images": len(scores),
        "decision": decision.to_json(),
        "decoding": asdict(found.decoding),
        "notes": list(found.notes),
        "drift": drifted,
        "false_share": false_share_of(run, found, scores, decision),
        "map_scale": asdict(run.map_scale),
        "versions": versions(),
    }
    write_config(folder, about)


def drift_of(run: Run, images: ImageSet, scores: Scores) -> str | None:
    """A sentence if these images are unlike the images of the fit as a whole; see `drift.Usual`.

    Images of the fit itself do not count: the detector holds patches of them, so that their maps are far below
    the maps of images that it had not seen.
    """
    new = [name for name in scores.ids if images.content[name] not in run.known]
    return run.usual.warning(scores.subset(new)) if run.usual and new else None


def false_share_of(run: Run, images: ImageSet, scores: Scores, decision: Decision) -> float | None:
    """A bound on the share of good images among the flagged new ones; None without known good images or flags.

    Images of the fit itself do not count: the reference is of images that are like new ones.
    """
    new = [name for name in scores.ids if images.content[name] not in run.known]
    if not decision.reference or not new:
        return None
    return calibration.false_share(decision.reference, scores.subset(new).image, decision.threshold)


def _check_runtime(run: Run, runtime: str | None) -> None:
    """Raises `RequestError` if the model is not for the `runtime` that the request names."""
    known = ("torch", *FORMATS)
    if runtime is not None and runtime not in known:
        raise RequestError(f"`runtime` must be one of {', '.join(known)}; got '{runtime}'.")
    found = run.detector.format if isinstance(run.detector, ExportedModel) else "torch"
    if runtime not in (None, found):
        fix = "give the Run that it was exported from" if runtime == "torch" else (
            f"make one with `blemish export RUN --format {runtime} --out DIR`, and give that folder as `model`"
        )  # fmt: skip
        raise RequestError(f"The model is for {found}, and `runtime` asks for {runtime}; {fix}.")
