"""The jobs a person asks for, from start to finish: fit and score, whole or absent."""

import csv
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blemish import calibration
from blemish.artifact import PARAMETERS, SCORES, write_artifact, write_config
from blemish.calibration import Decision
from blemish.decoding import Decoding
from blemish.detectors import DEFAULT_DETECTOR, Detector, FeatureDetector, detector_class
from blemish.detectors.settings import check_names
from blemish.errors import RequestError
from blemish.features.backbones import GIVEN
from blemish.heatmaps import MapScale, write_heatmaps
from blemish.images import NORMAL, ImageSet
from blemish.report import ReportContent, write_report
from blemish.run import Run, load, versions
from blemish.runtime import runtime, use_runtime
from blemish.scores import Scores
from blemish.transaction import whole_or_absent

REPORT, HEATMAPS, SKIPPED = "report.html", "heatmaps", "skipped.csv"
NORMALS_PREFIX = "normals//"  # ids of images from --normals: no path of the pile has two slashes in a row


@dataclass
class Stopwatch:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def fit(
    images: Any,
    out: str | Path | None = None,
    *,
    detector: str | Detector = DEFAULT_DETECTOR,
    fast: bool = False,
    normals: Any = None,
    threshold: float | None = None,
    contamination: float | None = None,
    decoding: Decoding | None = None,
    strict: bool = False,
    force: bool = False,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    threads: int | None = None,
    cache: str | Path | None = None,
    progress: Any = None,
) -> Run:
    """Learn from a pile of unlabelled images which of them are anomalous, and leave a detector.

    Parameters
    ----------
    images : a folder, a list file, paths, PIL images or uint8 RGB arrays (H, W, 3), levels 0..255; or features
        alone, `ImageSet.of_features`.
    out : folder to leave the Run in; nothing is written without one.
    detector : a name of `blemish detectors`, or a detector.
    fast : the detector's settings for speed, at some cost in quality.
    normals : images known to be good, which are learned from but not listed.
    threshold, contamination : overrule the label-free decision.
    strict : an unreadable file is an error instead of being skipped.
    settings : settings of the detector by name.
    seed, device, threads, cache : see `Detector` and `Runtime`.

    Raises
    ------
    RequestError, JobError
    """
    calibration.check(threshold, contamination)
    chosen = _detector(detector, fast=fast, seed=seed, settings=settings or {})
    out = Path(out) if out is not None else None
    watch = Stopwatch()
    place = whole_or_absent(out, force=force) if out else nullcontext()
    where = use_runtime(device=device, threads=threads, cache=Path(cache) if cache else None, progress=progress)
    with where, place as staging:
        chosen = _ready(chosen, images)
        with watch.stage("finding images"):
            pile = ImageSet.of(images, decoding=decoding, leave_out=out)
            everything = _with_normals(pile, normals)
            if strict:
                _refuse_skipped(everything.skipped)
        if isinstance(chosen, FeatureDetector):
            with watch.stage("features"):
                everything, _ = chosen.prepared(everything)
        if strict:
            _refuse_skipped(everything.skipped)
        with watch.stage("learning"):
            chosen.fit(everything)
        scores = chosen.training_scores_
        everything = everything.without(scores.skipped)  # what a detector that reads images itself could not read
        if strict:
            _refuse_skipped(everything.skipped)
        listed = scores.subset([name for name in scores.ids if not name.startswith(NORMALS_PREFIX)])
        decision = _decide(scores, listed, threshold, contamination)
        run = Run(
            chosen,
            decision,
            everything.decoding,
            MapScale.of(listed, decision.threshold),
            listed.image,
            listed,
            known={everything.content[name]: scores[name] for name in scores.ids},
            skipped=everything.skipped,
            folder=out,
        )
        if staging is not None:
            _write_run(run, everything, images, staging, watch)
    return run


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
    out = Path(out) if out is not None else None
    if out and (out.expanduser() / PARAMETERS).exists():
        raise RequestError(f"'{out}' holds a detector, which scores would overwrite; name another folder with --out.")
    place = whole_or_absent(out, force=force) if out else nullcontext()
    changes = {"cache": Path(cache) if cache else None, "device": device, "threads": threads}
    with use_runtime(**changes, progress=progress, keep_features=False), place as staging:
        decoding = replace(
            run.decoding,
            range=levels or run.decoding.range,
            max_pixels=max_pixels or run.decoding.max_pixels,
        )
        found = ImageSet.of(images, decoding=decoding, leave_out=out, find_range=False)
        if strict:
            _refuse_skipped(found.skipped)
        scores = run.scored(found)
        skipped = {**found.skipped, **scores.skipped}
        if strict:
            _refuse_skipped(skipped)
        decision = run.decision
        if threshold is not None:
            decision = calibration.at_threshold(run.training_scores, threshold)
        elif contamination is not None:
            decision = calibration.at_contamination(run.training_scores, contamination)
        if staging is not None:
            scores.to_csv(staging / SCORES, decision.threshold)
            _write_skipped(skipped, staging)
            _write_flagged_heatmaps(found, scores, decision.threshold, run.map_scale, staging)
            about = {
                "model": str(run.folder.resolve()) if run.folder else None,
                "image_root": str(found.root.resolve()) if found.root else None,
                "decision": decision.to_json(),
                "map_scale": asdict(run.map_scale),
                "versions": versions(),
            }
            write_config(staging, about)
    return replace(scores, skipped=skipped), decision


