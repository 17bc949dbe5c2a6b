"""What the report of a Run says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.calibration import Decision, ReliabilityBin
from blemish.machine.errors import RequestError
from blemish.report.page import JobContent
from blemish.scores import Scores
from blemish.scores.heatmaps import MapScale


@dataclass(frozen=True, kw_only=True)
class ReportContent(JobContent):
    """What the report of a Run says.

    Attributes
    ----------
    images, scores : of the same ids; `images` may hold more.
    threshold : images with a score above it are flagged.
    contamination : estimated share of bad images, 0..1; `estimated_bad` is their estimated number.
    threshold_method : a sentence on how the threshold was found.
    threshold_assumption : a sentence on what must hold for it.
    decision : the whole decision: interval, bands, chances and what would help.
    reviewed : how many images a person looked at; `reliability` of the chances on them.
    scale : of the maps, as in the heatmap files.
    set_aside : ids that purification kept the detector from learning from; None where there was none.
    heatmaps : the folder of `write_heatmaps`; files found there are linked.
    run : the folder of the run as it will be named in the end, if the report is written elsewhere first.
    model : the folder of the detector, where it is another than `run`.
    """

    scores: Scores
    threshold: float
    contamination: float
    estimated_bad: int
    threshold_method: str
    threshold_assumption: str
    scale: MapScale
    decision: Decision | None = None
    reviewed: int = 0
    reliability: Sequence[ReliabilityBin] = ()
    set_aside: frozenset[str] | None = None
    heatmaps: Path | None = None
    run: Path | None = None
    model: Path | None = None

    def __post_init__(self) -> None:
        """Check the one number everything is drawn against."""
        if not np.isfinite(self.threshold):
            raise RequestError(f"The threshold must be a finite number; got {self.threshold}.")

    def flags(self, score: float) -> bool:
        """Whether a score is above the threshold, both as float32: the same answer as in scores.csv."""
        return bool(np.float32(score) > np.float32(self.threshold))
