"""`fit`: from a folder of unlabelled images to a Run: find, prepare, set aside, learn, decide, write."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish import calibration
from blemish.calibration import Decision
from blemish.detectors import Detector
from blemish.images import NORMAL, UNKNOWN, ImageSet, defect_boxes
from blemish.images.decoding import Decoding
from blemish.images.defect_boxes import BOXES
from blemish.images.labels import LABELS, carry
from blemish.jobs.cost import tell_cost
from blemish.jobs.option_groups import with_options_of
from blemish.jobs.outputs import HEATMAPS, pictures_of_report, write_scores
from blemish.jobs.preparing import (
    check_features_alone,
    checkpoints_of,
    decoding_of,
    detector_of,
    is_normal,
    ready,
    with_labels,
    with_normals,
    within_roi,
)
from blemish.jobs.purifying import fit_on_kept, notes_on, purified, write_purification
from blemish.jobs.refusals import refuse_equal, refuse_flat, refuse_skipped
from blemish.jobs.request import REQUEST, FitRequest
from blemish.jobs.sorting import Sorting, folders_by_id, sort_images, sorting_of
from blemish.jobs.streaming import split, with_rest
from blemish.machine.errors import RequestError
from blemish.machine.measuring import Stopwatch, peak_memory_mib
from blemish.machine.progress import progress_of
from blemish.machine.ray_tasks import connected
from blemish.machine.runtime import runtime, use_runtime
from blemish.purification import BEFORE_FIT, Purification, PurifySettings
from blemish.report import of_job, of_scores, write_report
from blemish.runs.artifact import TRAINING, write_artifact
from blemish.runs.run import OWN_MASKS, Run
from blemish.runs.transaction import whole_or_absent
from blemish.scores import Scores
from blemish.scores.drift import Usual
from blemish.scores.heatmaps import MapScale
from blemish.scores.regions import pixel_threshold

SETTINGS = ("detector", "decoding", "seed", "purification")  # what the report shows of `config.json`


@with_options_of(FitRequest)
def fit(
    images: Any,
    out: str | Path | None = None,
    *,
    progress: Any = None,
    tell: Callable[[str], None] | None = None,
    **options: Any,
) -> Run:
    """Learn from a folder of unlabelled images which of them are anomalous, and write a detector.

    Parameters
    ----------
    images : a folder, a list file, paths, PIL images or uint8 RGB arrays (H, W, 3), levels 0..255; or features
        alone, `ImageSet.of_features`.
    out : folder to write the Run to; nothing is written without one.
    labels : a table, see below; or a dict from the id of an image to good or bad, such as `{"part-07.png": "bad"}`.
        Arrays and PIL images have the ids image-000000, image-000001, ...
    progress : a bar in a terminal or a notebook by default; False shows none; a function is called with a stage's name,
        how much is done and how much there is.
    tell : called, before a job of more than a minute starts, with a sentence on what it will cost.

    Raises
    ------
    RequestError, JobError

    Examples
    --------
    >>> run = blemish.fit("path/to/images", out="run")  # doctest: +SKIP
    >>> run.scores.head(5)  # doctest: +SKIP
    """
    return fit_as(FitRequest.of({"images": images, "out": out, **options}), progress=progress, tell=tell)


def fit_as(request: FitRequest, *, progress: Any = None, tell: Callable[[str], None] | None = None) -> Run:
    """Do the fit of a request; see `fit`."""
    with progress_of(progress) as shown:
        return _Fit(request, shown, tell).run()


class _Fit:
    """A fit on its way: the request, and what is known so far.

    Attributes
    ----------
    detector : set up, and fitted from `learn` on.
    images : what is learned from: the folder's images, and those known to be good.
    rest : images of the folder that are scored only; None if all are learned from.
    purification : what was set aside; None if nothing was to be.
    sorting : where the images are to be put in folders; None for nowhere.
    """

    def __init__(self, request: FitRequest, progress: Any, tell: Callable[[str], None] | None) -> None:
        self.request, self.progress, self.tell = request, progress, tell
        self.watch = Stopwatch()
        self.detector: Detector = detector_of(request)
        if not self.detector.cross_fits:
            raise RequestError(
                f"{self.detector.name} makes no training scores, which the threshold is read from; set "
                "'training_scores' to true."
            )
        self.images: ImageSet
        self.rest: ImageSet | None = None
        self.purification: Purification | None = None
        self.sorting: Sorting | None = None

    def run(self) -> Run:
        """All steps; a Run is written whole or not at all."""
        request = self.request
        place: AbstractContextManager[Path | None] = (
            whole_or_absent(request.out, force=request.force) if request.out else nullcontext()
        )
        where = use_runtime(
            device=request.device,
            threads=request.threads,
            cache=request.cache,
            ray=request.ray,
            checkpoints=checkpoints_of(request.checkpoints, self.detector),
            progress=self.progress,
        )
        with where, place as staging:
            if request.ray:
                connected(request.ray)  # an address that is wrong is refused at once
            self.find()
            self.prepare()
            if request.purify:
                self.set_aside()
            scores, decoding = self.learn()
            run = self.decide(scores, decoding)
            if staging is not None:
                self.write(run, staging)
        if request.out and request.labels:
            carry(request.labels, request.out.expanduser() / LABELS)  # the review continues where it was
            if isinstance(request.labels, Path):
                defect_boxes.carry(request.labels.expanduser().with_name(BOXES), request.out.expanduser() / BOXES)
        if self.purification is not None:
            self.purification.forget()
        if self.sorting and run.scores:
            folders = folders_by_id(run.scores.ids, run.decision.bands(run.scores.image), self.images.labels)
            sort_images(self.images.sources, folders, self.sorting, self.progress)
        return run

    def find(self) -> None:
        """The images, what is known of them, and which of them to learn from."""
        request = self.request
        check_features_alone(request, request.images)
        self.detector = ready(self.detector, request.images)
        with self.watch.stage("finding images"):
            found = ImageSet.of(request.images, decoding=decoding_of(request), leave_out=request.out)
            self.sorting = sorting_of(request, found, request.images)
            found = with_labels(found.grouped(request.group_regex), request.labels)
            images = with_normals(within_roi(found, request.roi, self.detector), request.normals)
            self._check_all_used(images)
            refuse_flat(images)
        disk = None if request.disk is None else int(request.disk * 2**30)
        self.images, self.rest = split(images, self.detector, sample=request.sample, disk=disk, seed=request.seed)

    def prepare(self) -> None:
        """Make what the detector looks at; images that cannot be read are left out."""
        with self.watch.stage("features"):
            if self.tell:
                tell_cost(self.detector, self.images, len(self.rest or ()), self.tell)
            self.images = self.detector.prepare(self.images)
        self._check_all_used(self.images)

    def set_aside(self) -> None:
        """Find the images that the detector should not learn from as normal."""
        how = self.request.purify if isinstance(self.request.purify, PurifySettings) else BEFORE_FIT
        with self.watch.stage("purifying"):
            self.images, self.purification = purified(self.images, self.detector, how, self.request.seed)
        self._check_all_used(self.images)

    def learn(self) -> tuple[Scores, Decoding]:
        """Fit the detector; the scores of all images, none of them by what was learned from it."""
        with self.watch.stage("learning"):
            if self.purification is None:
                scores, decoding = self.detector.fit(self.images).training_scores_, self.images.decoding
            else:
                scores, decoding = fit_on_kept(self.detector, self.images, self.request.normals, self.purification)
        if self.rest is not None:
            with self.watch.stage("scoring the rest"):
                scores = with_rest(scores, self.detector, self.rest)
            note = f"{len(self.images)} images were learned from, at random."
            self.images = self.images.with_more(self.rest, note)
        self.images = self.images.without(scores.skipped)  # what a detector that reads images itself could not read
        self._check_all_used(self.images)
        return scores, decoding

    def decide(self, scores: Scores, decoding: Decoding) -> Run:
        """Which images are flagged, from the scores alone or with labels; the fitted detector as a Run."""
        images = self.images
        of_folder = scores
        if any(is_normal(name) for name in scores.ids):  # a subset is a copy, and maps may be on disk
            of_folder = scores.subset([name for name in scores.ids if not is_normal(name)])
        refuse_equal(of_folder, images)
        with self.watch.stage("deciding"):
            reviewed = reviewed_labels(images, scores.ids)
            # after a purification the detector saw a part of the folder, which has another share of bad images
            stricter = None if self.purification else self.detector.stricter_scores(of_folder.ids)
            decision = _decision(self.request, scores, of_folder, reviewed, stricter)
        unusual = decision.unusual_above(
            of_folder.image
        )  # where nothing is flagged, the images to look at have colours
        roi = None if images.roi is None else "one mask" if images.roi.one is not None else OWN_MASKS
        return Run(
            self.detector,
            decision,
            decoding,
            MapScale.of(of_folder, unusual),
            of_folder.image,
            of_folder,
            pixel_threshold=pixel_threshold(of_folder, unusual),
            usual=Usual.of(of_folder),
            about={REQUEST: self.request.to_json(), "roi": roi},
            known={images.content[name]: scores[name] for name in scores.ids},
            skipped=images.skipped,
            folder=self.request.out,
            images=images,
        )

    def write(self, run: Run, folder: Path) -> None:
        """Write all of it to `folder`."""
        write_run(run, self.images, self.request, folder, self.watch, self.purification)
        self.detector.leave_training(folder / TRAINING)

    def _check_all_used(self, images: ImageSet) -> None:
        if self.request.strict:
            refuse_skipped(images.skipped)


def _decision(
    request: FitRequest,
    scores: Scores,
    of_folder: Scores,
    reviewed: NDArray[np.int64],
    stricter: NDArray[np.float64] | None,
) -> Decision:
    """The decision for the scores `of_folder`, from the scores of all images learned from and their labels (N,).

    Images known to be good are the reference for false alarms. Those found good in a review join them: they were
    picked for their high scores, which makes the reference more cautious, never less.
    """
    known = np.array([is_normal(name) for name in scores.ids], dtype=bool)
    normals = scores.image[known]
    reference = np.concatenate([normals, scores.image[reviewed == NORMAL]]) if len(normals) else normals
    aim = float(request.false_alarms) if request.false_alarms is not None else None
    return calibration.decide(
        of_folder.image, labels=reviewed[~known] if known.any() else reviewed, normals=normals, reference=reference,
        stricter=stricter, sensitivity=request.sensitivity, false_alarms=aim, threshold=request.threshold,
        contamination=request.contamination,
    )  # fmt: skip


def reviewed_labels(images: ImageSet, ids: tuple[str, ...]) -> NDArray[np.int64]:
    """The labels (N,) of the folder's own images: those from `normals` were not picked from its ranking."""
    labels = [UNKNOWN if is_normal(name) else images.labels.get(name, UNKNOWN) for name in ids]
    return np.array(labels, dtype=np.int64)


