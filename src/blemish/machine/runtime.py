"""Where and how a job runs: device, threads, cache, progress. Never changes what a job computes."""

import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from blemish.machine.errors import RequestError

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much is done and how much there is."""

LONGEST_REASON = 200  # characters of what torch says of a device
CACHE_BYTES = 50 * 2**30  # feature sets not used lately are dropped above this
CONTAINER_CORES = Path("/sys/fs/cgroup/cpu.max")  # "QUOTA PERIOD" in microseconds, or "max PERIOD"


def quiet(stage: str, done: int, total: int) -> None:
    """Show nothing."""


def available_cores() -> int:
    """Cores this process may use, which in a container is fewer than the machine has."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CONTAINER_CORES.read_text().split()
        return max(1, min(count, int(quota) // int(period)))
    except (OSError, ValueError):  # no container, or one without a limit
        return count


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
    ray : address of a Ray cluster that takes what can be done apart; None for this machine alone.
    checkpoints : folder where detectors that train for long leave their state, and take it up.
    progress : called with how far a stage is.
    """

    device: str = "cpu"
    threads: int = field(default_factory=available_cores)
    cache: Path = field(default_factory=lambda: Path(platformdirs.user_cache_dir("blemish")))
    cache_bytes: int = CACHE_BYTES
    keep_features: bool = True
    checkpoints: Path | None = None
    ray: str | None = None
    progress: Progress = quiet

    def __post_init__(self) -> None:
        """Check what a person can get wrong. Raises `RequestError`."""
        if self.threads < 1:
            raise RequestError(f"`threads` must be at least 1; got {self.threads}.")
        if self.device != "cpu":
            _check_device(self.device)


_CURRENT: ContextVar[Runtime | None] = ContextVar("blemish_runtime", default=None)


def runtime() -> Runtime:
    """The runtime in force here."""
    return _CURRENT.get() or Runtime()


@contextmanager
def use_runtime(**changes: Any) -> Iterator[Runtime]:
    """Put a changed runtime in force for a `with` block; settings given as None stay as they are."""
    settings = {name: value for name, value in changes.items() if value is not None}
    settings |= {name: Path(settings[name]).expanduser() for name in ("cache", "checkpoints") if name in settings}
    changed = replace(runtime(), **settings)
    token = _CURRENT.set(changed)
    try:
        with intra_op_threads(changed.threads):
            yield changed
    finally:
        _CURRENT.reset(token)


@contextmanager
def intra_op_threads(count: int) -> Iterator[None]:
    """Let one tensor operation use `count` threads inside the block; one in a forked child.

    OpenMP's threads do not live on after a fork, and a child that asks for them hangs.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if _forked else count)
    try:
        yield
    finally:
        torch.set_num_threads(1 if _forked else before)


_forked = False  # whether this process was forked from one that had used threads


@lru_cache(maxsize=4)
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads that stay: with every new thread the C library would put by another store of free memory."""
    return ThreadPoolExecutor(count, thread_name_prefix="blemish")


def _after_fork() -> None:
    """In a forked child: the threads of the parent are not there, so that whoever waited for them would hang."""
    global _forked
    _forked = True
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def in_threads(
    function: Callable[[T], R], items: Sequence[T], count: int, on_stop: Callable[[], None] | None = None
) -> Generator[R, None, None]:
    """`function` of every item in turn, `count` at a time; what has not begun is dropped on an error or Ctrl-C.

    What has begun is waited for; `on_stop` is called first, so that it can end early.
    """
    if count == 1:  # without a thread: one that waited for itself would wait for ever
        yield from map(function, items)
        return
    futures = [_pool(count).submit(function, item) for item in items]
    try:
        for future in futures:
            yield future.result()
    except BaseException:
        if on_stop:
            on_stop()
        raise
    finally:
        for future in futures:
            future.cancel()
        wait(futures)


def side_by_side(function: Callable[[T], R], items: Sequence[T], on_stop: Callable[[], None] | None = None) -> list[R]:
    """`function` of every item, as many at a time as the runtime has threads, each with its own tensor operations.

    For matrices of our sizes this is as fast as sharing one operation among the cores, does not stall on a busy
    machine, and gives the same numbers whatever the number of threads. Each runs in the caller's runtime, but with one
    thread: what it wants to do side by side in turn, it does one after the other. For `on_stop` see `in_threads`.
    """
    import torch

    learning, alone = torch.is_grad_enabled(), replace(runtime(), threads=1)

    def one(place: tuple[Context, T]) -> R:
        return place[0].run(within, place[1])

    def within(item: T) -> R:
        _CURRENT.set(alone)
        with torch.set_grad_enabled(learning):  # a thread begins with gradients on
            return function(item)

    places = [(copy_context(), item) for item in items]
    with intra_op_threads(1), closing(in_threads(one, places, runtime().threads, on_stop)) as results:
        return list(results)


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    except Exception as error:  # torch raises a dozen kinds, depending on how it was built
        reason = re.split(r"\n|\. ", str(error), maxsplit=1)[0].strip() or type(error).__name__
        raise RequestError(
            f"The device '{device}' cannot be used ({reason[:LONGEST_REASON]}); leave out `device` for the CPU."
        ) from None
