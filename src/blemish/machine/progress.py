"""How far a job is: one bar with one time left for a person, lines of JSON for a program."""

import html
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from blemish.machine.runtime import Progress, quiet, runtime

PACE = 0.2  # seconds between two lines of a stage, or two drawings of a bar in a notebook
PATIENCE = 0.5  # seconds a job lasts before its bar is drawn: shorter ones would only flicker
SURE_AFTER = 0.3  # seconds of a stage before its pace says anything


@dataclass(frozen=True)
class Phase:
    """A part of a job as a person knows it.

    Attributes
    ----------
    words : what is shown.
    stages : the names under which jobs report it.
    share : of the time of a usual fit; 0 for what a usual fit has not. From fits of 40 images on two cores.
    """

    words: str
    stages: tuple[str, ...] = ()
    share: float = 0.0


LEARNING = Phase("Learning what is normal", share=20.0)  # under names of the detector's own
PHASES = (
    Phase("Reading the images", ("reading files", "finding the range", "reading features")),
    Phase("Computing features", ("features",), share=70.0),
    Phase("Setting images aside", ("sub-models",)),
    LEARNING,
    Phase("Scoring", ("scoring", "scoring the rest")),
    Phase("Drawing heatmaps", ("regions", "heatmaps", "thumbnails"), share=10.0),
    Phase("Exporting", ("exporting",)),
    Phase("Sending rows", ("sending rows",)),
)
OUTER = {"folders": "Folder", "runs": "Run"}  # stages of jobs that are made of jobs: each starts from the first phase


@dataclass
class Tracker:
    """How far a job is as a whole, and how long it will take, from what its stages report.

    The time left is that of the stage at its own pace, and for the phases to come what they take in a usual fit next
    to those that are known. So features that are in the cache already, or a slow detector, change the estimate at once.

    Examples
    --------
    >>> now = iter([0.0, 0.0, 70.0]).__next__
    >>> tracker = Tracker(clock=now)
    >>> tracker("features", 0, 100)
    >>> tracker("features", 70, 100)
    >>> round(tracker.left)  # 30 s of features, then 43 s for the phases to come
    73
    >>> tracker.words
    'Computing features, 70 of 100'
    """

    clock: Callable[[], float] = time.monotonic
    words: str = ""
    left: float | None = None
    fraction: float = 0.0
    _spent: dict[Phase, float] = field(default_factory=dict)  # seconds, by phase
    _stage: str = ""
    _outer: tuple[str, int, int] = ("", 0, 1)  # what the parts of the job are called, how many are done, of how many

    def __post_init__(self) -> None:
        """Begin."""
        self.start = self._part = self._since = self._last = self.clock()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """A stage reports that `done` of `total` is done."""
        now = self.clock()
        if stage in OUTER:  # the next part starts from the first phase
            self._outer = (OUTER[stage], done, max(total, 1))
            self._part, self._stage, self.words = now, "", ""
            self._spent.clear()
            left = None
        else:
            if stage != self._stage:
                self._stage, self._since = stage, self._last
            left = self._left_of_part(stage, done, total, now)
        self._last = now
        self._of_whole(left, now)

    def _left_of_part(self, stage: str, done: int, total: int, now: float) -> float | None:
        known = next((each for each in PHASES if stage in each.stages), None)
        phase = known or (LEARNING if self._spent else Phase(stage))
        self._spent[phase] = self._spent.get(phase, 0.0) + now - self._last
        self.words = phase.words if phase is LEARNING else f"{phase.words}, {done:,} of {total:,}"
        if phase is PHASES[0] or not done or (done < total and now - self._since < SURE_AFTER):
            return None  # how long reading takes says nothing of what follows, and neither does a moment
        left = (now - self._since) * (total - done) / done
        if phase not in PHASES:
            return left
        taken = {each: seconds + (left if each is phase else 0.0) for each, seconds in self._spent.items()}
        unit = max((taken[each] / each.share for each in taken if each.share), default=0.0)
        if phase is LEARNING:  # stages of it may follow
            left = max(left, unit * LEARNING.share - self._spent[LEARNING])
        later = PHASES[PHASES.index(phase) + 1 :]
        return left + unit * sum(each.share for each in later if each not in self._spent)

    def _of_whole(self, left: float | None, now: float) -> None:
        """Set what is shown, from what is left of the part at hand."""
        name, done, total = self._outer
        if name:
            inside = f": {self.words}" if self.words else ""
            self.words = f"{name} {min(done + 1, total)} of {total}{inside}"
        within = 0.0 if left is None or now <= self._part else (now - self._part) / (now - self._part + left)
        self.fraction = max(self.fraction, min(0.99, (done + within) / total))
        if name and done:
            left = (now - self.start) * (total - done - within) / (done + within)
        elif name and left is not None:
            left += (total - 1) * (now - self._part + left)
        self.left = left


