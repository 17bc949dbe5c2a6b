"""`purify`: which images of a pile to learn from; and the part of it that `fit --purify` needs."""

import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blemish.detectors import DEFAULT_DETECTOR, Detector, FeatureDetector
from blemish.images import SUSPECTED, ImageSet
from blemish.images.decoding import Decoding
from blemish.images.urls import RemoteFile
from blemish.jobs.request import NORMALS_PREFIX, decoding_of, detector_of, ready, with_normals
from blemish.jobs.results import (
    REPORT,
    Stopwatch,
    identical_in,
    peak_memory_mib,
    refuse_skipped,
    write_skipped,
)
from blemish.machine.disk import writing_to
from blemish.machine.errors import RequestError
from blemish.machine.runtime import runtime, use_runtime
from blemish.purification import KEPT_SCORES, Purification, PurifySettings
from blemish.purification import purify as purify_images
from blemish.report.of_purification import PurificationContent, write_purification_report
from blemish.runs.artifact import PARAMETERS, write_config
from blemish.runs.run import versions
from blemish.runs.transaction import whole_or_absent
from blemish.scores import Scores

TABLE, KEPT_LIST, THUMBNAILS = "purification.csv", "kept.txt", "set-aside"


def purify(
    images: Any,
    out: str | Path | None = None,
    *,
    detector: Any = DEFAULT_DETECTOR,
    how: PurifySettings | None = None,
    normals: Any = None,
    group_regex: str = "",
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
    progress: Any = None,
) -> Purification:
    """Find out which images of a pile a detector should learn from, and leave a list of them for any tool.

    Parameters
    ----------
    detector : a name of `blemish detectors`, a detector, or any object with `fit` and `score`; see
        `purification.purify`. It is not fitted.
    how : the settings of the purification.
    others : see `fit`.

    An interrupted job takes up from the sub-models that were finished. Raises `RequestError` or `JobError`.
    """
    if isinstance(detector, (str, Detector)):
        detector = detector_of(detector, seed=seed, settings=settings or {})
    elif settings:
        raise RequestError("Settings by name are for detectors of blemish; set up your object beforehand.")
    decoding = decoding_of(levels, max_pixels)
    out = Path(out) if out is not None else None
    if out and (out.expanduser() / PARAMETERS).exists():
        raise RequestError(f"'{out}' holds a detector, which would be lost; name another folder with --out.")
    watch = Stopwatch()
    place = whole_or_absent(out, force=force) if out else nullcontext()
    where = use_runtime(
        device=device, threads=threads, cache=Path(cache) if cache else None, ray=ray, progress=progress
    )
    with where, place as staging:
        if isinstance(detector, Detector):
            detector = ready(detector, images)
        with watch.stage("finding images"):
            pile = ImageSet.of(images, decoding=decoding, leave_out=out)
            everything = with_normals(pile.grouped(group_regex), normals)
            if strict:
                refuse_skipped(everything.skipped)
        if isinstance(detector, FeatureDetector):
            with watch.stage("features"):
                everything, _ = detector.prepared(everything)
            if strict:
                refuse_skipped(everything.skipped)
        with watch.stage("purifying"):
            everything, purification = purified(everything, detector, how or PurifySettings(), seed)
        if strict:
            refuse_skipped(everything.skipped)
        if staging is not None:
            _write(purification, everything, detector, images, staging, out, watch)
    purification.forget()
    return _listed(purification)


def purified(images: ImageSet, detector: Any, how: PurifySettings, seed: int) -> tuple[ImageSet, Purification]:
    """The purification of a job, and the images that could be read for it.

    It takes up from what an earlier one with the same settings left in the cache.
    """
    found = purify_images(images, detector, how, seed=seed, resume=runtime().cache / KEPT_SCORES)
    return images.without({name: found.skipped[name] for name in images.ids if name in found.skipped}), found


