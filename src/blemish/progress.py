"""Progress bars with the time left, on the terminal's standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from blemish.runtime import Progress, quiet

SLOW_ENOUGH = 2  # items below which a bar would only flicker


@contextmanager
def progress_bars(shown: bool) -> Iterator[Progress]:
    """A function that shows how far each stage is, one bar a stage; silent where `shown` is false."""
    if not shown:
        yield quiet
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("spent"),
        TimeElapsedColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=False) as bars:
        tasks: dict[str, int] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                if total <= SLOW_ENOUGH:
                    return
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done)  # type: ignore[arg-type]

        yield show
