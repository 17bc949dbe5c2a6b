"""`fit`: from a pile of unlabelled images to a Run."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from blemish import calibration
from blemish.detectors import DEFAULT_DETECTOR, Detector, FeatureDetector
from blemish.images import ImageSet
from blemish.images.labels import LABELS, carry
from blemish.jobs.asked import ASKED, recorded
from blemish.jobs.estimating import tell_cost
from blemish.jobs.line import Line, labels_of
from blemish.jobs.purifying import fit_on_kept, purified
from blemish.jobs.request import (
    NORMALS_PREFIX,
    checkpoints_of,
    decoding_of,
    detector_of,
    ready,
    with_labels,
    with_normals,
    within_roi,
)
from blemish.jobs.results import Stopwatch, refuse_skipped
from blemish.jobs.streaming import split, with_rest
from blemish.jobs.written_run import write_run
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from blemish.purification import BEFORE_FIT, PurifySettings
from blemish.runs.artifact import TRAINING
from blemish.runs.run import OWN_MASKS, Run
from blemish.runs.transaction import whole_or_absent
from blemish.scores.drift import Usual
from blemish.scores.heatmaps import MapScale
from blemish.scores.regions import pixel_threshold


def fit(
    images: Any,
    out: str | Path | None = None,
    *,
    detector: str | Detector = DEFAULT_DETECTOR,
    preset: str | None = None,
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
    purify : whether the detector learns only from what a purification keeps; its settings, if not `BEFORE_FIT`.
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
    if not isinstance(purify, bool | PurifySettings):
        raise RequestError(f"'purify' is True, False or PurifySettings(...); got {purify!r}.")
    line = Line(rule, false_alarms, threshold, contamination)
    chosen = detector_of(detector, preset=preset, seed=seed, settings=settings or {})
    if not chosen.cross_fits:
        raise RequestError(
            f"{chosen.name} with 'folds' = 0 makes no training scores, which the threshold is read from; set it to 2 "
            "or more."
        )
    checkpoints = checkpoints_of(checkpoints, chosen)
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
                how = purify if isinstance(purify, PurifySettings) else BEFORE_FIT
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
            reviewed = labels_of(everything, scores.ids)
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
            write_run(run, everything, images, staging, watch, purification, masks)
            chosen.leave_training(staging / TRAINING)
    if out and labels:
        carry(labels, out.expanduser() / LABELS)  # the review goes on where it was
    if purification is not None:
        purification.forget()
    return run


def _about_roi(images: ImageSet) -> dict[str, Any]:
    return {"roi": None if images.roi is None else "one mask" if images.roi.one is not None else OWN_MASKS}
