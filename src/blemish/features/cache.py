"""What the feature cache holds, and how it is kept from growing without end."""

import json
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blemish.features.kept_features import ABOUT, FeatureStore
from blemish.machine.errors import RequestError

IN_USE_SECONDS = 24 * 3600  # a set used this lately may belong to a job that runs now


@dataclass(frozen=True)
class FeatureSet:
    """One store of the cache. `used` is a time stamp in seconds, `size` in bytes."""

    folder: Path
    settings: str
    images: int
    size: int
    used: float


def feature_sets(cache: Path) -> list[FeatureSet]:
    """All feature sets of a cache, damaged ones too, the one used last first. Raises `RequestError`."""
    try:
        folders = [folder for folder in (cache / "features").iterdir() if folder.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RequestError(
            f"The cache '{cache}' cannot be read ({error.strerror}); give another with `cache`, or fix that."
        ) from None
    found = [FeatureSet(each, _settings(each), *FeatureStore(each).size(), _used(each)) for each in folders]
    return sorted(found, key=lambda each: -each.used)


def prune(cache: Path, limit: int, *, unused_for: float = 0.0) -> list[FeatureSet]:
    """Drop the least recently used sets until the cache is within `limit` bytes; returns what was dropped.

    Sets used within the last `unused_for` seconds stay, and so does what cannot be removed.
    """
    dropped, total = [], 0
    for each in feature_sets(cache):
        if (total + each.size > limit or not each.size) and time.time() - each.used >= unused_for:
            shutil.rmtree(each.folder, ignore_errors=True)
        if each.folder.exists():
            total += each.size
        else:
            dropped.append(each)
    return dropped


def _settings(folder: Path) -> str:
    try:
        spec = json.loads((folder / ABOUT).read_text(encoding="utf-8"))["spec"]
        height, width = spec["size"]
        return f"{spec['backbone']} {width}x{height} stages {'+'.join(spec['stages'])}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"damaged ({folder.name})"


def _used(folder: Path) -> float:
    for path in (folder / ABOUT, folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0
