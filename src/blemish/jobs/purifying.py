"""`purify`: which images of a folder to learn from; and the part of it that `fit(purify=True)` needs."""

import os
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blemish.detectors import Detector
from blemish.images import SUSPECTED, ImageSet
from blemish.images.decoding import Decoding
from blemish.images.urls import RemoteFile
from blemish.jobs.option_groups import with_options_of
from blemish.jobs.outputs import write_skipped
from blemish.jobs.preparing import decoding_of, detector_of, is_normal, ready, with_normals
from blemish.jobs.refusals import refuse_flat, refuse_skipped
from blemish.jobs.request import PurifyRequest
from blemish.jobs.sorting import GOOD, LOOK, sort_images, sorting_of
from blemish.machine.errors import RequestError, writing_to
from blemish.machine.extras import versions
from blemish.machine.measuring import Stopwatch, peak_memory_mib
from blemish.machine.progress import progress_of
from blemish.machine.runtime import runtime, use_runtime
from blemish.purification import KEPT_SCORES, Purification, PurifySettings
from blemish.purification import purify as purify_images
from blemish.report import of_job, of_purification, pictures_of, write_report, write_thumbnails
from blemish.runs.artifact import PARAMETERS, write_config
from blemish.runs.transaction import whole_or_absent
from blemish.scores import Scores

TABLE, KEPT_LIST, THUMBNAILS = "purification.csv", "kept.txt", "set-aside"


@with_options_of(PurifyRequest)
def purify(images: Any, out: str | Path | None = None, *, progress: Any = None, **options: Any) -> Purification:
    """Find out which images of a folder a detector should learn from, and write a list of them for any tool.

    It is strict on purpose: unusual good images are set aside, too, so that few defects stay. `fit` flags fewer.

    Parameters
    ----------
    images, out, progress : see `fit`.
    detector : a name of `blemish detectors`, a detector, or any object with `fit` and `score`; see
        `purification.purify`. It is not fitted.
    how : a `PurifySettings`; its defaults if there is none.

    An interrupted job continues from the sub-models that were finished. Raises `RequestError` or `JobError`.

    Examples
    --------
    >>> found = blemish.purify("path/to/images", keep=0.8)  # doctest: +SKIP
    >>> found.kept_ids, found.set_aside_ids  # doctest: +SKIP
    """
    request = PurifyRequest.of({"images": images, "out": out, **options})
    how = request.how or PurifySettings()
    how = how if request.keep is None else how.changed(keep=request.keep)
    detector = request.detector
    if isinstance(detector, (str, Detector)):
        detector = detector_of(request)
    elif request.settings:
        raise RequestError("`settings` by name are for detectors of blemish; set up your object beforehand.")
    if request.out and (request.out.expanduser() / PARAMETERS).exists():
        raise RequestError(f"'{out}' holds a detector, which would be lost; give another folder with `out`.")
    watch = Stopwatch()
    place = whole_or_absent(request.out, force=request.force) if request.out else nullcontext()
    where = {name: getattr(request, name) for name in ("device", "threads", "cache", "ray")}

    def check_all_used(found: ImageSet) -> None:
        if request.strict:
            refuse_skipped(found.skipped)

    with progress_of(progress) as shown, use_runtime(**where, progress=shown), place as staging:
        if isinstance(detector, Detector):
            detector = ready(detector, request.images)
        with watch.stage("finding images"):
            found = ImageSet.of(request.images, decoding=decoding_of(request), leave_out=request.out)
            sorting = sorting_of(request, found, request.images)
            found = with_normals(found.grouped(request.group_regex), request.normals)
            refuse_flat(found)
        check_all_used(found)
        if isinstance(detector, Detector):
            with watch.stage("features"):
                found = detector.prepare(found)
            check_all_used(found)
        with watch.stage("purifying"):
            found, purification = purified(found, detector, how, request.seed)
        check_all_used(found)
        if staging is not None:
            _write(purification, found, detector, request, staging, watch)
    purification.forget()
    if sorting:
        listed = _listed(purification)
        kept = set(listed.kept_ids)
        folders = {name: GOOD if name in kept else LOOK for name in listed.ids}
        sort_images(found.sources, folders, sorting, progress)
    return replace(_listed(purification), notes=(*found.notes, *purification.notes))


def purified(images: ImageSet, detector: Any, how: PurifySettings, seed: int) -> tuple[ImageSet, Purification]:
    """The purification of a job, and the images that could be read for it.

    It takes up from what an earlier one with the same settings left in the cache.
    """
    found = purify_images(images, detector, how, seed=seed, resume=runtime().cache / KEPT_SCORES)
    return images.without({name: found.skipped[name] for name in images.ids if name in found.skipped}), found


