"""How many images are bad, and above which score: decided from scores alone, or with a few labels."""

from blemish.calibration.deciding import decide, for_listed
from blemish.calibration.decision import Decision, at_contamination, at_threshold, check
from blemish.calibration.probability import Probability, ReliabilityBin, probability, reliability
from blemish.calibration.rules import DEFAULT_RULE, NAMES, rule_called

__all__ = [
    "DEFAULT_RULE",
    "NAMES",
    "Decision",
    "Probability",
    "ReliabilityBin",
    "at_contamination",
    "at_threshold",
    "check",
    "decide",
    "for_listed",
    "probability",
    "reliability",
    "rule_called",
]
