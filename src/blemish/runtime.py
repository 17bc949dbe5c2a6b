"""Where and how a job runs: device, threads, cache, progress. Never changes what a job computes."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import platformdirs

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much is done and how much there is."""

CACHE_BYTES = 50 * 2**30  # feature sets not used lately are dropped above this


def quiet(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def available_cores() -> int:
    """Cores this process may use, which in a container is fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Runtime:
    """Settings of the place a job runs in.

    Attributes
    ----------
    device : a torch device, such as "cpu" or "cuda:0".
    threads : how many cores to use.
    cache : where features are kept between jobs.
    cache_bytes : size above which the least recently used feature sets are dropped.
    keep_features : whether newly made features are written to the cache.
    progress : told how far a stage is.
    """

    device: str = "cpu"
    threads: int = field(default_factory=available_cores)
    cache: Path = field(default_factory=lambda: Path(platformdirs.user_cache_dir("blemish")))
    cache_bytes: int = CACHE_BYTES
    keep_features: bool = True
    progress: Progress = quiet


_CURRENT: ContextVar[Runtime | None] = ContextVar("blemish_runtime", default=None)


def runtime() -> Runtime:
    """The runtime in force here."""
    return _CURRENT.get() or Runtime()


@contextmanager
def use_runtime(**changes: Any) -> Iterator[Runtime]:
    """Put a changed runtime in force for a `with` block; settings given as None stay as they are."""
    changed = replace(runtime(), **{name: value for name, value in changes.items() if value is not None})
    token = _CURRENT.set(changed)
    try:
        with intra_op_threads(changed.threads):
            yield changed
    finally:
        _CURRENT.reset(token)


@contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    """Let one tensor operation use `count` threads inside the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
