"""Frames of a video file, an RTSP address or a camera of this machine, written as PNG files in a folder."""

import hashlib
import os
import re
import threading
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from blemish.machine.errors import BlemishError, JobError, RequestError, writing_to
from blemish.machine.extras import needed

FRAMES = "frames"  # in the folder of the results
LIVE = re.compile(r"(rtsps?://.+|/dev/video\d+)", re.IGNORECASE)
MOST_WAITING = 64  # frames in the folder that are not scored yet
OPEN_WITHIN, READ_WITHIN = 10.0, 10.0  # seconds for a camera to answer, and between two of its frames
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds before a camera that dropped out is opened again
SHORT = 1.0  # seconds that a video may end before its header says it does


def is_live(source: str) -> bool:
    """Whether it is a camera, which has no end, by its name alone."""
    return LIVE.fullmatch(source) is not None


class Frames:
    """One frame every `every` seconds of `source`, written to `folder` by another thread.

    A file is read no faster than its frames are scored, and `ended` is true at its end. Where the program was killed,
    the next start does not take the same frames again. A camera that drops out is opened again; while more than
    `MOST_WAITING` of its frames wait, new ones are left out, and a sentence says so. `news` are sentences for a person;
    the caller removes those it has shown. `problem` is what was wrong with a file. Raises `RequestError` for what is no
    video, or without PyAV.
    """

    def __init__(self, source: str, folder: Path, *, every: float, once: bool = False) -> None:
        self._av = av = needed("av", "video", "a video or camera")
        self.folder, self.every, self.live, self.once = folder, every, is_live(source), once
        self.source = source if self.live else str(Path(source).expanduser().absolute())
        self.name = _without_password(source)
        self.news: list[str] = []
        self.problem, self.ended = "", False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="blemish-frames", daemon=True)
        self._taken: set[str] = set()
        if not self.live:
            about = Path(self.source).stat()
            content = hashlib.sha256(f"{about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:8]
            self._prefix = f"{Path(self.source).stem}-{content}"
            try:
                self._opened().close()
            except (av.error.FFmpegError, OSError, IndexError) as error:
                raise RequestError(f"'{self.source}' is no video that can be read ({_reason(error)}).") from None

    def start(self, skip: Collection[str]) -> None:
        """Begin; `skip` names the files of frames that were scored before."""
        self._taken = {*skip, *(each.name for each in self.folder.glob("[!.]*.png"))}
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for a camera that hangs."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        try:
            if self.live:
                self._camera()
            else:
                self._file()
        except Exception as error:  # or nobody would learn that no frame comes any more
            self.problem = f"'{self.name}' cannot be read further ({_reason(error)})."
        self.ended = True

    def _opened(self) -> Any:
        """The open container, its first video stream checked."""
        options = {"rtsp_transport": "tcp"} if self.source.lower().startswith("rtsp") else {}
        kind = "v4l2" if self.source.startswith("/dev/video") else None
        container = self._av.open(self.source, format=kind, options=options, timeout=(OPEN_WITHIN, READ_WITHIN))
        if not container.streams.video:
            container.close()
            raise IndexError("it has no pictures")
        return container

    def _file(self) -> None:
        last, due = 0.0, 0.0
        with self._opened() as container:
            stream = container.streams.video[0]
            step = 1 / float(stream.average_rate or 25)
            length = float(container.duration or 0) / self._av.time_base
            for frame in self._of_file(container, stream):
                if self._stopping.is_set():
                    return
                last = float(frame.time) if frame.time is not None else last + step
                if last + 1e-6 >= due:
                    due = (int(last / self.every + 1e-6) + 1) * self.every
                    self._keep(frame, f"{self._prefix}-{last:09.3f}.png")
        if not self.problem and last + max(SHORT, step) < length:
            self.problem = f"'{self.name}' ends before the {length:.1f} s that its header says"
        if self.problem:
            self.problem += f"; its frames up to {last:.1f} s are scored as far as they can be read."

    def _of_file(self, container: Any, stream: Any) -> Iterator[Any]:
        """All frames that can be decoded; `problem` is why others cannot."""
        damaged = 0
        parts = container.demux(stream)
        while True:
            try:
                packet = next(parts)
            except StopIteration:
                break
            except self._av.error.FFmpegError as error:
                self.problem = f"'{self.name}' cannot be read further ({_reason(error)})"
                yield from stream.codec_context.decode(None)  # what the decoder still holds
                return
            try:
                yield from packet.decode()
            except self._av.error.FFmpegError:
                damaged += 1
        if damaged:
            count = "1 part" if damaged == 1 else f"{damaged} parts"
            self.problem = f"{count} of '{self.name}' cannot be decoded"

    def _camera(self) -> None:
        wait, there = FIRST_WAIT, True
        while not self._stopping.is_set():
            try:
                for frame in self._of_camera():
                    if not there:
                        self.news.append(f"'{self.name}' is there again.")
                    wait, there = FIRST_WAIT, True
                    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3]
                    self._keep(frame, f"camera-{stamp}Z.png")
                    if self.once or self._stopping.is_set():
                        return
                reason = "it sends nothing more"
            except (self._av.error.FFmpegError, OSError, IndexError) as error:
                reason = _reason(error)
            if there:
                self.news.append(f"'{self.name}' dropped out ({reason}); it is opened again until it is back.")
            there = False
            self._stopping.wait(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def _of_camera(self) -> Iterator[Any]:
        """Frames as they come, all decoded, so that none is old, one every `every` seconds handed on."""
        due = 0.0
        with self._opened() as container:
            for packet in container.demux(container.streams.video[0]):
                if self._stopping.is_set():
                    return
                try:
                    found = packet.decode()
                except self._av.error.InvalidDataError:  # a part lost on the way; the next whole picture follows
                    continue
                now = time.monotonic()
                if found and now >= due:
                    due = now + self.every
                    yield found[-1]

    def _keep(self, frame: Any, name: str) -> None:
        """Write a frame to the folder, once; of a file as soon as there is room, of a camera if there is."""
        if name in self._taken:
            return
        problem = ""
        while not self._stopping.is_set():
            if sum(1 for _ in os.scandir(self.folder)) > MOST_WAITING:
                if self.live:
                    self._once(f"Scoring is slower than one frame every {self.every:g} s; frames are left out.")
                    return
                self._stopping.wait(0.05)
                continue
            try:
                with writing_to(self.folder):
                    partial = self.folder / f".{name}.partial"
                    Image.fromarray(frame.to_ndarray(format="rgb24")).save(partial, "PNG", compress_level=1)
                    partial.replace(self.folder / name)
            except (JobError, OSError) as error:
                if str(error) != problem:
                    self.news.append(str(error))
                problem = str(error)
                if self.live:
                    return
                self._stopping.wait(1.0)
                continue
            if not self.live:
                self._taken.add(name)
            return

    def _once(self, sentence: str) -> None:
        if sentence not in self._taken:
            self._taken.add(sentence)
            self.news.append(sentence)


def _reason(error: BaseException) -> str:
    if isinstance(error, BlemishError):
        return str(error)
    return (getattr(error, "strerror", "") or str(error) or type(error).__name__).split("\n")[0]


def _without_password(source: str) -> str:
    parts = urlsplit(source) if "://" in source else None
    return (
        source if parts is None or "@" not in parts.netloc else source.replace(parts.netloc.rpartition("@")[0], "***")
    )