def write_run(
    run: Run,
    images: ImageSet,
    request: FitRequest,
    folder: Path,
    watch: Stopwatch,
    purification: Purification | None,
) -> None:
    """Write all of it into `folder`; `images` are all those scored."""
    scores = replace(run.scores, skipped=run.skipped)
    reviewed = reviewed_labels(images, scores.ids)
    with watch.stage("heatmaps and report"):
        write_scores(images, scores, run, folder, masks=request.masks, labels=reviewed)
        notes = (*images.notes, *run.detector.findings)
        aside: frozenset[str] | None = None
        if purification is not None:
            notes += (*write_purification(purification, images, folder), *notes_on(purification, run.detector))
            aside = frozenset(purification.set_aside_ids)
        run.about |= {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "image_root": images.place,
            "images": len(scores),
            "group_regex": images.grouping,
            "known_normals": sum(label == NORMAL for label in images.labels.values()),
            "reviewed": int((reviewed != UNKNOWN).sum()),
            "skipped": len(run.skipped),
            "notes": list(images.notes),
            "findings": list(run.detector.findings),
            "threads": runtime().threads,
            "device": runtime().device,
        }
        if purification is not None:
            run.about |= {"purification": purification.to_json()}
        config = run.to_config()
        job = of_job(
            images,
            source=request.images,
            detector=run.detector,
            settings={name: config[name] for name in SETTINGS if name in config},
            versions=config["versions"],
            seconds=watch.seconds,
            memory=peak_memory_mib(),
            skipped=run.skipped,
            notes=notes,
        )
        report = of_scores(
            job,
            images,
            scores,
            run.decision,
            run.map_scale,
            folder=folder,
            heatmaps=folder / HEATMAPS,
            out=run.folder,
            labels=reviewed,
            reviewed=int((reviewed != UNKNOWN).sum()),
            reliability=calibration.reliability(scores.image, reviewed),
            set_aside=aside,
        )
        write_report(folder, report, pictures_of_report(images, scores, run.map_scale))
    run.about |= {"seconds": {name: round(each, 3) for name, each in watch.seconds.items()}}
    run.about |= {"peak_memory_mib": peak_memory_mib()}
    write_artifact(folder, run.to_config(), run.to_state())
