"""FUN-AD: small networks trained on pseudo-labels, from a memory bank that is rebuilt as they learn."""

from blemish.detectors.funad.detector import FunAD
from blemish.detectors.funad.schedule import PAPER, Schedule

__all__ = ["PAPER", "FunAD", "Schedule"]
