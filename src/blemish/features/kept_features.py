"""The disk features are kept on: one file an image, named after its content, in a folder for each kind of features."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from blemish.features.extract import FeatureSpec
from blemish.images import ImageSet
from blemish.machine.errors import RequestError, replacing, writing_to

Features = dict[str, Tensor]
"""Of one image: `GLOBALS` (G,) and each stage (h, w, C) by name, float16."""

GLOBALS, CHECK = "globals", "check"
ABOUT, SUFFIX = "about.json", ".safetensors"
STORE_FORMAT = 3  # part of the cache key: raise it when the files are laid out differently
IN_USE_SECONDS = 24 * 3600  # a set used this lately may belong to a job that runs now


@dataclass(frozen=True)
class FeatureStore:
    """One folder of the cache: all features made with the same settings, by the content of the image.

    What is damaged counts as missing: a file that cannot be read or whose check sum differs is removed.
    """

    folder: Path
    about: str = "{}"

    @classmethod
    def at(cls, cache: Path, spec: FeatureSpec, images: ImageSet) -> "FeatureStore":
        """The store for `spec` under the folder `cache`; features depend on how files are decoded, too."""
        about = {"format": STORE_FORMAT, "spec": spec.key(), "range": images.decoding.range}
        if images.decoding.missing:
            about["missing"] = images.decoding.missing
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
        store = cls(cache / "features" / key, json.dumps(about, indent=1))
        with suppress(OSError):  # not made yet, or not ours to write
            os.utime(store.folder / ABOUT)  # used now, so the last to be pruned
        return store

    def missing(self, contents: Iterable[str]) -> set[str]:
        """The `contents` whose features have not been kept."""
        return {content for content in contents if not self._file(content).is_file()}

    def read(self, contents: Iterable[str]) -> dict[str, Features]:
        """Features by content, those that were kept and are undamaged."""
        features: dict[str, Features] = {}
        for content in set(contents):
            file = self._file(content)
            try:
                found = load(file.read_bytes())
                if int(found.pop(CHECK)) != _check_sum(found):
                    raise ValueError("damaged")
                features[content] = found
            except FileNotFoundError:
                continue
            except (OSError, SafetensorError, ValueError, KeyError):
                with suppress(OSError):
                    file.unlink()
        return features

    def add(self, made: dict[str, Features], images: ImageSet) -> None:
        """Keep newly made features, each file whole or not at all."""
        for name, features in made.items():
            file = self._file(images.content[name])
            packed = {stage: each.contiguous() for stage, each in features.items()}  # no views, which are not saved
            data = save({**packed, CHECK: torch.tensor(_check_sum(packed))})
            with writing_to(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                if not (self.folder / ABOUT).is_file():
                    (self.folder / ABOUT).write_text(self.about, encoding="utf-8")
                with replacing(file) as partial:
                    partial.write_bytes(data)

    def size(self) -> tuple[int, int]:
        """Images kept and bytes used."""
        count, used = 0, 0
        with suppress(OSError), os.scandir(self.folder) as files:
            for each in files:
                count += each.name.endswith(SUFFIX)
                used += each.stat().st_size
        return count, used

    def _file(self, content: str) -> Path:
        return self.folder / f"{content}{SUFFIX}"


def _check_sum(features: Features) -> int:
    total = 0
    for name in sorted(features):
        total = crc32(features[name].numpy().data, total)
    return total


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