def left_in_words(seconds: float | None) -> str:
    """The time left as a person says it.

    >>> left_in_words(4.2), left_in_words(130), left_in_words(8000), left_in_words(None)
    ('5 s left', '2 min left', '2.2 h left', '')
    """
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{max(1, -int(-seconds // 1))} s left"
    return f"{seconds / 60:.0f} min left" if seconds < 5400 else f"{seconds / 3600:.1f} h left"


@contextmanager
def progress_of(progress: bool | Progress | None) -> Iterator[Progress]:
    """What a job reports its progress to.

    Parameters
    ----------
    progress : a function; False for nothing; True or None for a bar where a person looks, in a terminal or a notebook,
        unless a job around this one shows it already.
    """
    if progress is False:
        yield quiet
    elif callable(progress):
        yield progress
    elif runtime().progress is not quiet:
        yield runtime().progress
    else:
        with progress_bars(shown=True) as shown:
            yield shown


@contextmanager
def progress_bars(shown: bool) -> Iterator[Progress]:
    """A function that shows how far a job is as a whole, in one bar.

    Silent where `shown` is false, and where nobody sees it: in a log file or a pipe. The bar vanishes in the end.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if shown and _in_notebook():
        with _notebook_bar() as show:
            yield show
    elif shown and console.is_terminal:
        with _terminal_bar(console) as show:
            yield show
    else:
        yield quiet


@contextmanager
def _terminal_bar(console: Any) -> Iterator[Progress]:
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as Bars

    tracker = Tracker()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[left]}"))
    bars = Bars(*columns, console=console, transient=True)
    task = bars.add_task("", total=1.0, left="")

    def show(stage: str, done: int, total: int) -> None:
        tracker(stage, done, total)
        left = left_in_words(tracker.left)
        bars.update(task, description=tracker.words, completed=tracker.fraction, left=left)
        if not bars.live.is_started and time.monotonic() - tracker.start >= PATIENCE:
            bars.start()

    try:
        yield show
    finally:
        if bars.live.is_started:
            bars.stop()


@contextmanager
def _notebook_bar() -> Iterator[Progress]:
    shown: Any = import_module("IPython.display")  # there in every notebook, and nowhere else needed
    tracker, drawn = Tracker(), [time.monotonic() + PATIENCE - PACE]
    handles: list[Any] = []

    def show(stage: str, done: int, total: int) -> None:
        tracker(stage, done, total)
        if time.monotonic() - drawn[0] < PACE:
            return
        drawn[0] = time.monotonic()
        bar = shown.HTML(
            f'<progress value="{tracker.fraction:.3f}" max="1"></progress> {tracker.fraction:.0%} '
            f"{html.escape(tracker.words)} <i>{left_in_words(tracker.left)}</i>"
        )
        if handles:
            handles[0].update(bar)
        else:
            handles.append(shown.display(bar, display_id=True))

    try:
        yield show
    finally:
        if handles:
            handles[0].update(shown.HTML(""))


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this; IPython in a terminal is a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def progress_lines(stage: str, done: int, total: int) -> None:
    """Write `{"stage": ..., "done": ..., "total": ...}` as a line, some a second at most and the last of each stage."""
    now = time.monotonic()
    if done < total and stage == _last.get("stage") and now - _last["time"] < PACE:
        return
    _last.update(stage=stage, time=now)
    print(json.dumps({"stage": stage, "done": done, "total": total}), file=sys.stderr, flush=True)  # noqa: T201


_last: dict[str, Any] = {}
