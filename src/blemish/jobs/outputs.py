"""What jobs write of scored images: scores, maps, heatmaps, regions, what was skipped, pictures of the report."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blemish.images import ImageSet
from blemish.report.pictures import Picture, pictures_of
from blemish.runs.artifact import SCORES
from blemish.runs.run import Run
from blemish.runs.stored_scores import write_maps
from blemish.scores import Scores
from blemish.scores.heatmaps import MapScale, write_heatmaps
from blemish.scores.regions import write_regions

HEATMAPS, SKIPPED = "heatmaps", "skipped.csv"


def write_scores(
    images: ImageSet, scores: Scores, run: Run, folder: Path, *, masks: bool, labels: NDArray[np.int64] | None = None
) -> None:
    """Write the scores and their maps, what was skipped, and regions and heatmaps of the images that do not pass.

    `scores` have their decision; `labels` (N,) are what a person found; with `masks` the regions have theirs.
    """
    decision = scores.decision
    if decision is None:
        raise RuntimeError("scores are written with their decision")
    bands, chances = decision.bands(scores.image, labels), decision.chances(scores.image, labels)
    unusual = [name for name, band in scores.bands.items() if band != "pass"]
    scores.to_csv(folder / SCORES, decision.threshold, chances, bands)
    write_maps(folder, scores, images.content)
    write_skipped({**images.left_out, **scores.skipped}, folder)
    if run.pixel_threshold is not None and not images.features_alone:
        write_regions(scores, unusual, run.pixel_threshold, folder, masks=masks)
    (folder / HEATMAPS).mkdir()
    write_heatmaps(images, scores, unusual, run.map_scale, folder / HEATMAPS)


def write_skipped(skipped: Mapping[str, str], folder: Path) -> None:
    """Write `skipped.csv`: `path,reason` of each file that was not scored."""
    pd.DataFrame(sorted(skipped.items()), columns=["path", "reason"]).to_csv(folder / SKIPPED, index=False)


def pictures_of_report(images: ImageSet, scores: Scores, scale: MapScale) -> dict[str, Picture]:
    """The pictures of a report, the most unusual images first; none of features alone."""
    return {} if images.features_alone else pictures_of(images, scores.ranking(), scores, scale)
