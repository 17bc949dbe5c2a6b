"""`fit`: from a pile of unlabelled images to a Run."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blemish import calibration
from blemish.artifact import SCORES, write_artifact
from blemish.calibration import Decision
from blemish.detectors import DEFAULT_DETECTOR, Detector, FeatureDetector
from blemish.errors import RequestError
from blemish.heatmaps import MapScale
from blemish.images import NORMAL, ImageSet
from blemish.jobs.purifying import fit_on_kept, purified, told, write_purification
from blemish.jobs.request import NORMALS_PREFIX, decoding_of, detector_of, ready, with_normals
from blemish.jobs.results import (
    HEATMAPS,
    REPORT,
    TRAINING,
    Stopwatch,
    identical_in,
    peak_memory_mib,
    refuse_skipped,
    write_flagged_heatmaps,
    write_skipped,
)
from blemish.purification import Purification, PurifySettings
from blemish.report import ReportContent, write_report
from blemish.run import Run
from blemish.runtime import runtime, use_runtime
from blemish.scores import Scores
from blemish.transaction import whole_or_absent


def fit(
    images: Any,
    out: str | Path | None = None,
    *,
    detector: str | Detector = DEFAULT_DETECTOR,
    preset: str | None = None,
    fast: bool = False,
    purify: bool | PurifySettings = False,
    normals: Any = None,
    group_regex: str = "",
    threshold: float | None = None,
    contamination: float | None = None,
    levels: tuple[float, float] | None = None,
    max_pixels: int | None = None,
    strict: bool = False,
    force: bool = False,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    threads: int | None = None,
    cache: str | Path | None = None,
    checkpoints: str | Path | None = None,
    progress: Any = None,
) -> Run:
    """Learn from a pile of unlabelled images which of them are anomalous, and leave a detector.

    Parameters
    ----------
    images : a folder, a list file, paths, PIL images or uint8 RGB arrays (H, W, 3), levels 0..255; or features
        alone, `ImageSet.of_features`.
    out : folder to leave the Run in; nothing is written without one.
    detector : a name of `blemish detectors`, or a detector.
    preset : a named set of the detector's settings, such as "paper" of funad.
    fast : the detector's settings for speed, at some cost in quality.
    purify : whether the detector learns only from what a purification keeps; its settings, if not the default.
        The scores cover all images: kept ones are scored as the detector scores its training images, the others,
        which it never saw, as new ones. A detector that learns from defects is told which were set aside instead.
    normals : images known to be good, which are learned from but not listed.
    group_regex : images whose paths hold the same text where this matches count as one: shots of a part, a burst. None
        of them is scored by what learned from another. See `ImageSet.grouped`.
    threshold, contamination : overrule the label-free decision.
    levels : of images deeper than 8 bits, which become black and white; found by default.
    max_pixels : images with more are skipped.
    strict : an unreadable file is an error instead of being skipped.
    settings : settings of the detector by name.
    seed, device, threads, cache, checkpoints : see `Detector` and `Runtime`.

    Raises
    ------
    RequestError, JobError
    """
    calibration.check(threshold, contamination)
    chosen = detector_of(detector, preset=preset, fast=fast, seed=seed, settings=settings or {})
    if not chosen.cross_fits:
        raise RequestError(
            f"{chosen.name} with 'folds' = 0 makes no training scores, which the threshold is read from; set it to 2 "
            "or more."
        )
    decoding = decoding_of(levels, max_pixels)
    out = Path(out) if out is not None else None
    watch = Stopwatch()
    place = whole_or_absent(out, force=force) if out else nullcontext()
    where = use_runtime(device=device, threads=threads, cache=cache, checkpoints=checkpoints, progress=progress)
    with where, place as staging:
        chosen = ready(chosen, images)
        with watch.stage("finding images"):
            pile = ImageSet.of(images, decoding=decoding, leave_out=out).grouped(group_regex)
            everything = with_normals(pile, normals)
            if strict:
                refuse_skipped(everything.skipped)
        if isinstance(chosen, FeatureDetector):
            with watch.stage("features"):
                everything, _ = chosen.prepared(everything)
        if strict:
            refuse_skipped(everything.skipped)
        purification = None
        if purify:
            with watch.stage("purifying"):
                how = purify if isinstance(purify, PurifySettings) else PurifySettings()
                everything, purification = purified(everything, chosen, how, seed)
            if strict:
                refuse_skipped(everything.skipped)
        with watch.stage("learning"):
            if purification is None:
                scores, read_as = chosen.fit(everything).training_scores_, everything.decoding
            else:
                scores, read_as = fit_on_kept(chosen, pile, normals, everything, purification)
        everything = everything.without(scores.skipped)  # what a detector that reads images itself could not read
        if strict:
            refuse_skipped(everything.skipped)
        listed = scores.subset([name for name in scores.ids if not name.startswith(NORMALS_PREFIX)])
        decision = _decide(scores, listed, threshold, contamination)
        run = Run(
            chosen,
            decision,
            read_as,
            MapScale.of(listed, decision.threshold),
            listed.image,
            listed,
            known={everything.content[name]: scores[name] for name in scores.ids},
            skipped=everything.skipped,
            folder=out,
        )
        if staging is not None:
            _write_run(run, everything, images, staging, watch, purification)
            chosen.leave_training(staging / TRAINING)
    if purification is not None:
        purification.forget()
    return run


def _decide(scores: Scores, listed: Scores, threshold: float | None, contamination: float | None) -> Decision:
    if threshold is not None:
        return calibration.at_threshold(listed.image, threshold)
    if contamination is not None:
        return calibration.at_contamination(listed.image, contamination)
    decision = calibration.decide(scores.image)
    share = float((listed.image > decision.threshold).mean())
    return replace(decision, contamination=share)


def _write_run(
    run: Run, images: ImageSet, source: Any, folder: Path, watch: Stopwatch, purification: Purification | None
) -> None:
    scores = run.scores
    if scores is None:
        raise RequestError("A Run loaded from disk holds no maps; only a fresh one can be written.")
    with watch.stage("heatmaps and report"):
        scores.to_csv(folder / SCORES, run.threshold_)
        write_skipped(run.skipped, folder)
        write_flagged_heatmaps(images, scores, run.threshold_, run.map_scale, folder)
        notes, aside = images.notes, frozenset[str]()
        if purification is not None:
            notes += (*write_purification(purification, images, folder), *told(purification, run.detector))
            aside = frozenset(purification.set_aside_ids)
        run.about = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "image_root": str(images.root.resolve()) if images.root else None,
            "images": len(scores),
            "group_regex": images.grouping,
            "known_normals": sum(label == NORMAL for label in images.labels.values()),
            "skipped": len(run.skipped),
            "threads": runtime().threads,
            "device": runtime().device,
        }
        if purification is not None:
            run.about |= {"purification": purification.to_json()}
        config = run.to_config()
        content = ReportContent(
            title=_title(images, source),
            source=str(source) if isinstance(source, (str, Path)) else None,
            images=images,
            scores=scores,
            threshold=run.threshold_,
            contamination=run.contamination_,
            estimated_bad=round(run.contamination_ * len(scores)),
            threshold_method=run.decision.rule,
            threshold_assumption=run.decision.assumption,
            scale=run.map_scale,
            detector=run.detector.name,
            detector_description=run.detector.summary,
            patent_notice=run.detector.patent,
            settings={n: config[n] for n in ("detector", "decoding", "seed", "purification") if n in config},
            versions=config["versions"],
            seconds=watch.seconds,
            peak_memory_mib=peak_memory_mib(),
            skipped=run.skipped,
            notes=notes,
            set_aside=aside,
            identical=identical_in(images),
            heatmaps=folder / HEATMAPS,
            run=run.folder,
        )
        write_report(folder / REPORT, content)
    run.about |= {"seconds": {name: round(each, 3) for name, each in watch.seconds.items()}}
    run.about |= {"peak_memory_mib": peak_memory_mib()}
    write_artifact(folder, run.to_config(), run.to_state())


def _title(images: ImageSet, source: Any) -> str:
    if isinstance(source, (str, Path)):
        return Path(str(source)).name
    return "features" if images.features_alone else "images"
