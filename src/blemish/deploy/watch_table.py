"""The table of `watch`: rows are whole and on the disk before anything is done by them."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from blemish.machine.disk import writing_to
from blemish.machine.errors import RequestError

TABLE = "scores.csv"
COLUMNS = (
    *("time", "path", "size", "modified_ns", "sha256", "score"),
    *("flagged", "threshold", "version", "to", "reason", "band"),
)
FIRST_COLUMNS = 11  # what the first version wrote
Key = tuple[str, int, int]
"""A file as it was when it was scored: path below the folder, bytes, time of its last change in ns."""


class Table:
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
        elif tuple(table[0]) == COLUMNS[: len(table[0])] and len(table[0]) >= FIRST_COLUMNS:
            if len(table[0]) < len(COLUMNS):  # of an earlier version: its rows end before the new columns
                self._renew_head(whole)
        else:
            raise RequestError(f"'{path}' is not a table of `blemish watch`; give another folder with `out`.")
        for row in table[1:]:
            self.rows[(row[1], int(row[2]), int(row[3]))] = row[9]
        self.promised.update(self.rows.values())

    def add(self, rows: Sequence[tuple[Key, Sequence[object]]]) -> None:
        """Append rows, all or none. Raises `JobError` for what the disk refuses."""
        self._append([row for _, row in rows])
        self.rows.update({key: str(row[9]) for key, row in rows})

    def _renew_head(self, whole: bytes) -> None:
        renewed = self.path.with_name(f".{TABLE}.new")
        with writing_to(self.path.parent):
            renewed.write_bytes(",".join(COLUMNS).encode() + whole[whole.index(b"\n") :])
            renewed.replace(self.path)

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
