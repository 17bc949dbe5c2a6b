"""Which files a person means by a folder or a list: any tree, any names, nothing followed twice."""

import codecs
import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

from blemish.images.decoding import SUFFIXES, head_of, is_image_head
from blemish.images.urls import RemoteFile, files_below, is_url, located, remote_file
from blemish.machine.errors import RequestError

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # what PowerShell writes
RUN_MARKER = "config.json"  # a folder that holds this and one of the next is a result of ours, not images
RESULTS = ("scores.csv", "purification.csv")
OF_SYSTEMS = frozenset({"@eadir", "#recycle", "$recycle.bin", "__macosx", "lost+found"})  # thumbnails, deleted files
HIDDEN = "hidden"  # among the suffixes of other files


@dataclass
class FoundFiles:
    """Files that may be images, by id (POSIX path below `root`, a folder or a URL), and what else was met on the way.

    `skipped` holds the reason by id; `others` counts the files of other kinds by suffix, and `left_out` holds a reason
    for each that is not hidden; `listed` is whether a list named the files.
    """

    root: Path | str
    files: dict[str, Path | RemoteFile] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, str] = field(default_factory=dict)
    listed: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not looked at, as a sentence."""
        return other_files(self.others)

    def add_other(self, name: str, kind: str) -> None:
        """Count a file of another kind, by its suffix or, without one, its name."""
        self.others[kind] += 1
        self.left_out[name] = f"{kind} files are not looked at"


def other_files(others: Counter[str]) -> tuple[str, ...]:
    """A sentence on files of other kinds, by their suffix; hidden ones do not count."""
    kinds = Counter({kind: count for kind, count in others.items() if kind != HIDDEN})
    if not kinds:
        return ()
    count, held = kinds.total(), ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
    more = ", ..." if len(kinds) > 6 else ""
    return (
        f"{count} other file{'' if count == 1 else 's'} {'was' if count == 1 else 'were'} not looked at: {held}{more}.",
    )


def is_image_file(path: Path) -> bool:
    """Whether a file may be an image: by its suffix, or where it has none, or a number for one, by how it begins."""
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return True
    if suffix and not suffix[1:].isdigit():
        return False
    try:
        return path.is_file() and is_image_head(head_of(path))
    except OSError:
        return False


def find(source: str | Path, *, leave_out: Path | None = None) -> FoundFiles:
    """Image files below a folder or a URL, one image file, or those named by a `.txt` or `.csv` list.

    A list holds one path per line, or a CSV column `path` (else the first column), relative to the list's folder; or
    URLs.
    Links are followed, each real folder once. Hidden files and folders, those where a system keeps thumbnails or
    deleted files, earlier Runs and `leave_out` are not entered. Raises `RequestError` if there is nothing to take.
    """
    source = located(source)
    if isinstance(source, str):
        found = _sorted_out(source, files_below(source))
    elif source.is_dir():
        if _is_result(source):
            raise RequestError(f"'{source}' is a result of blemish, not a folder of images; give the images' folder.")
        found = _walk(source, leave_out)
    elif not source.exists():
        raise RequestError(f"'{source}' does not exist; {_meant(source.absolute())}")
    elif source.suffix.lower() in (".txt", ".csv"):
        found = _listed(source)
    elif is_image_file(source):
        found = FoundFiles(source.parent, {identifier(source, source.parent): source}, listed=True)
    else:
        raise RequestError(
            f"'{source}' is not an image; give an image, a folder of images, or a list of paths named .txt or .csv."
        )
    if not found.files:
        raise RequestError(_nothing_found(source, found))
    return found


def _walk(root: Path, leave_out: Path | None) -> FoundFiles:
    found, visited = FoundFiles(root), set()
    closed = leave_out.resolve() if leave_out else None

    def remember(error: OSError) -> None:
        found.skipped[identifier(Path(error.filename or root), root)] = f"cannot be opened: {error.strerror}"

    for folder, folders, names in os.walk(root, onerror=remember, followlinks=True):
        try:
            here = Path(folder).stat()
        except OSError as error:  # gone since it was listed
            remember(error)
            continue
        if (here.st_dev, here.st_ino) in visited:
            folders.clear()
            continue
        visited.add((here.st_dev, here.st_ino))
        folders[:] = sorted(f for f in folders if not _closed(Path(folder) / f, closed))
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith("."):
                found.others[HIDDEN] += 1
            elif is_image_file(path):
                found.files[identifier(path, root)] = path
            else:
                found.add_other(identifier(path, root), path.suffix.lower() or name)
    return found


def _sorted_out(url: str, files: dict[str, RemoteFile]) -> FoundFiles:
    """The images among the files below a URL, as `_walk` finds them in a folder."""
    found = FoundFiles(url)
    marked = {PurePosixPath(name).parent for name in files if PurePosixPath(name).name == RUN_MARKER}
    results = {folder for folder in marked if any(str(folder / name) in files for name in RESULTS)}
    if PurePosixPath() in results:
        raise RequestError(f"'{url}' is a result of blemish, not a folder of images; give the images' folder.")
    for name, file in sorted(files.items()):
        path = PurePosixPath(name)
        if results.intersection(path.parents):
            continue
        if ".." in path.parts:
            found.skipped[name] = "its name points outside the folder"
        elif any(map(_is_hidden, path.parts)):
            found.others[HIDDEN] += 1
        elif path.suffix.lower() in SUFFIXES:
            found.files[name] = file
        else:
            found.add_other(name, path.suffix.lower() or path.name)
    return found


def _closed(folder: Path, leave_out: Path | None) -> bool:
    if _is_hidden(folder.name) or _is_result(folder):
        return True
    return leave_out is not None and folder.resolve() == leave_out


def _is_hidden(name: str) -> bool:
    """Whether a file or folder is called as what its owner does not see: with a dot, or by the system that keeps it."""
    return name.startswith(".") or name.lower() in OF_SYSTEMS


def _is_result(folder: Path) -> bool:
    return _is_file(folder / RUN_MARKER) and any(_is_file(folder / name) for name in RESULTS)


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - never raises


def _listed(source: Path) -> FoundFiles:
    base, names = source.parent.absolute(), names_in(source)
    if any(map(is_url, names)):
        return _listed_urls(source, names)
    paths = [base / Path(name).expanduser() for name in names]
    inside = all(path.is_relative_to(base) for path in (Path(os.path.normpath(path)) for path in paths))
    root = base if inside or not paths else Path(os.path.commonpath([os.path.normpath(p.parent) for p in paths]))
    found = FoundFiles(root, listed=True)
    for path in paths:
        # The name is made tidy, the path is not: beyond a link, '..' leads elsewhere than the text says.
        name = identifier(Path(os.path.normpath(path)), root)
        if path.is_dir():
            found.skipped[name] = "is a folder; a list names files"
        elif os.path.lexists(path):
            found.files[name] = path
        else:
            found.skipped[name] = f"named in the list but not there (looked for {printable(path)})"
    return found


def _listed_urls(source: Path, names: Sequence[str]) -> FoundFiles:
    if other := next((name for name in names if not is_url(name)), None):
        raise RequestError(f"'{source}' names URLs and paths, such as '{other}'; a list holds one or the other.")
    folders = [f"{name.rpartition('/')[0]}/" for name in names]
    root = os.path.commonprefix(folders).rpartition("/")[0]  # noqa: RUF071 - commonpath would take the second slash
    return FoundFiles(root, {name.removeprefix(root).lstrip("/"): remote_file(name) for name in names}, listed=True)


def names_in(source: Path, columns: Sequence[str] = ("path",)) -> list[str]:
    """The names in a list: one per line (.txt), or one of the `columns`, else the first one (.csv).

    Raises `RequestError`.
    """
    data = source.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in UTF_16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise RequestError(f"'{source}' is not UTF-8 text; save the list as UTF-8.") from None
    if source.suffix.lower() == ".csv":
        try:
            rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
        except csv.Error as error:
            raise RequestError(f"'{source}' is no CSV table ({error}); save the list as CSV or .txt.") from None
        head = next((each for each in columns if rows and each in rows[0]), None)
        headed, column = head is not None, rows[0].index(head) if head is not None else 0
        return [row[column] for row in rows[headed:] if len(row) > column and row[column].strip()]
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return [line for line in lines if line.strip() and (not line.startswith("#") or (source.parent / line).is_file())]


def identifier(path: Path, root: Path) -> str:
    """The POSIX path of `path` below `root`, printable."""
    return printable(path.relative_to(root))


def printable(path: Path) -> str:
    """`path` with slashes as UTF-8 text; bytes that are not UTF-8 become backslash escapes."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _meant(path: Path) -> str:
    """What a path that is not there may have been meant to be."""
    near = next((parent for parent in path.parents if parent.exists()), Path("/"))
    with suppress(OSError):
        names = [each.name for each in near.iterdir()]
        if alike := get_close_matches(path.relative_to(near).parts[0], names, n=1):
            return f"did you mean '{near / alike[0]}'?"
    return f"the nearest folder that does is '{near}'."


def _nothing_found(source: str | Path, found: FoundFiles) -> str:
    wanted = ", ".join(sorted(SUFFIXES))
    if found.skipped:
        name, reason = next(iter(found.skipped.items()))
        return (
            f"'{source}' leads to no image: {len(found.skipped)} entries failed, such as '{name}' ({reason}); fix "
            "that, or give another folder or list."
        )
    if not found.others:
        return f"'{source}' holds no files; give a folder with images ({wanted})."
    held = ", ".join(f"{count} {kind}" for kind, count in found.others.most_common(6))
    return f"'{source}' holds no images ({wanted}); it holds {held}. Give a folder with images."