def fit_on_kept(
    detector: Detector, images: ImageSet, normals: Any, purification: Purification
) -> tuple[Scores, Decoding]:
    """Fit `detector` on what was kept; returns the scores of all images, and how files are to be read.

    The detector learns from what a folder with nothing but the kept images would hold: their aspect ratio, their range
    of levels. So it equals a fresh fit on `kept.txt`. One that learns from defects sees all images instead, with those
    set aside marked as suspected.
    """
    if detector.uses_set_aside:
        suspected = dict.fromkeys(purification.set_aside_ids, SUSPECTED)
        detector.fit(replace(images, labels={**suspected, **images.labels}))
        return detector.training_scores_, images.decoding
    kept = images.subset(name for name in purification.kept_ids if not is_normal(name))
    alone = with_normals(kept.on_its_own(), normals)
    scores = detector.fit(alone).training_scores_
    if purification.set_aside_ids:
        # Where no kept image is deep, no range was found for them, and those set aside are read as before.
        read_as = replace(alone.decoding, range=alone.decoding.range or images.decoding.range)
        rest = replace(images.subset(purification.set_aside_ids), decoding=read_as)
        return scores.joined(detector.score(rest)), read_as
    return scores, alone.decoding


def notes_on(purification: Purification, detector: Any) -> tuple[str, ...]:
    """Sentences on a purification within a fit, for the report."""
    listed = _listed(purification)
    aside = len(listed.set_aside_ids)
    learned = "learned from them as suspects" if getattr(detector, "uses_set_aside", False) else "never saw them"
    first = (
        f"{aside} of {len(listed.ids)} images were set aside before the detector learned, and it {learned}; they are "
        f"marked below. {purification.rule} {TABLE} holds these scores, {KEPT_LIST} the images that were kept."
    )
    return (first, *purification.notes)


def write_purification(purification: Purification, images: ImageSet, folder: Path) -> tuple[str, ...]:
    """Leave `purification.csv` and `kept.txt`; returns what a person should know of them."""
    listed = _listed(purification)
    with writing_to(folder):
        listed.to_csv(folder / TABLE)
        lines, unlisted = _kept_lines(images, listed.kept_ids)
        (folder / KEPT_LIST).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    if not unlisted:
        return ()
    return (
        f"{len(unlisted)} kept images are not in {KEPT_LIST}, such as '{unlisted[0]}': a list of one path per line "
        f"cannot hold their names; {TABLE} has them.",
    )


def _kept_lines(images: ImageSet, ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """The absolute path of each image, or its id where it has no file; and the ids that no line can hold."""
    lines: list[str] = []
    unlisted: list[str] = []
    for name in ids:
        source = images.sources[name]
        line = name
        if isinstance(source, (Path, RemoteFile)):
            line = os.fspath(source.absolute()) if isinstance(source, Path) else source.url
        broken = "\n" in line or "\r" in line or any("\ud800" <= letter <= "\udfff" for letter in line)
        (unlisted if broken else lines).append(name if broken else line)
    return lines, unlisted


def _write(
    purification: Purification,
    images: ImageSet,
    detector: Any,
    request: PurifyRequest,
    folder: Path,
    watch: Stopwatch,
) -> None:
    listed = _listed(purification)
    with watch.stage("thumbnails and report"):
        notes = (*images.notes, *write_purification(purification, images, folder), *purification.notes)
        write_skipped({**images.left_out, **images.skipped}, folder)
        about = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "image_root": images.place,
            "group_regex": images.grouping,
            "purification": listed.to_json(),
            "notes": list(images.notes),
            "detector": {"settings": asdict(detector)} if isinstance(detector, Detector) else {},
            "decoding": asdict(images.decoding),
            "skipped": len(images.skipped),
            "threads": runtime().threads,
            "device": runtime().device,
            "versions": versions(),
        }
        write_thumbnails(images, listed.set_aside_ids, folder / THUMBNAILS)
        job = of_job(
            images,
            source=request.images,
            detector=detector,
            settings={name: about[name] for name in ("purification", "detector", "decoding")},
            versions=versions(),
            seconds=watch.seconds,
            memory=peak_memory_mib(),
            skipped=images.skipped,
            notes=notes,
        )
        report = of_purification(
            job,
            images,
            listed,
            folder=folder,
            thumbnails=folder / THUMBNAILS,
            kept_list=(request.out or folder) / KEPT_LIST,
        )
        write_report(folder, report, pictures_of(images, listed.set_aside_ids))
    about |= {"seconds": {name: round(each, 3) for name, each in watch.seconds.items()}}
    write_config(folder, {**about, "peak_memory_mib": peak_memory_mib()})


def _listed(purification: Purification) -> Purification:
    """Without the known normals: they are learned from but not listed."""
    return purification.subset(name for name in purification.ids if not is_normal(name))
