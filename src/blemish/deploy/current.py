"""The Run in a folder as it is now: taken up again when it is replaced, while others go on scoring."""

import threading
from pathlib import Path

from blemish.machine.errors import BlemishError, RequestError
from blemish.runs.artifact import CONFIG
from blemish.runs.run import Run, load

Stamp = tuple[int, int, int]


class CurrentRun:
    """A Run, or what `export` made of one, that may be replaced in its folder at any time.

    Who holds a Run goes on with it; the next one who asks gets the new one. A folder that is incomplete or damaged
    changes nothing: the last whole Run stays, and `problem` says what is wrong.

    Raises `RequestError` if there is no whole Run to begin with.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.problem, self.replaced = folder.expanduser(), "", 0
        self._lock = threading.Lock()
        self._stamp = self._stamped()  # before reading: what is replaced while it is read is read again
        self._run = load(self.folder)
        self._version = _version(self._run, self._stamp)

    def now(self) -> tuple[Run, str]:
        """The Run, and a name for this state of it that changes when it is replaced."""
        with self._lock:
            return self._run, self._version

    def refresh(self) -> bool:
        """Take up the Run if its `config.json`, which is written last, is another; whether that was done."""
        stamp = self._stamped()
        if stamp in (None, self._stamp):
            return False
        try:
            run = load(self.folder)
        except (BlemishError, OSError) as error:
            self.problem = str(error)
            return False
        with self._lock:
            self._run, self._stamp, self._version = run, stamp, _version(run, stamp)
        self.problem, self.replaced = "", self.replaced + 1
        return True

    def _stamped(self) -> Stamp | None:
        try:
            about = (self.folder / CONFIG).stat()
        except OSError as error:
            self.problem = f"'{self.folder / CONFIG}' cannot be read ({error.strerror})"
            return None
        return about.st_mtime_ns, about.st_size, about.st_ino


def _version(run: Run, stamp: Stamp | None) -> str:
    return f"{run.detector.name}-{stamp[0] // 1_000_000 if stamp else 0:x}"


def named_runs(words: list[str]) -> dict[str, CurrentRun]:
    """Runs by name from RUN or NAME=RUN; the name of the folder by default. Raises `RequestError`."""
    found: dict[str, CurrentRun] = {}
    for word in words:
        name, sign, folder = word.partition("=")
        path = Path(folder if sign and "/" not in name else word)
        name = name if sign and "/" not in name else path.expanduser().absolute().name
        if name in found:
            raise RequestError(f"Two Runs are called '{name}'; give one another name: NAME={path}.")
        found[name] = CurrentRun(path)
    return found
