"""What a cell can ask for. A job takes a cell and gives rows: measures and costs, one row a protocol or choice."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from blemish.benchmark.cells import Cell
from blemish.benchmark.contamination import Manifest
from blemish.benchmark.datasets import Category
from blemish.detectors.parts.views import SEMANTIC_VIEWS
from blemish.machine.errors import RequestError

# By name, the function that does it, imported when it is asked for.
JOBS = {
    "fit": "blemish.benchmark.fit_job:fit",
    "speed": "blemish.benchmark.fit_job:speed",
    "quarters": "blemish.benchmark.experiments.qualitative:quarters",
    "toy": "blemish.benchmark.experiments.semantic:toy",
    "distances": "blemish.benchmark.experiments.observations:distances",
    "matching": "blemish.benchmark.experiments.observations:matching",
    "core-ablation": "blemish.benchmark.experiments.core_ablation:fit_changed",
    "closed_forms": "blemish.benchmark.experiments.observations:closed_forms",
}


QUICK = "quick"  # the preset that shows that a detector runs: of these settings, those that it has
LEAST_WORK = {"epochs": 0, "steps": 60, "share": 0.01, "entries": 1000, "seeds": 3, "retrieved": 8}


@dataclass(frozen=True)
class Task:
    """What a job works on.

    Attributes
    ----------
    cell : what to do.
    category : limited to the cell's images; None for a job without.
    manifest : its training images; None for a job without.
    place : where the job may leave files, as `folder`; what runs of a bench share is beside it.
    """

    cell: Cell
    category: Category | None
    manifest: Manifest | None
    place: Path

    @property
    def folder(self) -> Path:
        """Where to leave files."""
        self.place.mkdir(parents=True, exist_ok=True)
        return self.place

    def images(self) -> tuple[Category, Manifest]:
        """Category and manifest. Raises `RequestError` for a cell that names none."""
        if self.category is None or self.manifest is None:
            raise RequestError(f"The job '{self.cell.job}' needs images; name a dataset with `data`.")
        return self.category, self.manifest


Job = Callable[[Task], list[dict[str, Any]]]


def job(name: str) -> Job:
    """The job called `name`."""
    module, _, attribute = JOBS[name].partition(":")
    found: Job = getattr(import_module(module), attribute)
    return found


@contextmanager
def timed(row: dict[str, Any], name: str) -> Iterator[None]:
    """Put the seconds of the block into `row`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        row[name] = time.perf_counter() - start


def settings_of(cell: Cell, kind: Any) -> Mapping[str, Any]:
    """The settings of the cell's detector: its preset, and over it the settings by name. Raises `RequestError`."""
    semantic = {"semantic": {"views": SEMANTIC_VIEWS}} if kind.looks_at_patches else {}
    quick = {name: value for name, value in LEAST_WORK.items() if name in kind().settings()}
    presets = {"": {}, **semantic, **getattr(kind, "presets", {}), QUICK: quick}
    if cell.preset not in presets:
        raise RequestError(f"{cell.detector} has no preset '{cell.preset}'; it has {', '.join(filter(None, presets))}.")
    return {**presets[cell.preset], **cell.settings}
