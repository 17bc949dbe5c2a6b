"""`fit`: from a pile of unlabelled images to a Run."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish import calibration
from blemish.artifact import SCORES, write_artifact
from blemish.calibration import Decision
from blemish.detectors import DEFAULT_DETECTOR, Detector, FeatureDetector
from blemish.drift import Usual
from blemish.errors import RequestError
from blemish.heatmaps import MapScale
from blemish.images import NORMAL, UNKNOWN, ImageSet
from blemish.jobs.asked import ASKED, recorded
from blemish.jobs.estimating import tell_cost
from blemish.jobs.purifying import fit_on_kept, purified, told, write_purification
from blemish.jobs.request import (
    NORMALS_PREFIX,
    decoding_of,
    detector_of,
    ready,
    with_labels,
    with_normals,
    within_roi,
)
from blemish.jobs.results import (
    HEATMAPS,
    REPORT,
    TRAINING,
    Stopwatch,
    identical_in,
    peak_memory_mib,
    refuse_skipped,
    write_flagged_heatmaps,
    write_flagged_regions,
    write_skipped,
)
from blemish.jobs.streaming import split, with_rest
from blemish.labels import LABELS, carry
from blemish.purification import Purification, PurifySettings
from blemish.regions import pixel_threshold
from blemish.report import ReportContent, write_report
from blemish.run import OWN_MASKS, Run
from blemish.runtime import runtime, use_runtime
from blemish.scores import Scores
from blemish.stored_scores import write_maps
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
    learn_from: int | None = None,
    disk: float | None = None,
    labels: str | Path | None = None,
    roi: str | Path | None = None,
    rule: str | None = None,
    false_alarms: float | None = None,
    group_regex: str = "",
    threshold: float | None = None,
    contamination: float | None = None,
    masks: bool = False,
    levels: tuple[float, float] | None = None,
    max_pixels: int | None = None,
    strict: bool = False,
    force: bool = False,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    threads: int | None = None,
    cache: str | Path | None = None,
    ray: str | None = None,
    checkpoints: str | Path | None = None,
    progress: Any = None,
    tell: Callable[[str], None] | None = None,
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
    learn_from : images of the pile that the detector learns from, at random; by default all up to 1,000, then as the
        square root of their number. The others are scored as new images are.
    disk : GiB that the features may take; fewer images are learned from where they would take more.
    labels : a `labels.csv` of a review. Good images are learned from whatever they score, bad ones never count as
        normal, and both move the threshold. The `labels.csv` of the new Run begins with them.
    roi : a mask for all images, white where to look, or a folder of masks `<path of the image>.png`. What lies outside
        is neither learned from nor scored, in new images as well.
    rule, false_alarms : how the threshold is found; see `calibration.decide`.
    group_regex : images whose paths hold the same text where this matches count as one: shots of a part, a burst. None
        of them is scored by what learned from another. See `ImageSet.grouped`.
    threshold, contamination : overrule the label-free decision.
    masks : whether the flagged images' masks are left, too.
    levels : of images deeper than 8 bits, which become black and white; found by default.
    max_pixels : images with more are skipped.
    strict : an unreadable file is an error instead of being skipped.
    settings : settings of the detector by name.
    seed, device, threads, cache, ray, checkpoints : see `Detector` and `Runtime`.
    tell : told before it starts what a job of more than a minute will cost.

    Raises
    ------
    RequestError, JobError
    """
    asked = recorded({
        "images": images, "purify": purify, "normals": normals, "learn_from": learn_from, "disk": disk, "roi": roi,
        "rule": rule, "false_alarms": false_alarms, "group_regex": group_regex, "threshold": threshold,
        "contamination": contamination, "masks": masks, "levels": levels, "max_pixels": max_pixels, "strict": strict,
        "seed": seed, "device": device, "threads": threads, "cache": cache, "ray": ray, "checkpoints": checkpoints,
    })  # fmt: skip
    line = _Line(rule, false_alarms, threshold, contamination)
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
    where = use_runtime(
        device=device, threads=threads, cache=cache, checkpoints=checkpoints, ray=ray, progress=progress
    )
    with where, place as staging:
        chosen = ready(chosen, images)
        with watch.stage("finding images"):
            found = ImageSet.of(images, decoding=decoding, leave_out=out).grouped(group_regex)
            pile = within_roi(with_labels(found, labels), roi, chosen)
            everything = with_normals(pile, normals)
            if strict:
                refuse_skipped(everything.skipped)
        bytes_free = None if disk is None else int(disk * 2**30)
        everything, rest = split(everything, chosen, asked=learn_from, disk=bytes_free, seed=seed)
        pile = pile if rest is None else pile.subset(set(pile.ids).intersection(everything.ids))
        if isinstance(chosen, FeatureDetector):
            with watch.stage("features"):
                if tell:
                    tell_cost(chosen, everything, len(rest or ()), tell)
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
        if rest is not None:
            with watch.stage("scoring the rest"):
                scores = with_rest(scores, chosen, rest)
            everything = everything.with_more(rest, f"{len(everything)} images were learned from, at random.")
        everything = everything.without(scores.skipped)  # what a detector that reads images itself could not read
        if strict:
            refuse_skipped(everything.skipped)
        listed = scores
        if any(name.startswith(NORMALS_PREFIX) for name in scores.ids):
            listed = scores.subset([name for name in scores.ids if not name.startswith(NORMALS_PREFIX)])
        with watch.stage("deciding"):
            reviewed = _reviewed(everything, scores.ids)
            decision = line.drawn(scores, listed, reviewed)
            chance = calibration.probability(scores.image, decision, reviewed)
        run = Run(
            chosen,
            decision,
            read_as,
            MapScale.of(listed, decision.threshold),
            listed.image,
            listed,
            probability=chance,
            pixel_threshold=pixel_threshold(listed, decision.threshold),
            usual=Usual.of(listed),
            about={ASKED: asked, **_about_roi(everything)},
            known={everything.content[name]: scores[name] for name in scores.ids},
            skipped=everything.skipped,
            folder=out,
        )
        if staging is not None:
            _write_run(run, everything, images, staging, watch, purification, masks)
            chosen.leave_training(staging / TRAINING)
    if out and labels:
        carry(labels, out.expanduser() / LABELS)  # the review goes on where it was
    if purification is not None:
        purification.forget()
    return run


