"""The jobs a person asks for, from start to finish, whole or absent: one file a job."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blemish.jobs.each_subfolder import fit_each
    from blemish.jobs.fitting import fit
    from blemish.jobs.purifying import purify
    from blemish.jobs.refitting import refit
    from blemish.jobs.scoring import score

__all__ = ["fit", "fit_each", "purify", "refit", "score"]

_HOMES = {
    "fit": "fitting",
    "fit_each": "each_subfolder",
    "purify": "purifying",
    "refit": "refitting",
    "score": "scoring",
}


def __getattr__(name: str) -> Any:
    """Import a job when it is first used: the options of all can be read at once, without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'blemish.jobs' has no attribute '{name}'")
    return getattr(import_module(f"blemish.jobs.{_HOMES[name]}"), name)
