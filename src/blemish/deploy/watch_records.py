"""What `watch` keeps on disk: the table of what was scored, and the messages that wait until they are delivered.

Rows are whole and on the disk before anything is done by them.
"""

import csv
import io
import json
import os
import time
from collections import deque
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from blemish.machine.errors import RequestError, writing_to

TABLE = "scores.csv"
COLUMNS = (
    *("time", "path", "size", "modified_ns", "sha256", "score"),
    *("flagged", "threshold", "version", "to", "reason", "band"),
)
Key = tuple[str, int, int]
"""A file as it was when it was scored: path below the folder, bytes, time of its last change in ns."""


class WatchTable:
    """`scores.csv`: appended, synced, and read back at the start. `rows` is where each file goes, by its key."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.promised = path, dict[Key, str](), set[str]()
        if not path.exists():
            self._append([COLUMNS])
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):  # a row that was cut short by a kill or a full disk
            with writing_to(path.parent), path.open("r+b") as file:
                file.truncate(len(whole))
        table = list(csv.reader(io.StringIO(whole.decode("utf-8"), newline="")))
        if not table:
            self._append([COLUMNS])
        elif tuple(table[0]) != COLUMNS:
            raise RequestError(f"'{path}' is not a table of `blemish watch`; give another folder with `out`.")
        for row in table[1:]:
            self.rows[(row[1], int(row[2]), int(row[3]))] = row[9]
        self.promised.update(self.rows.values())

    def add(self, rows: Sequence[tuple[Key, Sequence[object]]]) -> None:
        """Append rows, all or none. Raises `JobError` for what the disk refuses."""
        self._append([row for _, row in rows])
        self.rows.update({key: str(row[9]) for key, row in rows})

    def _append(self, rows: Sequence[Sequence[object]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        with writing_to(self.path.parent), self.path.open("ab") as file:
            before = file.seek(0, os.SEEK_END)
            try:
                file.write(text.getvalue().encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(self.path, before)  # never needs room
                raise


Message = dict[str, Any]


class Spool:
    """The messages of one receiver, in the order of their images, one JSON file each, through any number of restarts.

    A message is written to `pending` before the row of its image, and moves to `due` once that row is on the disk. So a
    kill between the two costs nothing: the next start keeps what has a row and drops the rest, whose images are scored
    again. From `due` it is deleted after it was delivered; a kill between those two has it delivered again, under the
    same `id`. What the receiver refuses for good lies in `refused`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pending, self._due, self._refused = (folder / name for name in ("pending", "due", "refused"))
        with writing_to(folder):
            for each in (self._pending, self._due, self._refused):
                each.mkdir(parents=True, exist_ok=True)
        self.due = deque(_names(self._due))
        self._prepared: dict[Key, str] = {}
        for name in _names(self._pending):
            try:
                self._prepared[_key_of(json.loads((self._pending / name).read_bytes()))] = name
            except (ValueError, KeyError, TypeError):  # damaged: kept for a person
                (self._pending / name).replace(self._refused / name)
        self._last = 0

    def prepare(self, messages: Sequence[Message]) -> None:
        """Write messages whose rows are about to be written. Raises `JobError` for what the disk refuses."""
        with writing_to(self.folder):
            for message in messages:
                key = _key_of(message)
                self._last = max(time.time_ns(), self._last + 1)
                name = self._prepared.get(key, f"{self._last:020d}-{message['id']}.json")
                _written(self._pending / name, message)
                self._prepared[key] = name
            _synced(self._pending)

    def release(self, noted: Container[Key]) -> None:
        """Move the messages of images that have a row now, `noted`, to `due`: they will be delivered."""
        for key in [each for each in self._prepared if each in noted]:
            with writing_to(self.folder):
                (self._pending / self._prepared[key]).replace(self._due / self._prepared[key])
            self.due.append(self._prepared.pop(key))

    def forget(self, noted: Container[Key]) -> None:
        """Delete the messages of images without a row, not in `noted`: these images are scored again."""
        for key in [each for each in self._prepared if each not in noted]:
            (self._pending / self._prepared.pop(key)).unlink(missing_ok=True)

    def read(self, name: str) -> Message:
        """One message that is due. Raises `OSError` or `ValueError` for one that was damaged."""
        message: Message = json.loads((self._due / name).read_bytes())
        return message

    def delivered(self, name: str) -> None:
        """Delete a message."""
        self.due.remove(name)
        (self._due / name).unlink(missing_ok=True)

    def refuse(self, name: str) -> Path:
        """Set aside a message that the receiver does not take, whatever is done; where it lies then."""
        self.due.remove(name)
        (self._due / name).replace(self._refused / name)
        return self._refused / name


def waiting_in(folder: Path) -> int:
    """How many messages are due in the folder of a spool that nothing works on."""
    return len(_names(folder / "due")) if (folder / "due").is_dir() else 0


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.suffix == ".json" and each.name[0] != ".")


def _key_of(message: Message) -> Key:
    return message["path"], message["size"], message["modified_ns"]


def _written(path: Path, message: Message) -> None:
    """Write a message, whole or not at all, and wait until it is on the disk."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(json.dumps(message).encode("ascii"))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _synced(folder: Path) -> None:
    """Wait until the names of the files in a folder are on the disk; only POSIX systems can do that."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
