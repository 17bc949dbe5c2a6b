"""`score`: new images with a Run."""

from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from blemish import calibration
from blemish.calibration import Decision
from blemish.images import ImageSet
from blemish.jobs.request import decoding_of, within_roi
from blemish.jobs.results import refuse_skipped, write_flagged_heatmaps, write_flagged_regions, write_skipped
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from blemish.runs.artifact import PARAMETERS, SCORES, write_config
from blemish.runs.exported import FORMATS, ExportedModel
from blemish.runs.run import Run, load, versions
from blemish.runs.stored_scores import write_maps
from blemish.runs.transaction import whole_or_absent
from blemish.scores import Scores


def score(
    images: Any,
    model: str | Path | Run,
    out: str | Path | None = None,
    *,
    threshold: float | None = None,
    contamination: float | None = None,
    masks: bool = False,
    roi: str | Path | None = None,
    levels: tuple[float, float] | None = None,
    max_pixels: int | None = None,
    strict: bool = False,
    force: bool = False,
    device: str | None = None,
    threads: int | None = None,
    cache: str | Path | None = None,
    ray: str | None = None,
    weights: str | Path | None = None,
    engine: str | None = None,
    progress: Any = None,
) -> tuple[Scores, Decision]:
    """Score new images with a Run, or what `export` made of one; see `fit` for the parameters, `load` for `weights`.

    `engine` is what has to run it: "torch", "onnx" or "openvino"; whatever fits by default. Leaves scores, heatmaps
    and what was skipped.
    """
    calibration.check(threshold, contamination)
    with use_runtime(threads=threads):
        run = model if isinstance(model, Run) else load(model, weights)
    _check_engine(run, engine)
    decoding = decoding_of(levels, max_pixels, run.decoding)
    out = Path(out) if out is not None else None
    if out and (out.expanduser() / PARAMETERS).exists():
        raise RequestError(f"'{out}' holds a detector, which scores would overwrite; name another folder with --out.")
    place = whole_or_absent(out, force=force) if out else nullcontext()
    changes = {"cache": Path(cache) if cache else None, "device": device, "threads": threads, "ray": ray}
    with use_runtime(**changes, progress=progress, keep_features=False), place as staging:
        found = ImageSet.of(images, decoding=decoding, leave_out=out, find_range=False)
        if strict:
            refuse_skipped(found.skipped)
        scores = run.scored(within_roi(found, roi, run.detector))
        skipped = {**found.skipped, **scores.skipped}
        if strict:
            refuse_skipped(skipped)
        decision = run.decision
        if threshold is not None:
            decision = calibration.at_threshold(run.training_scores, threshold)
        elif contamination is not None:
            decision = calibration.at_contamination(run.training_scores, contamination)
        if staging is not None:
            chance = run.probability.of(scores.image) if run.probability else None
            scores.to_csv(staging / SCORES, decision.threshold, chance)
            write_maps(staging, scores, found.content)
            write_skipped(skipped, staging)
            if not found.features_alone:
                write_flagged_regions(scores, decision.threshold, run.pixel_threshold, staging, masks=masks)
            write_flagged_heatmaps(found, scores, decision.threshold, run.map_scale, staging)
            about = {
                "model": str(run.folder.resolve()) if run.folder else None,
                "image_root": found.place,
                "images": len(scores),
                "decision": decision.to_json(),
                "decoding": asdict(decoding),
                "drift": drift_of(run, found, scores),
                "map_scale": asdict(run.map_scale),
                "versions": versions(),
            }
            write_config(staging, about)
    return replace(scores, skipped=skipped), decision


def drift_of(run: Run, images: ImageSet, scores: Scores) -> str | None:
    """A sentence if these images are unlike those of the fit as a whole; see `drift.Usual`.

    Those of the fit itself say nothing of that: the detector holds patches of them, so that their maps lie far below
    those it was told to expect, which are of images that it had not seen.
    """
    new = [name for name in scores.ids if images.content[name] not in run.known]
    return run.usual.warning(scores.subset(new)) if run.usual and new else None


def _check_engine(run: Run, engine: str | None) -> None:
    """Raises `RequestError` if the model is not run by the `engine` asked for."""
    known = ("torch", *FORMATS)
    if engine is not None and engine not in known:
        raise RequestError(f"--runtime is {', '.join(known)}; got '{engine}'.")
    found = run.detector.format if isinstance(run.detector, ExportedModel) else "torch"
    if engine not in (None, found):
        fix = "name the Run that it was exported from" if engine == "torch" else (
            f"make one with `blemish export RUN --format {engine} --out DIR`, and name that folder with --model"
        )  # fmt: skip
        raise RequestError(f"The model is for {found}, and --runtime asks for {engine}; {fix}.")
