"""Results that are whole or absent: written beside their place and moved there once complete."""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from blemish.images.defect_boxes import BOXES
from blemish.images.labels import LABELS
from blemish.machine.errors import RequestError, writing_to
from blemish.runs.artifact import CONFIG, is_ours, marked, read_config, write_config

RESULTS = "results"  # the names of all files and folders of a result, in its `config.json`
_being_written: set[Path] = set()


@contextmanager
def whole_or_absent(target: Path, *, force: bool) -> Iterator[Path]:
    """A folder to write to that becomes `target` when the block ends without an error, and vanishes otherwise.

    With `force`, an existing result of ours is replaced file by file, only now that the new ones are complete;
    whatever else is there, such as `labels.csv`, is not touched. Raises `RequestError` if `target` is
    something else.
    """
    target = Path(os.path.abspath(target.expanduser()))  # noqa: PTH100 - resolve() would replace a link by its end
    check_place(target, force=force)
    staging = target.parent / f".{target.name}.partial-{os.getpid()}"
    try:
        with writing_to(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            _clear_left_behind(target)
            _being_written.add(staging)
            staging.mkdir()
            yield staging
            _note_results(staging)
            with _undisturbed():
                check_place(target, force=force)  # another process may have been quicker
                _move(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        _being_written.discard(staging)


def check_place(target: Path, *, force: bool) -> None:
    """Raise `RequestError` if results cannot be left at `target`: something else, or earlier ones without `force`."""
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise RequestError(f"'{target}' is not a folder; give a folder that does not exist yet.")
    held = {path.name for path in target.iterdir()}
    if held and not force:
        raise RequestError(f"'{target}' exists; give another folder, or replace its results with `force`.")
    if not held <= {LABELS, BOXES} and not is_ours(target):
        raise RequestError(f"'{target}' is not a result of blemish, so `force` leaves it alone; give another folder.")


def _note_results(staging: Path) -> None:
    """Let `config.json` name the files beside it, so that a later result can replace all of it."""
    if is_ours(staging):
        names = sorted(path.name for path in staging.iterdir())
        write_config(staging, {**read_config(staging), RESULTS: names})


def _move(staging: Path, target: Path) -> None:
    if not target.exists():
        staging.replace(target)
        return
    before = marked(target).get(RESULTS, []) if is_ours(target) else []  # of any version, since it is replaced
    results = sorted({*before, *(new.name for new in staging.iterdir())})
    write_config(target, {"incomplete": True, RESULTS: results})  # if cut short, the folder is ours, but no Run
    for new in sorted(staging.iterdir(), key=lambda path: path.name == CONFIG):
        old = target / new.name
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        elif new.is_dir():
            old.unlink(missing_ok=True)
        new.replace(old)
    for name in set(before) - {LABELS, BOXES} - set(read_config(target).get(RESULTS, before)):
        _remove(target / Path(name).name)  # of the earlier result, and of no meaning beside this one


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _clear_left_behind(target: Path) -> None:
    """Remove what a killed process of ours left beside `target`."""
    prefix = f".{target.name}.partial-"
    for folder in list(target.parent.iterdir()):
        pid = folder.name.removeprefix(prefix)
        if folder.name.startswith(prefix) and pid.isdigit() and folder not in _being_written and not alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def alive(pid: int) -> bool:
    """Whether another process of that number runs; where that is unknown, it is taken to."""
    if pid == os.getpid():
        return False  # in a container, every process may get the number of the one before
    if os.name != "posix":
        return True  # signal 0 asks nothing elsewhere, it ends the process
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold Ctrl-C and termination back for the moment of moving."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    signals = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

    def hold(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is signal's
        held.append(number)

    before = {number: signal.signal(number, hold) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])
