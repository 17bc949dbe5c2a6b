"""The jobs a person asks for, from start to finish, whole or absent: one file a job."""

from blemish.jobs.each_subfolder import fit_each
from blemish.jobs.fitting import fit
from blemish.jobs.purifying import purify
from blemish.jobs.refitting import refit
from blemish.jobs.results import REPORT, peak_memory_mib
from blemish.jobs.scoring import drift_of, score

__all__ = ["REPORT", "drift_of", "fit", "fit_each", "peak_memory_mib", "purify", "refit", "score"]
