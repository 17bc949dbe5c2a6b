"""Which files a person means by a folder or a list: any tree, any names, nothing followed twice."""

import csv
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from blemish.decoding import SUFFIXES
from blemish.errors import RequestError

RUN_MARKER = "config.json"  # a folder that holds this and scores.csv is a Run of ours, not images


@dataclass
class Found:
    """Files that may be images, by id (POSIX path below `root`), and what else was met on the way.

    `skipped` holds the reason by id; `others` counts the files of other kinds by suffix.
    """

    root: Path
    files: dict[str, Path] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)


def find(source: Path, *, leave_out: Path | None = None) -> Found:
    """Image files below a folder, or those named by a `.txt` or `.csv` list.

    A list holds one path a line, or a CSV column `path` (else the first column), relative to the list's folder.
    Links are followed, each real folder once. Hidden folders, earlier Runs and `leave_out` are not entered.
    Raises `RequestError` if there is nothing to take.
    """
    if source.is_dir():
        found = _walk(source, leave_out)
    elif source.is_file() and source.suffix.lower() in (".txt", ".csv"):
        found = _listed(source)
    elif source.is_file():
        raise RequestError(
            f"'{source}' is one file; hand in a folder of images, or a list of paths named .txt or .csv."
        )
    else:
        near = _nearest_existing(source)
        raise RequestError(f"'{source}' does not exist; the nearest folder that does is '{near}'.")
    if not found.files:
        raise RequestError(_nothing_found(source, found))
    return found


def _walk(root: Path, leave_out: Path | None) -> Found:
    found, visited = Found(root), set()
    closed = leave_out.resolve() if leave_out else None

    def remember(error: OSError) -> None:
        name = identifier(Path(error.filename or root), root)
        found.skipped[name] = f"cannot be opened: {error.strerror}"

    for folder, folders, names in os.walk(root, onerror=remember, followlinks=True):
        here = Path(folder).stat()
        if (here.st_dev, here.st_ino) in visited:
            folders.clear()
            continue
        visited.add((here.st_dev, here.st_ino))
        folders[:] = sorted(f for f in folders if not _closed(Path(folder) / f, closed))
        for name in sorted(names):
            path = Path(folder) / name
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                found.files[identifier(path, root)] = path
            else:
                found.others[path.suffix.lower() or name] += 1
    return found


def _closed(folder: Path, leave_out: Path | None) -> bool:
    if folder.name.startswith("."):
        return True
    if (folder / RUN_MARKER).is_file() and (folder / "scores.csv").is_file():
        return True
    return leave_out is not None and folder.resolve() == leave_out


def _listed(source: Path) -> Found:
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(f"'{source}' is not UTF-8 text; save the list as UTF-8.") from None
    if source.suffix.lower() == ".csv":
        rows = [row for row in csv.reader(text.splitlines()) if row]
        column = rows[0].index("path") if rows and "path" in rows[0] else 0
        named = [row[column] for row in rows[1 if rows and "path" in rows[0] else 0 :] if len(row) > column]
    else:
        named = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    base = source.parent.resolve()
    paths = [Path(os.path.normpath(base / name)) for name in named]
    inside = all(path.is_relative_to(base) for path in paths)
    root = base if inside or not paths else Path(os.path.commonpath([path.parent for path in paths]))
    found = Found(root)
    for path in paths:
        name = identifier(path, root)
        if path.is_file():
            found.files[name] = path
        else:
            found.skipped[name] = "named in the list but not there"
    return found


def identifier(path: Path, root: Path) -> str:
    """The POSIX path of `path` below `root`; bytes that are not UTF-8 stand as backslash escapes."""
    return os.fsencode(path.relative_to(root).as_posix()).decode("utf-8", "backslashreplace")


def _nearest_existing(path: Path) -> Path:
    return next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))


def _nothing_found(source: Path, found: Found) -> str:
    wanted = ", ".join(sorted(SUFFIXES))
    if found.skipped:
        name, reason = next(iter(found.skipped.items()))
        return f"No image can be read in '{source}': {len(found.skipped)} entries failed, such as '{name}' ({reason})."
    if not found.others:
        return f"'{source}' holds no files; hand in a folder with images ({wanted})."
    held = ", ".join(f"{count} {kind}" for kind, count in found.others.most_common(6))
    return f"'{source}' holds no images ({wanted}); it holds {held}."
