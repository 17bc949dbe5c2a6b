"""A Run on disk: what was learned as safetensors, everything else as JSON. Nothing in it can run code.

`config.json` holds the SHA-256 of every file that is read back under `files`, and its own under `sha256`. Format 3 has
the detectors as they are since images are compared with images; earlier formats are refused.
"""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from blemish.images.urls import joined, remote_file
from blemish.machine.errors import RequestError, UnreadableImageError, saved_as_usual, sha256_of, writing_to

if TYPE_CHECKING:  # torch takes seconds to load, and most commands need none
    from blemish.detectors import State

PROGRAM, FORMAT_VERSION = "blemish", 5
CONFIG, PARAMETERS, SCORES, TRAINING = "config.json", "detector.safetensors", "scores.csv", "training"
FILES, OWN = "files", "sha256"  # of `config.json`: hashes of the files beside it, and of its other entries
AGAIN = "make it again with `force`"


def write_artifact(folder: Path, config: dict[str, Any], state: "State") -> None:
    """Write `config.json` and `detector.safetensors`; the config holds the hashes of what is read back."""
    from safetensors.torch import save_file

    with writing_to(folder):
        saved_as_usual(lambda path: save_file(state, path), folder / PARAMETERS)
    write_config(folder, {**config, FILES: hashes(folder, (PARAMETERS, SCORES))})


def hashes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """By name, the SHA-256 of the files that are there."""
    return {name: sha256_of(folder / name) for name in names if (folder / name).is_file()}


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write `config.json`, marked as ours, with its own hash."""
    whole = {"program": PROGRAM, "format_version": FORMAT_VERSION, **config}
    # A folder's name may hold bytes that are no UTF-8: Python's stand-ins for them become JSON escapes.
    with writing_to(folder):
        text = json.dumps({**whole, OWN: own_hash(whole)}, indent=1, ensure_ascii=False)
        (folder / CONFIG).write_bytes((text + "\n").encode("utf-8", "backslashreplace"))


def own_hash(config: dict[str, Any]) -> str:
    """The SHA-256 of the entries of a `config.json`, whatever their order and the white space between them."""
    rest = {name: value for name, value in config.items() if name != OWN}
    return _sha256(json.dumps(rest, sort_keys=True).encode())


def is_ours(folder: Path) -> bool:
    """Whether blemish wrote the `config.json` of a folder."""
    try:
        return type(marked(folder).get("format_version")) is int
    except RequestError:
        return False


def read_artifact(folder: Path) -> tuple[dict[str, Any], "State"]:
    """Read both back. Raises `RequestError` for a folder that is no Run, or one that was damaged or tampered with."""
    from safetensors.torch import load

    config = read_config(folder)
    path = folder / PARAMETERS
    if not path.is_file():
        if other := _other_result(config):
            raise RequestError(f"'{folder}' holds {other}, and no detector; give the folder that `fit` wrote.")
        raise RequestError(f"'{folder}' has no {PARAMETERS}; it is not a complete Run: fit again with `force`.")
    data = checked_bytes(folder, config, PARAMETERS)
    if SCORES in config[FILES]:
        checked_bytes(folder, config, SCORES)
    try:
        return config, load(data)
    except SafetensorError as error:
        raise RequestError(f"'{path}' is no safetensors file ({error}); fit again with `force`.") from None


def check_scored(folder: Path, config: dict[str, Any]) -> None:
    """Raise `RequestError` for a result that holds no scores of images: a purification, or an exported model."""
    if "purification" in config and "decision" not in config:
        raise RequestError(
            f"'{folder}' holds {_other_result(config)}, which has no decision to review; fit its images with "
            "`purify`, and review that folder."
        )


def _other_result(config: dict[str, Any]) -> str:
    """What a result is that is no Run; empty for one that may be a damaged Run."""
    if config.get("model"):
        return f"the scores of new images by '{config['model']}'"
    return "a purification" if "purification" in config and "decision" not in config else ""


@contextmanager
def fetched(url: str) -> Iterator[Path]:
    """A folder of this machine with what is read back of the Run at `url`, a URL of fsspec, inside the block.

    Raises `RequestError` for a Run that cannot be fetched; errors inside the block name the URL in place of the folder.
    """
    with tempfile.TemporaryDirectory(prefix="blemish-") as place:
        folder = Path(place)
        try:
            (folder / CONFIG).write_bytes(remote_file(joined(url, CONFIG)).read_bytes())
            for name in read_config(folder).get(FILES, {}):
                if name != Path(name).name:
                    raise RequestError(f"'{url}/{CONFIG}' names the file '{name}', which is not beside it; {AGAIN}.")
                (folder / name).write_bytes(remote_file(joined(url, name)).read_bytes())
            yield folder
        except UnreadableImageError as error:
            raise RequestError(f"The Run at '{url}' {error}; give a folder that `fit` left.") from None
        except RequestError as error:
            raise type(error)(str(error).replace(place, url)) from error


def checked_bytes(folder: Path, config: dict[str, Any], name: str) -> bytes:
    """A file beside `config.json`. Raises `RequestError` if it is not the one that was written with it."""
    path, files = folder / name, config.get(FILES)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"'{path}' cannot be read ({error.strerror}); fix that, or {AGAIN}.") from None
    if not isinstance(files, dict) or _sha256(data) != files.get(name):
        raise RequestError(
            f"'{path}' is not the file that '{CONFIG}' was written with (its SHA-256 differs: it was changed, "
            f"truncated or replaced); {AGAIN}."
        )
    return data


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a Run. Raises `RequestError` with what was looked for."""
    config, path = marked(folder), folder / CONFIG
    version = config.get("format_version")
    if type(version) is not int or version > FORMAT_VERSION:
        raise RequestError(
            f"'{path}' has format version {version}; this blemish reads {FORMAT_VERSION}: upgrade blemish."
        )
    if version < FORMAT_VERSION:
        raise RequestError(
            f"'{path}' has format version {version}, of an earlier blemish that learned otherwise; this one reads "
            f"{FORMAT_VERSION}: fit again with `force`."
        )
    if config.get(OWN) != own_hash(config):
        raise RequestError(
            f"'{path}' is not as blemish wrote it (its SHA-256 differs): it was changed by hand or damaged; {AGAIN}. "
            "A threshold is changed with `threshold`."
        )
    return config


def marked(folder: Path) -> dict[str, Any]:
    """What a `config.json` of blemish holds, of any version. Raises `RequestError`."""
    path = folder / CONFIG
    if not folder.exists():
        raise RequestError(f"'{folder}' does not exist; give a folder that `fit` left.")
    if not path.is_file():
        raise RequestError(f"'{folder}' is not a Run of blemish: it has no {CONFIG}; give a folder that `fit` left.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise RequestError(f"'{path}' cannot be read ({error}); fit again with `force`.") from None
    if not isinstance(config, dict) or config.get("program") != PROGRAM:
        raise RequestError(f"'{path}' was not written by blemish; give a folder that `fit` left.")
    return config


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