@dataclass(frozen=True)
class _Line:
    """How a person wants the line drawn."""

    rule: str | None
    false_alarms: float | None
    threshold: float | None
    contamination: float | None

    def __post_init__(self) -> None:
        calibration.check(self.threshold, self.contamination, self.false_alarms)
        if self.rule is not None:
            calibration.rule_called(self.rule)
            if self.threshold is not None or self.contamination is not None:
                raise RequestError("--rule finds the threshold; leave out --threshold and --contamination.")

    def drawn(self, scores: Scores, listed: Scores, reviewed: NDArray[np.int64]) -> Decision:
        if self.threshold is not None:
            return calibration.at_threshold(listed.image, self.threshold)
        if self.contamination is not None:
            return calibration.at_contamination(listed.image, self.contamination)
        found = calibration.decide(scores.image, rule=self.rule, false_alarms=self.false_alarms, labels=reviewed)
        return calibration.for_listed(found, len(listed), len(scores))


def _reviewed(images: ImageSet, ids: tuple[str, ...]) -> NDArray[np.int64]:
    """The labels (N,) of the pile's own images: those from `normals` were not picked from its ranking."""
    found = [UNKNOWN if name.startswith(NORMALS_PREFIX) else images.labels.get(name, UNKNOWN) for name in ids]
    return np.array(found, dtype=np.int64)


def _write_run(
    run: Run,
    images: ImageSet,
    source: Any,
    folder: Path,
    watch: Stopwatch,
    purification: Purification | None,
    masks: bool,
) -> None:
    scores = run.scores
    if scores is None:
        raise RequestError("A Run loaded from disk holds no maps; only a fresh one can be written.")
    reviewed = _reviewed(images, scores.ids)
    with watch.stage("heatmaps and report"):
        chance = run.probability.of(scores.image) if run.probability else None
        scores.to_csv(folder / SCORES, run.threshold_, chance)
        write_maps(folder, scores, images.content)
        write_skipped(run.skipped, folder)
        if not images.features_alone:
            write_flagged_regions(scores, run.threshold_, run.pixel_threshold, folder, masks=masks)
        write_flagged_heatmaps(images, scores, run.threshold_, run.map_scale, folder)
        notes = images.notes
        aside: frozenset[str] | None = None
        if purification is not None:
            notes += (*write_purification(purification, images, folder), *told(purification, run.detector))
            aside = frozenset(purification.set_aside_ids)
        run.about |= {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "image_root": images.place,
            "images": len(scores),
            "group_regex": images.grouping,
            "known_normals": sum(label == NORMAL for label in images.labels.values()),
            "reviewed": int((reviewed != UNKNOWN).sum()),
            "skipped": len(run.skipped),
            "threads": runtime().threads,
            "device": runtime().device,
        }
        if purification is not None:
            run.about |= {"purification": purification.to_json()}
        config = run.to_config()
        total_chance = None if chance is None else float(chance.sum())
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
            decision=run.decision,
            expected_bad=total_chance,
            reviewed=int((reviewed != UNKNOWN).sum()),
            reliability=calibration.reliability(scores.image, reviewed, run.decision),
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


def _about_roi(images: ImageSet) -> dict[str, Any]:
    return {"roi": None if images.roi is None else "one mask" if images.roi.one is not None else OWN_MASKS}


def _title(images: ImageSet, source: Any) -> str:
    if isinstance(source, (str, Path)):
        return Path(str(source)).name
    return "features" if images.features_alone else "images"
