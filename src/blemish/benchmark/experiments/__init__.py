"""The experiments by name: `benchmark/experiment_names.py` says what each name, such as T1, means."""

from difflib import get_close_matches

from blemish.benchmark.experiments import (
    core_ablation,
    fun_ad,
    funad_paper,
    llbnad,
    observations,
    qualitative,
    semantic,
)
from blemish.benchmark.experiments.compare import NAME as COMPARE
from blemish.benchmark.experiments.compare import compare
from blemish.benchmark.experiments.experiment import FULL, QUICK, STANDARD, Entry, Experiment, Planned, Size, lacking
from blemish.benchmark.experiments.record import NAME as RECORD
from blemish.benchmark.experiments.record import record
from blemish.machine.errors import RequestError

EXPERIMENTS = {
    each.name: each
    for each in (
        *fun_ad.EXPERIMENTS,
        *semantic.EXPERIMENTS,
        *observations.EXPERIMENTS,
        *qualitative.EXPERIMENTS,
        *llbnad.EXPERIMENTS,
        *core_ablation.EXPERIMENTS,
        *funad_paper.EXPERIMENTS,
        record(),
    )
}

__all__ = [
    "COMPARE",
    "EXPERIMENTS",
    "FULL",
    "QUICK",
    "RECORD",
    "STANDARD",
    "Entry",
    "Experiment",
    "Planned",
    "Size",
    "compare",
    "experiment",
    "lacking",
    "record",
]


def experiment(name: str) -> Experiment:
    """The experiment called `name`, in any case. Raises `RequestError` with near names."""
    known = {each.lower(): each for each in EXPERIMENTS}
    if name.lower() not in known:
        near = [known[each] for each in get_close_matches(name.lower(), known, n=3)] or [*EXPERIMENTS, COMPARE]
        raise RequestError(f"There is no experiment '{name}'; did you mean {', '.join(near)}?")
    return EXPERIMENTS[known[name.lower()]]
