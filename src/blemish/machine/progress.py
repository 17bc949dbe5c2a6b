"""How far a job is, on standard error: bars with the time left for a person, lines of JSON for a program."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blemish.machine.runtime import Progress, quiet

PACE = 0.2  # seconds between two lines of a stage
PATIENCE = 0.5  # seconds a stage lasts before its bar is drawn: shorter ones would only flicker


@contextmanager
def progress_bars(shown: bool) -> Iterator[Progress]:
    """A function that shows how far each stage is, one bar a stage.

    Silent where `shown` is false, and where nobody sees it: in a log file or a pipe.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield quiet
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("spent"),
        TimeElapsedColumn(),
        console=console,
    )
    began: dict[str, float] = {}
    tasks: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            if time.monotonic() - began.setdefault(stage, time.monotonic()) < PATIENCE or done >= total:
                return
            bars.start()
            tasks[stage] = bars.add_task(stage, total=total, completed=done)
        bars.update(tasks[stage], completed=done)

    try:
        yield show
    finally:
        if tasks:
            bars.stop()


def progress_lines(stage: str, done: int, total: int) -> None:
    """Write `{"stage": ..., "done": ..., "total": ...}` as a line, some a second at most and the last of each stage."""
    now = time.monotonic()
    if done < total and stage == _last.get("stage") and now - _last["time"] < PACE:
        return
    _last.update(stage=stage, time=now)
    print(json.dumps({"stage": stage, "done": done, "total": total}), file=sys.stderr, flush=True)  # noqa: T201


_last: dict[str, Any] = {}
