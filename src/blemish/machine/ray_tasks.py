"""Work as tasks of a Ray cluster: its scheduler, its object store, its retries. Nothing here decides what is computed.

Tasks get what they need as objects, images as the bytes of their files, so nodes need no disk in common. A node that
dies costs the time of its tasks: Ray runs them again elsewhere. Between driver and workers Ray uses pickles, as it
always does; connect to clusters of your own only.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import urlsplit

from blemish.machine.errors import JobError, RequestError
from blemish.machine.extras import needed
from blemish.machine.runtime import Runtime, quiet, runtime, use_runtime

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")
AHEAD = 2  # tasks a core that are submitted together: the next one waits where it will run, memory stays bounded
ANSWERS_WITHIN = 5.0  # seconds
LOCAL = "local"  # in place of an address: a cluster on this machine, for the time of the job


def connected(address: str) -> Any:
    """Ray, connected to the cluster at `address`. Raises `RequestError` if it cannot be."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it reports usage to its makers otherwise
    ray = needed("ray", "ray", "`ray`")
    if ray.is_initialized():
        return ray
    try:
        _answers(address)
        options: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
        ray.init(address=address, log_to_driver=False, logging_level="error", **options)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError, and those of grpc
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RequestError(
            f"There is no Ray cluster at '{address}' ({reason}); give the address that `ray start --head` printed, or "
            f"`ray`='{LOCAL}' for one on this machine."
        ) from None
    return ray


def _answers(address: str) -> None:
    """Raise `OSError` where nothing listens at the host and port of `address`: Ray tries for minutes by itself."""
    place = urlsplit(f"//{address.removeprefix('ray://')}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=ANSWERS_WITHIN).close()


def in_tasks(function: Callable[[S, T], R], shared: S, items: Iterable[T]) -> Generator[R, None, None]:
    """`function(shared, item)` of every item, in order, on the cluster of the runtime; `shared` travels once.

    Each task has one core and runs in the caller's runtime with one thread, so its numbers are the same as here, as far
    as the arithmetic of the processors is. Raises what the function raised.
    """
    ray = connected(runtime().ray or LOCAL)
    where = replace(runtime(), progress=quiet, ray=None, threads=1, checkpoints=None)
    task = ray.remote(num_cpus=1, max_retries=-1)(_task)
    held, about = ray.put(shared), (where, version("blemish"))
    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting: deque[Any] = deque()
    rest = iter(items)
    try:
        while True:
            while len(waiting) < AHEAD * cores and (item := next(rest, None)) is not None:
                waiting.append(task.remote(function, held, item, about))
            if not waiting:
                return
            try:
                yield ray.get(waiting.popleft())
            except ray.exceptions.RayTaskError as error:
                raise getattr(error, "cause", None) or JobError(f"A task of the cluster failed: {error}") from None
            except ray.exceptions.RayError as error:
                raise JobError(f"The cluster could not finish a task ({error}); start the same job again.") from error
    finally:
        for left in waiting:
            ray.cancel(left, force=False)


def _task(function: Callable[[S, T], R], shared: S, item: T, about: tuple[Runtime, str]) -> R:
    where, wanted = about
    if version("blemish") != wanted:
        raise JobError(f"A node of the cluster has blemish {version('blemish')}, this machine {wanted}; install one.")
    with use_runtime(**{name: getattr(where, name) for name in where.__dataclass_fields__}):
        return function(shared, item)
