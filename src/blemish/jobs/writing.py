"""The folder that `fit` writes: scores, pictures, report, and what `load` reads back."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from blemish import calibration
from blemish.images import NORMAL, UNKNOWN, ImageSet
from blemish.jobs.outputs import (
    HEATMAPS,
    Stopwatch,
    peak_memory_mib,
    pictures_of_report,
    write_scores,
)
from blemish.jobs.purifying import notes_on, write_purification
from blemish.jobs.request import FitRequest
from blemish.machine.runtime import runtime
from blemish.purification import Purification
from blemish.report import of_job, of_scores, write_report
from blemish.runs.artifact import write_artifact
from blemish.runs.run import Run

SETTINGS = ("detector", "decoding", "seed", "purification")  # what the report shows of `config.json`


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
    reviewed = np.array([images.labels.get(name, UNKNOWN) for name in scores.ids])
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
