"""How many images are bad, and which: decided from scores alone, or with a few labels, by one model."""

from blemish.calibration.deciding import chance_knots, decide, folder_chances, mean_chance
from blemish.calibration.decision import (
    BAND_WORDS,
    CLEAN,
    DEFECTS,
    UNCLEAR,
    Band,
    Chance,
    Decision,
    at_contamination,
    at_sensitivity,
    at_threshold,
    check,
    moved,
    threshold_for,
)
from blemish.calibration.posterior import TwoGroups, two_groups
from blemish.calibration.reference import Promise, false_share, images_for, p_values, promised, smallest_rate
from blemish.calibration.reliability import ReliabilityBin, reliability

__all__ = [
    "CLEAN",
    "DEFECTS",
    "UNCLEAR",
    "BAND_WORDS",
    "Band",
    "Chance",
    "Decision",
    "Promise",
    "ReliabilityBin",
    "TwoGroups",
    "at_contamination",
    "at_sensitivity",
    "at_threshold",
    "chance_knots",
    "check",
    "threshold_for",
    "decide",
    "false_share",
    "folder_chances",
    "images_for",
    "mean_chance",
    "moved",
    "p_values",
    "promised",
    "reliability",
    "smallest_rate",
    "two_groups",
]
