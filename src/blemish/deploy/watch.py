"""`watch`: looks at a folder, or at the frames of a video or camera, until it is stopped."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock, Timeout

from blemish.deploy.current import CurrentRun
from blemish.deploy.frames import FRAMES, Frames, is_live
from blemish.deploy.hot_folder import Action, HotFolder, Settled
from blemish.deploy.notifying import Notifier
from blemish.deploy.watch_records import TABLE
from blemish.machine.errors import BlemishError, JobError, RequestError, writing_to

LOCK = ".blemish-watch.lock"
LOOK_FOR_FRAMES = 0.05  # seconds between two looks at what a camera wrote
DELIVER_WITHIN = 10.0  # seconds for the last messages of a watch that ends by itself


@contextmanager
def alone(folder: Path, out: Path) -> Iterator[None]:
    """Hold the locks of both folders; a killed program holds none. Raises `RequestError` if another watcher has one."""
    with ExitStack() as locks:
        for each in (folder, out):
            lock = FileLock(each / LOCK, timeout=0)
            try:
                with writing_to(each):
                    locks.enter_context(lock)
            except Timeout:
                raise RequestError(
                    f"Another `blemish watch` works on '{each}'; stop it first, or give other folders."
                ) from None
        yield


def watch(
    source: str | Path,
    model: Path,
    out: Path,
    *,
    action: Action = "move",
    settled: Settled | None = None,
    every: float = 1.0,
    once: bool = False,
    on_bad: str | None = None,
    on_each: str | None = None,
    summary: float = 60.0,
    tell: Callable[[str], None] = print,
    show: Callable[[str], None] | None = None,
) -> int:
    """Watch `source` until interrupted, or with `once` until all in it is dealt with; how many images were noted.

    Writes `out`/scores.csv and, by `action`, the files in `out`/good, bad and unreadable. What the disk refuses is told
    and tried again.

    Parameters
    ----------
    source : a folder; or a video file, which ends by itself, an address rtsp://... or a camera such as /dev/video0,
        whose frames go to `out`/frames first. `once` takes one frame of a camera.
    every : seconds between two looks at a folder, or between two frames.
    on_bad, on_each : who gets a message of each flagged image, or of each image: a command, http://... or mqtt://...
    summary : seconds between two lines of how many images were scored; 0 for none.
    tell, show : take a sentence for a person; `show` those on what is as it should be, None for no such lines.

    Raises `RequestError`; `JobError` for a video that is damaged, after its frames were scored; `KeyboardInterrupt`
    with a sentence of what was done.
    """
    if action not in get_args(Action):
        raise RequestError(f"`action` must be one of {', '.join(get_args(Action))}; got '{action}'.")
    if not every > 0:
        raise RequestError(f"`every` must be a number of seconds above 0; got {every:g}.")
    out = out.expanduser().absolute()
    path = Path(source).expanduser().absolute()
    streamed = is_live(str(source)) or path.is_file()
    if streamed and action != "move":
        raise RequestError(f"`action` '{action}' is for folders; frames are moved to good and bad: leave it out.")
    folder = out / FRAMES if streamed else path
    if not streamed and not folder.is_dir():
        raise RequestError(f"'{folder}' is not a folder; create it, or give the folder that files arrive in.")
    if not streamed and (out == folder or folder.is_relative_to(out)):
        raise RequestError(f"'{out}' holds the folder that is watched; give another folder with `out`.")
    run = CurrentRun(model)
    with writing_to(out):
        folder.mkdir(parents=True, exist_ok=True)
        out.mkdir(parents=True, exist_ok=True)
    with alone(folder, out):
        frames = Frames(str(source), folder, every=every, once=once) if streamed else None
        notifier = Notifier(out, on_bad, on_each)
        settled = Settled(0, 0) if frames else settled
        hot = HotFolder(folder, run, out, action=action, settled=settled, notifier=notifier)
        if frames:
            frames.start(skip={key[0] for key in hot.table.rows})
        counts, left = _Counts(summary, notifier, show), ""
        try:
            _looked(hot, frames, LOOK_FOR_FRAMES if frames else every, once, counts, tell)
            left = notifier.close(DELIVER_WITHIN)
        except KeyboardInterrupt:
            left = notifier.close()
            raise KeyboardInterrupt(
                f"stopped after {_images(counts.all)}; the table is '{out / TABLE}'. {left}".rstrip()
            ) from None
        finally:
            if frames:
                frames.stop()
            notifier.close()
        for each in (*notifier.news, left):
            if each:
                tell(each)
        if frames and frames.problem:
            raise JobError(frames.problem)
    return counts.all


def _looked(
    hot: HotFolder,
    frames: Frames | None,
    pause: float,
    once: bool,
    counts: "_Counts",
    tell: Callable[[str], None],
) -> None:
    """Look again and again, with `once` or a video that ends until nothing is left."""
    last, run = "", hot.run
    while True:
        ended = frames.ended if frames else once  # before looking: what came by then is looked at
        try:
            run.refresh()
            hot.step()
            problem = run.problem
        except BlemishError as error:
            problem = str(error)
        counts.add(hot.noted)
        for news in (hot.news, frames.news if frames else []):
            while news:
                tell(news.pop(0))
        if problem and problem != last:
            tell(problem)
        last = problem
        if ended and (hot.idle() or (problem and not run.problem)):
            if problem and not run.problem:
                raise JobError(problem)
            return
        time.sleep(pause)


class _Counts:
    """The lines on what is being done: one per image, and one of all every `seconds`."""

    def __init__(self, seconds: float, notifier: Notifier, show: Callable[[str], None] | None) -> None:
        self.all, self._seconds, self._notifier, self._show = 0, seconds, notifier, show
        self._since, self._lately = time.monotonic(), Counter[str]()

    def add(self, noted: list[dict[str, Any]]) -> None:
        """Take the images out of `noted`, and show them."""
        while noted:
            about = noted.pop(0)
            self.all += 1
            kind = "unreadable" if about["score"] is None else "bad" if about["flagged"] else "good"
            self._lately[kind] += 1
            if self._show:
                what = about["reason"] or f"{about['score']:.3g}, {about['band']}"
                self._show(f"{about['path']}: {kind}, {what}")
        now = time.monotonic()
        if self._show and self._seconds and now - self._since >= self._seconds:
            kinds = ", ".join(f"{self._lately[kind]} {kind}" for kind in ("good", "bad", "unreadable"))
            waiting = f"; messages that wait: {self._notifier.waiting}" if self._notifier.waiting else ""
            self._show(
                f"In {now - self._since:.0f} s: {_images(self._lately.total())} ({kinds}), {self.all} in all{waiting}."
            )
            self._since, self._lately = now, Counter()


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
