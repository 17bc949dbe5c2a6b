"""Learning from the labels: the fit of the Run again, in a separate program, which leaves a Run beside it."""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.images.urls import is_url
from blemish.jobs.request import FitRequest
from blemish.machine.errors import BlemishError, RequestError
from blemish.review.gallery import Gallery
from blemish.review.session import Session
from blemish.runs.artifact import read_config

PATIENCE = 30.0  # seconds that a cancelled fit has to clear up


@dataclass(frozen=True)
class Refit:
    """What the page says of the fit.

    Attributes
    ----------
    why_not : why this Run cannot be fitted again; empty if it can.
    out, command : where the next fit would leave its Run, and how to do it in a terminal.
    running, stage, done, total : how far it is.
    trouble : why the last one ended without a Run.
    before : the Run whose labels the one shown learned from, if that was in this session.
    """

    why_not: str = ""
    out: Path = Path()
    command: str = ""
    running: bool = False
    stage: str = ""
    done: int = 0
    total: int = 0
    trouble: str = ""
    before: Path | None = None


class Refits:
    """At most one fit at a time. `adopt` is called, in a thread, with the folder of a Run that was written."""

    def __init__(self, adopt: Callable[[Path], None]) -> None:
        self.adopt = adopt
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._follower: threading.Thread | None = None
        self._cancelled = False
        self._step: dict[str, Any] = {}
        self._trouble = ""
        self._before: dict[Path, Path] = {}

    def now(self, session: Session) -> Refit:
        """The state of things, for the Run that a page shows."""
        folder, before = session.gallery.folder, self._before.get(session.gallery.folder)
        try:
            out = beside(folder)
            command = shlex.join(["blemish", *words(session.gallery, out)])
        except BlemishError as error:
            return Refit(why_not=str(error), before=before)
        step = {"stage": "starting", "done": 0, "total": 0, **self._step}
        return Refit("", out, command, self._process is not None, **step, trouble=self._trouble, before=before)

    def start(self, session: Session) -> None:
        """Start the fit, unless one runs. Raises `RequestError` where there is nothing to learn from."""
        with self._lock:
            if self._process:
                return
            out = beside(session.gallery.folder)
            asked = words(session.gallery, out)
            if not session.labelling.words():
                raise RequestError("Nothing was reviewed yet. Label some images good or bad first.")
            self._cancelled, self._step, self._trouble = False, {}, ""
            self._process = subprocess.Popen(  # noqa: S603 - this program, and paths of this Run
                [sys.executable, "-m", "blemish", *asked, "--progress-lines"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8",
                errors="replace", env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            )  # fmt: skip
            self._follower = threading.Thread(
                target=self._follow, args=(self._process, session.gallery.folder, out), name="refit", daemon=True
            )
            self._follower.start()

    def cancel(self) -> None:
        """End the fit that runs, if one does. It leaves nothing; features made so far are kept."""
        process, follower = self._process, self._follower
        if process is None or follower is None:
            return
        self._cancelled = True
        process.terminate()
        follower.join(PATIENCE)
        if follower.is_alive():
            process.kill()
            follower.join(PATIENCE)

    stop = cancel

    def _follow(self, process: "subprocess.Popen[str]", folder: Path, out: Path) -> None:
        """Read what the program says until it ends, and show what it left."""
        said = ""
        for line in process.stderr or ():
            if line.startswith('{"stage"'):  # as `progress_lines` writes them
                self._step = json.loads(line)
            else:
                said = line.strip() or said
        code = process.wait()
        try:
            self._trouble = self._ended(code, said, out)
            if code == 0:
                self.adopt(out)
                self._before[out] = folder
        except (BlemishError, OSError) as error:
            self._trouble = f"The new Run is in '{out}', but cannot be shown: {error}"
        finally:
            self._process = None

    def _ended(self, code: int, said: str, out: Path) -> str:
        """Why there is no new Run; empty if there is one."""
        if code == 0:
            return ""
        if self._cancelled:
            return "Cancelled. Nothing was changed; the labels are kept, and so are features made so far."
        if code < 0:
            return f"The fit was ended by the system (signal {-code}), perhaps for want of memory; labels are kept."
        return said.removeprefix("blemish: ") or f"The fit into '{out}' ended with code {code}; run it in a terminal."


def words(gallery: Gallery, out: Path) -> list[str]:
    """The command line, after `blemish`. Raises `RequestError` with why the Run cannot be fitted again."""
    config = read_config(gallery.folder)
    images, root = FitRequest.from_json(gallery.folder, config).images, config["image_root"]
    command = ["refit", str(gallery.folder), "--out", str(out)]
    if is_url(root) or Path(root).resolve() == gallery.root:
        return command
    if Path(images).resolve() != Path(root).resolve():
        raise RequestError(
            f"The images of the list '{images}' moved to '{gallery.root}'; write a list of where they are now, and "
            "name it to `blemish refit` as `images`."
        )
    return [*command, "--images", str(gallery.root)]


def beside(folder: Path) -> Path:
    """A folder beside that of a Run that does not exist yet: run-2 after run, run-3 after run-2."""
    found = re.fullmatch(r"(.+)-(\d{1,3})", folder.name)
    stem, number = (found[1], int(found[2])) if found else (folder.name, 1)
    while os.path.lexists(new := folder.with_name(f"{stem}-{number + 1}")):
        number += 1
    return new
