"""What can go wrong in a way a person can fix: one sentence with the value, the rule and the fix."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
REFUSED = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EIO
})  # fmt: skip


class BlemishError(Exception):
    """Base of every error blemish raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class RequestError(BlemishError, ValueError):
    """The request was wrong: a bad argument, folder, file or setting."""

    exit_code = 2


class WeightsError(RequestError):
    """The weights of a backbone are not there, cannot be read, or are not those that are needed."""


class JobError(BlemishError, RuntimeError):
    """The request was right but the job could not be finished: a full disk, too few images left."""


def none_read(count: int, skipped: Mapping[str, str]) -> JobError:
    """The error where none of `count` images could be read; `skipped` has the reason of each."""
    name, reason = next(iter(skipped.items()))
    return JobError(f"None of the {count} images could be read; the first is '{name}': {reason}.")


class NotFittedError(RequestError):
    """A detector cannot score before `fit`."""


class UnreadableImageError(BlemishError):
    """One image cannot be used. The message is the reason, as `skipped.csv` has it."""


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raise `JobError` for what the disk under `folder` refuses inside the block; other errors pass."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise JobError(_full(folder)) from error
        if error.errno in REFUSED:
            place = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else folder
            reason = error.strerror or error
            raise JobError(
                f"'{place}' cannot be written ({reason}); give another place (`cache`, `out`, `purity`), or fix that."
            ) from error
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to: it takes its place when the block ends, and vanishes if that fails."""
    partial = path.with_name(f".{uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def saved_as_usual(save: Callable[[Path], object], path: Path) -> None:
    """Let `save` write a file at `path` with the mode that the umask gives; safetensors gives it to its owner alone."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save(path)
    path.chmod(mode)


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, read a part at a time. Raises `OSError`."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _full(folder: Path) -> str:
    return (
        f"The disk that holds '{folder}' is full; free some space or give another place with `cache` or `out`. "
        "Features made so far are kept."
    )
