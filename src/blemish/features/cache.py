"""What the feature cache holds, and how it is kept from growing without end."""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from blemish.features.store import FeatureStore

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
    """All feature sets of a cache, the one used last first."""
    found = []
    for about in (cache / "features").glob("*/about.json"):
        spec = json.loads(about.read_text(encoding="utf-8"))["spec"]
        height, width = spec["size"]
        strides = "+".join(f"1/{stride}" for stride in spec["strides"])
        images, size = FeatureStore(about.parent).size()
        settings = f"{spec['backbone']} {width}x{height} {strides}"
        found.append(FeatureSet(about.parent, settings, images, size, about.stat().st_mtime))
    return sorted(found, key=lambda each: -each.used)


def prune(cache: Path, limit: int, *, unused_for: float = 0.0) -> list[FeatureSet]:
    """Drop the least recently used sets until the cache is within `limit` bytes; returns what was dropped.

    Sets used within the last `unused_for` seconds stay.
    """
    dropped, total = [], 0
    for each in feature_sets(cache):
        total += each.size
        if total > limit and time.time() - each.used >= unused_for:
            shutil.rmtree(each.folder)
            dropped.append(each)
            total -= each.size
    return dropped
