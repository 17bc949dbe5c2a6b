"""What a disk refuses, as one sentence that says what to do."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blemish.machine.errors import JobError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
REFUSED = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.EIO
})  # fmt: skip


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


def saved_as_usual(save: Callable[[Path], object], path: Path) -> None:
    """Let `save` write a file at `path` with the mode that the umask gives; safetensors gives it to its owner alone."""
    path.touch()
    mode = stat.S_IMODE(path.stat().st_mode)
    save(path)
    path.chmod(mode)


def _full(folder: Path) -> str:
    return (
        f"The disk that holds '{folder}' is full; free some space or give another place with `cache` or `out`. "
        "Features made so far are kept."
    )