def _detector(which: str | Detector, *, fast: bool, seed: int, settings: Mapping[str, Any]) -> Detector:
    if isinstance(which, Detector):
        return which.clone(**settings)
    found = detector_class(which)
    check_names({each.name for each in fields(found)}, settings)
    if seed < 0:
        raise RequestError(f"The seed must be 0 or more; got {seed}.")
    return found(**{**(found.fast_settings if fast else {}), "random_state": seed, **settings})


def _ready(detector: Detector, images: Any) -> Detector:
    """The detector set up for what it will look at: its weights are here, or it takes features as they are."""
    if isinstance(images, ImageSet) and images.features_alone:
        if not isinstance(detector, FeatureDetector):
            raise RequestError(f"{detector.name} looks at images, and these are features alone; take another detector.")
        return detector.clone(backbone=GIVEN)
    if isinstance(detector, FeatureDetector):
        detector.obtain_weights()
    return detector


def _with_normals(pile: ImageSet, normals: Any) -> ImageSet:
    if normals is None:
        return pile
    good = ImageSet.of(normals, decoding=pile.decoding)
    if good.features_alone != pile.features_alone:
        raise RequestError("The normals must be what the pile is, either images or features; got one of each.")
    known = {good.content[name] for name in good.ids}  # a folder of normals may lie within the pile
    return pile.subset(name for name in pile.ids if pile.content[name] not in known).joined(
        good, prefix=NORMALS_PREFIX, label=NORMAL
    )


def _refuse_skipped(skipped: Mapping[str, str]) -> None:
    if skipped:
        name, reason = next(iter(skipped.items()))
        raise RequestError(
            f"{len(skipped)} files cannot be used, such as '{name}' ({reason}); mend them, or leave out --strict to "
            "skip them."
        )


def _decide(scores: Scores, listed: Scores, threshold: float | None, contamination: float | None) -> Decision:
    if threshold is not None:
        return calibration.at_threshold(listed.image, threshold)
    if contamination is not None:
        return calibration.at_contamination(listed.image, contamination)
    decision = calibration.decide(scores.image)
    share = float((listed.image > decision.threshold).mean())
    return replace(decision, contamination=share)


def _write_run(run: Run, images: ImageSet, source: Any, folder: Path, watch: Stopwatch) -> None:
    scores = run.scores
    if scores is None:
        raise RequestError("A Run loaded from disk holds no maps; only a fresh one can be written.")
    with watch.stage("heatmaps and report"):
        scores.to_csv(folder / SCORES, run.threshold_)
        _write_skipped(run.skipped, folder)
        _write_flagged_heatmaps(images, scores, run.threshold_, run.map_scale, folder)
        identical = _identical(images)
        run.about = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "image_root": str(images.root.resolve()) if images.root else None,
            "images": len(scores),
            "known_normals": len(images.labels),
            "skipped": len(run.skipped),
            "threads": runtime().threads,
            "device": runtime().device,
        }
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
            settings={name: config[name] for name in ("detector", "decoding", "seed")},
            versions=config["versions"],
            seconds=watch.seconds,
            peak_memory_mib=peak_memory_mib(),
            skipped=run.skipped,
            notes=images.notes,
            identical=identical,
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


def _write_flagged_heatmaps(images: ImageSet, scores: Scores, threshold: float, scale: MapScale, folder: Path) -> None:
    (folder / HEATMAPS).mkdir()
    flagged = [name for name in scores.ranking() if scores.image[scores.index(name)] > threshold]
    progress = runtime().progress
    write_heatmaps(
        images,
        scores,
        flagged,
        scale,
        folder / HEATMAPS,
        lambda done, total: progress("heatmaps", done, total),
    )


def _write_skipped(skipped: Mapping[str, str], folder: Path) -> None:
    with (folder / SKIPPED).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("path", "reason"))
        table.writerows(sorted(skipped.items()))


def _identical(images: ImageSet) -> list[list[str]]:
    by_content: dict[str, list[str]] = {}
    for name in images.ids:
        by_content.setdefault(images.content[name], []).append(name)
    return [names for names in by_content.values() if len(names) > 1]


def peak_memory_mib() -> float | None:
    """The most memory this process has held, MiB; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
