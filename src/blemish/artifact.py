"""A Run on disk: what was learned as safetensors, everything else as JSON. Nothing in it can run code."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from blemish.detectors.base import State
from blemish.disk import writing_to
from blemish.errors import RequestError

PROGRAM, FORMAT_VERSION = "blemish", 1
CONFIG, PARAMETERS, SCORES = "config.json", "detector.safetensors", "scores.csv"


def write_artifact(folder: Path, config: dict[str, Any], state: State) -> None:
    """Write `config.json` and `detector.safetensors`; the config holds the hash of the parameters."""
    data = save(state)
    with writing_to(folder):
        (folder / PARAMETERS).write_bytes(data)
    write_config(folder, {**config, "files": {PARAMETERS: hashlib.sha256(data).hexdigest()}})


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write `config.json`, marked as ours."""
    whole = {"program": PROGRAM, "format_version": FORMAT_VERSION, **config}
    with writing_to(folder):
        text = json.dumps(whole, indent=1, ensure_ascii=False)
        # A folder's name may hold bytes that are no UTF-8: Python's stand-ins for them become JSON escapes.
        (folder / CONFIG).write_bytes((text + "\n").encode("utf-8", "backslashreplace"))


def is_ours(folder: Path) -> bool:
    """Whether blemish wrote the `config.json` of a folder."""
    try:
        read_config(folder)
    except RequestError:
        return False
    return True


def read_artifact(folder: Path) -> tuple[dict[str, Any], State]:
    """Read both back. Raises `RequestError` for a folder that is no Run, or one that was damaged or tampered with."""
    config = read_config(folder)
    path = folder / PARAMETERS
    if not path.is_file():
        raise RequestError(f"'{folder}' has no {PARAMETERS}; it is not a complete Run: fit again with --force.")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RequestError(f"'{path}' cannot be read ({error.strerror}); mend that, or fit again.") from None
    files = config.get("files")
    if not isinstance(files, dict) or hashlib.sha256(data).hexdigest() != files.get(PARAMETERS):
        raise RequestError(
            f"'{path}' is not the file that '{CONFIG}' was written with (its SHA-256 differs); fit again with --force."
        )
    try:
        return config, load(data)
    except SafetensorError as error:
        raise RequestError(f"'{path}' is no safetensors file ({error}); fit again with --force.") from None


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a Run. Raises `RequestError` with what was looked for."""
    path = folder / CONFIG
    if not path.is_file():
        raise RequestError(f"'{folder}' is not a Run of blemish: it has no {CONFIG}; name the --out folder of a fit.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RequestError(f"'{path}' cannot be read ({error}); fit again with --force.") from None
    if not isinstance(config, dict) or config.get("program") != PROGRAM:
        raise RequestError(f"'{path}' was not written by blemish; name the --out folder of a fit.")
    if config.get("format_version") != FORMAT_VERSION:
        raise RequestError(
            f"'{path}' has format version {config.get('format_version')}; this blemish reads {FORMAT_VERSION}: "
            "upgrade blemish."
        )
    return config
