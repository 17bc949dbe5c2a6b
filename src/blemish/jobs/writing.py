"""The folder that `fit` leaves: scores, pictures, report, and what `load` reads back."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from blemish import calibration
from blemish.images import NORMAL, UNKNOWN, ImageSet
from blemish.jobs.purifying import notes_on, write_purification
from blemish.jobs.request import FitRequest
from blemish.jobs.results import (
    HEATMAPS,
    REPORT,
    Stopwatch,
    identical_in,
    peak_memory_mib,
    source_of,
    title_of,
    write_flagged_heatmaps,
    write_flagged_regions,
    write_skipped,
)
from blemish.machine.errors import RequestError
from blemish.machine.runtime import runtime
from blemish.purification import Purification
from blemish.report import write_report
from blemish.report.content import ReportContent
from blemish.runs.artifact import SCORES, write_artifact
from blemish.runs.run import Run
from blemish.runs.stored_scores import write_maps


def write_run(
    run: Run,
    images: ImageSet,
    request: FitRequest,
    folder: Path,
    watch: Stopwatch,
    purification: Purification | None,
) -> None:
    """Write all of it into `folder`; `images` are all those scored."""
    scores = run.scores
    if scores is None:
        raise RequestError("A Run loaded from disk holds no maps; only a fresh one can be written.")
    reviewed = np.array([images.labels.get(name, UNKNOWN) for name in scores.ids])
    with watch.stage("heatmaps and report"):
        decision = run.decision
        bands = decision.bands(scores.image)
        scores.to_csv(folder / SCORES, run.threshold_, decision.chances(scores.image, reviewed), bands)
        write_maps(folder, scores, images.content)
        write_skipped(run.skipped, folder)
        if not images.features_alone:
            write_flagged_regions(scores, run.threshold_, run.pixel_threshold, folder, masks=request.masks)
        write_flagged_heatmaps(images, scores, run.threshold_, run.map_scale, folder)
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
        content = ReportContent(
            title=title_of(images, request.images),
            source=source_of(request.images),
            images=images,
            scores=scores,
            threshold=run.threshold_,
            contamination=run.contamination_,
            estimated_bad=round(run.contamination_ * len(scores)),
            threshold_method=decision.rule,
            threshold_assumption=decision.assumption,
            decision=decision,
            reviewed=int((reviewed != UNKNOWN).sum()),
            reliability=calibration.reliability(scores.image, reviewed),
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