def fit_on_kept(
    detector: Detector, pile: ImageSet, normals: Any, everything: ImageSet, purification: Purification
) -> tuple[Scores, Decoding]:
    """Fit `detector` on what was kept; returns the scores of all images, and how files are to be read.

    `everything` is the pile with the known normals. What the detector is handed is what a folder with nothing but the
    kept images would give it: their aspect ratio, their range of levels. So it equals a fresh fit on `kept.txt`. One
    that learns from defects is handed all images instead, with those set aside marked as suspected.
    """
    if detector.uses_set_aside:
        suspected = dict.fromkeys(purification.set_aside_ids, SUSPECTED)
        detector.fit(replace(everything, labels={**suspected, **everything.labels}))
        return detector.training_scores_, everything.decoding
    kept = set(purification.kept_ids)
    alone = with_normals(pile.subset(name for name in pile.ids if name in kept).on_its_own(), normals)
    scores = detector.fit(alone).training_scores_
    if purification.set_aside_ids:
        # Where no kept image is deep, no range was found for them, and those set aside are read as before.
        read_as = replace(alone.decoding, range=alone.decoding.range or everything.decoding.range)
        rest = replace(everything.subset(purification.set_aside_ids), decoding=read_as)
        return scores.joined(detector.score(rest)), read_as
    return scores, alone.decoding


def told(purification: Purification, detector: Any) -> tuple[str, ...]:
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
        lines, left_out = _kept_lines(images, listed.kept_ids)
        (folder / KEPT_LIST).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="")
    if not left_out:
        return ()
    return (
        f"{len(left_out)} kept images are not in {KEPT_LIST}, such as '{left_out[0]}': a list of one path a line "
        f"cannot hold their names; {TABLE} has them.",
    )


def _kept_lines(images: ImageSet, ids: Iterable[str]) -> tuple[list[str], list[str]]:
    """The absolute path of each image, or its id where it has no file; and the ids that no line can hold."""
    lines: list[str] = []
    left_out: list[str] = []
    for name in ids:
        source = images.sources[name]
        line = name
        if isinstance(source, (Path, RemoteFile)):
            line = os.fspath(source.absolute()) if isinstance(source, Path) else source.url
        broken = "\n" in line or "\r" in line or any("\ud800" <= letter <= "\udfff" for letter in line)
        (left_out if broken else lines).append(name if broken else line)
    return lines, left_out


def _write(
    purification: Purification,
    images: ImageSet,
    detector: Any,
    source: Any,
    folder: Path,
    out: Path | None,
    watch: Stopwatch,
) -> None:
    listed = _listed(purification)
    with watch.stage("thumbnails and report"):
        notes = (*images.notes, *write_purification(purification, images, folder), *purification.notes)
        write_skipped(images.skipped, folder)
        about = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "image_root": images.place,
            "group_regex": images.grouping,
            "purification": listed.to_json(),
            "detector": {"settings": asdict(detector)} if isinstance(detector, Detector) else {},
            "decoding": asdict(images.decoding),
            "skipped": len(images.skipped),
            "threads": runtime().threads,
            "device": runtime().device,
            "versions": versions(),
        }
        content = PurificationContent(
            title=Path(str(source)).name if isinstance(source, (str, Path)) else "images",
            source=str(source) if isinstance(source, (str, Path)) else None,
            images=images,
            purification=listed,
            detector=str(getattr(detector, "name", type(detector).__name__)),
            detector_description=str(getattr(detector, "summary", "not a detector of blemish")),
            patent_notice=getattr(detector, "patent", None),
            settings={name: about[name] for name in ("purification", "detector", "decoding")},
            versions=versions(),
            seconds=watch.seconds,
            peak_memory_mib=peak_memory_mib(),
            skipped=images.skipped,
            notes=notes,
            identical=identical_in(images),
            thumbnails=folder / THUMBNAILS,
            kept_list=(out or folder) / KEPT_LIST,
        )
        write_purification_report(folder / REPORT, content)
    about |= {"seconds": {name: round(each, 3) for name, each in watch.seconds.items()}}
    write_config(folder, {**about, "peak_memory_mib": peak_memory_mib()})


def _listed(purification: Purification) -> Purification:
    """Without the known normals: they are learned from but not listed."""
    return purification.subset(name for name in purification.ids if not name.startswith(NORMALS_PREFIX))
