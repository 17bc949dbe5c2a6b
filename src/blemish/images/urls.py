"""Images behind a URL of any file system of fsspec: listed once, each fetched when it is needed.

Nothing here is reached unless a person named the URL. What opens a bucket, keys above all, is between them and fsspec.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

from blemish.machine.errors import RequestError, UnreadableImageError
from blemish.machine.extras import needed

LOCAL = ("file://", "local://")


@dataclass(frozen=True)
class RemoteFile:
    """One file: its URL, and its path in a file system of fsspec."""

    url: str
    filesystem: Any
    path: str

    def read_bytes(self) -> bytes:
        """All of it, over the network. Raises `UnreadableImageError`."""
        try:
            return bytes(self.filesystem.cat_file(self.path))
        except Exception as error:  # each file system has its own errors
            raise UnreadableImageError(f"cannot be fetched: {_reason(error)}") from None


def is_url(source: str | Path) -> bool:
    """Whether it names a place of fsspec; a `Path` never does, it has lost the second slash."""
    return isinstance(source, str) and "://" in source


def located(source: str | Path) -> str | Path:
    """A URL as it is, everything on this machine as a path."""
    text = str(source)
    if not is_url(source):
        return Path(text).expanduser()
    scheme = next((each for each in LOCAL if text.startswith(each)), None)
    if scheme is None:
        return text
    raw = text.removeprefix(scheme)
    return Path(raw) if Path(raw).exists() else Path(url2pathname(raw))


def files_below(url: str) -> dict[str, RemoteFile]:
    """All files below a URL by their path relative to it. Raises `RequestError` if it cannot be listed."""
    filesystem, root = _opened(url)
    try:
        paths = [str(path) for path in filesystem.find(root)]
    except Exception as error:
        raise RequestError(_cannot_open(url, error)) from None
    if paths == [root]:
        raise RequestError(f"'{url}' is one file; give the URL of a folder of images.")
    names = {path.removeprefix(root.rstrip("/")).lstrip("/"): path for path in paths}
    return {name: RemoteFile(joined(url, name), filesystem, path) for name, path in names.items() if name}


def folders_in(url: str) -> dict[str, str]:
    """The URLs of the folders in a URL, by name. Raises `RequestError` if it cannot be listed."""
    filesystem, root = _opened(url)
    try:
        paths = [str(each["name"]) for each in filesystem.ls(root, detail=True) if each["type"] == "directory"]
    except Exception as error:
        raise RequestError(_cannot_open(url, error)) from None
    names = sorted(path.rstrip("/").rpartition("/")[2] for path in paths)
    return {name: joined(url, name) for name in names}


def remote_file(url: str) -> RemoteFile:
    """The file at a URL, not looked at yet. Raises `RequestError` if nothing here can open such a URL."""
    return RemoteFile(url, *_opened(url))


def openable(source: Path | RemoteFile) -> Path | bytes:
    """What a decoder takes: a path, or the bytes of a remote file. Raises `UnreadableImageError`."""
    return source if isinstance(source, Path) else source.read_bytes()


def _opened(url: str) -> tuple[Any, str]:
    fsspec = needed("fsspec.core", "remote", f"'{url}'")
    try:
        filesystem, path = fsspec.url_to_fs(url)
    except Exception as error:  # ValueError: not known, ImportError: a package is missing, and those of file systems
        raise RequestError(_cannot_open(url, error)) from None
    return filesystem, str(path)


def joined(url: str, name: str) -> str:
    """The URL of `name` below `url`: at the end of its first link with a path, as in zip://FOLDER::s3://b/a.zip."""
    links = url.split("::")
    at = next(number for number, link in enumerate(links) if "://" in link)
    links[at] = f"{links[at]}{'' if links[at].endswith('/') else '/'}{name}"
    return "::".join(links)


def _cannot_open(url: str, error: Exception) -> str:
    fix = "install what that names" if isinstance(error, ImportError) else "check the URL and your rights to read it"
    return f"'{url}' cannot be opened ({_reason(error)}); {fix}, or copy the images and name their folder."


def _reason(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return first if isinstance(error, (ImportError, ValueError)) and first else f"{type(error).__name__}: {first}"
