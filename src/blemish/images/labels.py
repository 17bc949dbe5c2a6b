"""The labels of a review: `labels.csv`, to which rows are only ever appended."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from blemish.images import ANOMALOUS, NORMAL, UNKNOWN, ImageSet
from blemish.machine.errors import JobError, RequestError, writing_to

LABELS = "labels.csv"  # its name in a Run
COLUMNS = ("time", "path", "sha256", "label", "type", "comment", "who")
FEWEST = 4  # columns of files and rows of earlier versions, which end with the label
WORDS = {NORMAL: "good", ANOMALOUS: "bad", UNKNOWN: "cleared"}
SKIPPED = "skipped"  # looked at, without an answer
MEANINGS = {
    **dict.fromkeys(("good", "normal", "ok", "accept", "accepted", "0"), NORMAL),
    **dict.fromkeys(("bad", "anomalous", "defect", "reject", "rejected", "1"), ANOMALOUS),
    **dict.fromkeys(("cleared", SKIPPED, "unsure", "unknown", "-1", ""), UNKNOWN),
}
PATIENCE = 10.0  # seconds to wait for another process that writes
MOST_BYTES = 200_000_000


@dataclass(frozen=True)
class Row:
    """One row: the label of an image, and of which content; `sha256` is empty where a list was made by hand.

    Attributes
    ----------
    type : of the defect, in the words of the person; empty if none was named.
    comment, who : free text, and the name of the person; empty if there is none.
    """

    path: str
    sha256: str
    label: str
    time: str = ""
    type: str = ""
    comment: str = ""
    who: str = ""

    @property
    def meaning(self) -> int:
        """`NORMAL`, `ANOMALOUS` or `UNKNOWN`."""
        return MEANINGS[self.label]


def append(file: Path, rows: Sequence[Row]) -> None:
    """Add rows, whole or not at all as far as the disk allows, while no other process does. Raises `JobError`."""
    now = timestamp()
    cells = [(row.time or now, row.path, row.sha256, row.label, row.type, row.comment, row.who) for row in rows]
    append_to_table(file, COLUMNS, cells)


def append_to_table(file: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Add rows to a CSV table, which gets its head when it is new; as `append` does. Raises `JobError`."""
    from filelock import FileLock, Timeout

    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    try:
        with writing_to(file.parent), FileLock(f"{file}.lock", timeout=PATIENCE), file.open("a+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            start = "" if size else ",".join(columns) + "\n"
            if size:
                stream.seek(-1, os.SEEK_END)
                start = "" if stream.read(1) == b"\n" else "\n"  # a row that was cut short stays a separate row
            stream.write((start + text.getvalue()).encode("utf-8", "backslashreplace"))
            stream.flush()
            os.fsync(stream.fileno())
    except Timeout:
        raise JobError(f"'{file}' is being written by another process for {PATIENCE:.0f} seconds; end that.") from None


def timestamp() -> str:
    """Now, in UTC, as tables have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def carry(source: str | Path | Mapping[str, str], target: Path) -> None:
    """Add the rows of one file to another that has not got them yet; nothing is removed. Raises as they do."""
    rows, _ = read(source)
    known = read(target)[0] if target.exists() else []
    seen = {*known, *(replace(row, time="") for row in known)}
    missing = [row for row in rows if row not in seen]
    if missing:
        append(target, missing)


def read(file: str | Path | Mapping[str, str]) -> tuple[list[Row], list[str]]:
    """The rows in their order, and sentences on those that could not be read. Raises `RequestError`.

    A table made by hand needs the columns `path` and `label` only; a dict has a word for each path.
    """
    if isinstance(file, Mapping):
        rows = [Row(str(path), "", str(word).strip().lower()) for path, word in file.items()]
        if wrong := [row for row in rows if row.label not in MEANINGS]:
            known = ", ".join(word for word in MEANINGS if word)
            raise RequestError(f"A label is one of {known}; got '{wrong[0].label}' for '{wrong[0].path}'.")
        return rows, []
    file = Path(file).expanduser()
    if not (table := table_of(file, "labels")):
        return [], []
    head = [name.strip().lower() for name in table[0]]
    if "path" not in head or "label" not in head:
        raise RequestError(
            f"The labels '{file}' have the columns {', '.join(head)}; they need 'path' and 'label', and may have "
            "'time' and 'sha256'."
        )
    found, broken = _rows(table[1:], head)
    return found, unread(broken, file)


def table_of(file: Path, what: str) -> list[list[str]]:
    """The rows of a CSV table that holds `what`, its head first; none of an empty file. Raises `RequestError`."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise RequestError(f"The {what} '{file}' are larger than {MOST_BYTES // 10**6} MB; give a {what}.csv.")
        text = file.read_bytes().decode("utf-8-sig", "replace").replace("\0", "\ufffd")
        return list(csv.reader(io.StringIO(text, newline=""))) if text.strip() else []
    except OSError as error:
        raise RequestError(f"The {what} '{file}' cannot be read ({error.strerror}); give a {what}.csv.") from None
    except csv.Error as error:
        raise RequestError(f"The {what} '{file}' are no CSV table ({error}); fix that line.") from None


def unread(broken: Sequence[int], file: Path) -> list[str]:
    """A sentence on rows that could not be read, by their numbers; none if there are none."""
    return (
        [
            f"{_count(broken, 'row')} of '{file.name}' could not be read and {_were(broken)} not used, such as line "
            f"{broken[0]}; a row that was cut short by a crash is one. Nothing was removed from the file."
        ]
        if broken
        else []
    )


def _rows(table: Iterable[list[str]], head: Sequence[str]) -> tuple[list[Row], list[int]]:
    found: list[Row] = []
    broken: list[int] = []
    for number, cells in enumerate(table, start=2):
        if not cells:
            continue
        # A file that an earlier version began keeps its head; rows of both lengths follow either head.
        ours = tuple(head) in (COLUMNS, COLUMNS[:FEWEST]) and len(cells) in (FEWEST, len(COLUMNS))
        named = dict(zip(COLUMNS if ours else head, cells, strict=False))
        label = named.get("label", "?").strip().lower()
        if not (ours or len(cells) == len(head)) or label not in MEANINGS or not named["path"]:
            broken.append(number)
            continue
        found.append(
            Row(
                named["path"], named.get("sha256", "").strip().lower(), label, named.get("time", ""),
                *(named.get(name, "").strip() for name in COLUMNS[FEWEST:]),
            )
        )  # fmt: skip
    return found, broken


def latest(rows: Iterable[Row], content: Mapping[str, str]) -> tuple[dict[str, Row], list[str]]:
    """By id, its last row, and sentences on rows that are about no image.

    `content` holds the SHA-256 of the images by id. A row is about the images of its content, wherever they are now;
    one without a hash is about its path. A row of a path whose content has changed is not used.
    """
    by_content: dict[str, list[str]] = {}
    for name, digest in content.items():
        by_content.setdefault(digest, []).append(name)
    found: dict[str, Row] = {}
    changed: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for row in rows:
        names = by_content.get(row.sha256, []) if row.sha256 else [row.path] if row.path in content else []
        found.update(dict.fromkeys(names, row))
        if not names:
            (changed if row.path in content else unknown)[row.path] = None
    notes = []
    if changed:
        notes.append(
            f"{_count(changed, 'image')} changed since the review, such as '{next(iter(changed))}': the labels of "
            "the earlier content are not used; review again."
        )
    if unknown:
        notes.append(
            f"{_count(unknown, 'image')} in the labels {_were(unknown)} not found here, such as "
            f"'{next(iter(unknown))}'; their labels are kept, but not used."
        )
    return found, notes


def labels_of(run: Path, labels: str | Path | Mapping[str, str] | None) -> Path | Mapping[str, str]:
    """What a person gave, or the labels in the folder of a Run. Raises `RequestError` if there is no such file."""
    if isinstance(labels, Mapping):
        return labels
    if not isinstance(labels, (str, Path, type(None))):
        raise RequestError(
            f"`labels` must be the path of a table path,label, or a dict from id to good or bad; got a "
            f"{type(labels).__name__}."
        )
    file = run / LABELS if labels is None else Path(labels).expanduser()
    if not file.exists():
        raise RequestError(
            f"There is no '{file}'; label good and bad images with `blemish review` first, or name a table of them "
            "with `labels`."
        )
    return file


def labelled(images: ImageSet, file: Path | Mapping[str, str]) -> tuple[dict[str, int], list[str]]:
    """By id, `NORMAL` or `ANOMALOUS` for the reviewed images of a set, and sentences a person should read.

    Raises `RequestError` if the file cannot be read, holds no label, or is about none of the images.
    """
    rows, notes = read(file)
    if notes and not rows:
        raise RequestError(f"'{file}' holds no label that can be used; a label is good or bad. {' '.join(notes)}")
    last, more = latest(rows, {name: images.content[name] for name in images.ids})
    found = {name: row.meaning for name, row in last.items() if row.meaning != UNKNOWN}
    if rows and not last:
        source = "the labels" if isinstance(file, Mapping) else f"'{file}'"
        raise RequestError(
            f"No row of {source} is about an image as it is now, such as '{images.ids[0]}'. {' '.join(more)} Name the "
            "labels of these images."
        )
    return found, [*notes, *more]


def _count(things: Sized, name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _were(things: Sized) -> str:
    return "was" if len(things) == 1 else "were"
