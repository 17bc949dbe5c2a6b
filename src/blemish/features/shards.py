"""The disk features are kept on: immutable shards under an SQLite index that can be made again from them."""

import hashlib
import json
import os
import sqlite3
import uuid
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from blemish.features.extract import FeatureSpec
from blemish.images import ImageSet
from blemish.machine.disk import writing_to

Features = dict[str, Tensor]
"""Of one image: `GLOBALS` (G,) and each stage (h, w, C) by name, float16."""
Row = tuple[str, str, int, int]
"""Of the index: content of the image, shard, row in the shard, check sum."""

GLOBALS = "globals"
ABOUT, INDEX, SHARDS = "about.json", "index.sqlite", "*.safetensors"
STORE_FORMAT = 2  # part of the cache key: raise it when the files are laid out differently
ANSWER_WITHIN = 60.0  # seconds to wait for another process that writes the index


@dataclass(frozen=True)
class FeatureStore:
    """One folder of the cache: all features made with the same settings, by the content of the image.

    What is damaged counts as missing: a shard that cannot be read or whose check sums differ is forgotten, a
    damaged index is made again from what stands in the shards.
    """

    folder: Path
    about: str = "{}"
    _checked: set[str] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def at(cls, cache: Path, spec: FeatureSpec, images: ImageSet) -> "FeatureStore":
        """The store for `spec` under the folder `cache`; features depend on how files are decoded, too."""
        about = {"format": STORE_FORMAT, "spec": spec.key(), "range": images.decoding.range}
        if images.decoding.missing:
            about["missing"] = images.decoding.missing
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
        store = cls(cache / "features" / key, json.dumps(about, indent=1))
        store.touch()
        return store

    def missing(self, contents: Iterable[str]) -> set[str]:
        """Those of `contents` whose features have not been kept."""
        wanted = set(contents)
        rows = self._find(wanted)
        there = {shard for shard in {row[1] for row in rows} if (self.folder / shard).is_file()}
        return wanted.difference(content for content, shard, *_ in rows if shard in there)

    def read(self, contents: Iterable[str]) -> dict[str, Features]:
        """Features by content, those that were kept and are undamaged.

        Shards are opened for one read and closed again: mapped pages would otherwise count as memory in use.
        """
        by_shard: dict[str, list[Row]] = {}
        for row in self._find(contents):
            by_shard.setdefault(row[1], []).append(row)
        features: dict[str, Features] = {}
        for shard, rows in by_shard.items():
            try:
                features |= self._read_shard(shard, rows)
            except (OSError, SafetensorError, ValueError, IndexError):
                self._forget(shard)
        return features

    def add(self, made: dict[str, Features], images: ImageSet) -> None:
        """Keep newly made features: first the whole shard, then its rows in the index."""
        if not made:
            return
        shard, names = f"{uuid.uuid4().hex}.safetensors", sorted(made)
        arrays = {array: torch.stack([made[name][array] for name in names]) for array in made[names[0]]}
        rows = [(images.content[name], shard, row, _check_sum(made[name])) for row, name in enumerate(names)]
        data = save(arrays, metadata={"rows": json.dumps([(content, check) for content, _, _, check in rows])})
        with writing_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (self.folder / ABOUT).is_file():
                (self.folder / ABOUT).write_text(self.about, encoding="utf-8")
            partial = self.folder / f"{shard}.partial"
            try:
                partial.write_bytes(data)
                partial.replace(self.folder / shard)
            finally:
                partial.unlink(missing_ok=True)
            self._enter(rows)

    def size(self) -> tuple[int, int]:
        """Images kept and bytes used."""
        count, used = 0, 0
        with suppress(sqlite3.DatabaseError, OSError), closing(self._connect(read_only=True)) as index:
            count = int(index.execute("SELECT COUNT(*) FROM rows").fetchone()[0])
        with suppress(OSError):
            used = sum(path.stat().st_size for path in self.folder.iterdir())
        return count, used

    def touch(self) -> None:
        """Note that the features were used now, so that they are the last to be pruned."""
        with suppress(OSError):  # not made yet, or not ours to write
            os.utime(self.folder / ABOUT)

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        # No write-ahead log: it needs shared memory, which network disks do not have.
        path = (self.folder / INDEX).absolute()
        return sqlite3.connect(f"{path.as_uri()}?mode={'ro' if read_only else 'rwc'}", timeout=ANSWER_WITHIN, uri=True)

    def _find(self, contents: Iterable[str]) -> list[Row]:
        if not self.folder.is_dir():
            return []
        query, wanted = "SELECT content, shard, row, checked FROM rows WHERE content = ?", set(contents)
        with writing_to(self.folder):
            try:
                with closing(self._connect(read_only=True)) as index:
                    found = [index.execute(query, (content,)).fetchone() for content in wanted]
            except sqlite3.DatabaseError as error:
                if "locked" in str(error):
                    raise
                return [row for row in self._made_again() if row[0] in wanted]
        return [(str(row[0]), str(row[1]), int(row[2]), int(row[3])) for row in found if row]

    def _read_shard(self, shard: str, rows: Sequence[Row]) -> dict[str, Features]:
        features: dict[str, Features] = {}
        with safe_open(self.folder / shard, framework="pt") as file:
            arrays = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            for content, _, row, check in rows:
                found = {name: array[row : row + 1][0].clone() for name, array in arrays.items()}
                if content not in self._checked and _check_sum(found) != check:
                    raise ValueError(f"{shard}: row {row} is damaged")
                self._checked.add(content)
                features[content] = found
        return features

    def _enter(self, rows: Sequence[Row]) -> None:
        with closing(self._connect()) as index, index:
            index.execute(
                "CREATE TABLE IF NOT EXISTS rows (content TEXT PRIMARY KEY, shard TEXT, row INTEGER, checked INTEGER)"
            )
            index.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", rows)

    def _forget(self, shard: str) -> None:
        with suppress(OSError):
            (self.folder / shard).unlink(missing_ok=True)
        with suppress(sqlite3.DatabaseError), closing(self._connect()) as index, index:
            index.execute("DELETE FROM rows WHERE shard = ?", (shard,))

    def _made_again(self) -> list[Row]:
        """The rows that stand in the shards themselves, written to a new index if that is possible."""
        rows: list[Row] = []
        for path in sorted(self.folder.glob(SHARDS)):
            with suppress(OSError, SafetensorError, ValueError, KeyError), safe_open(path, framework="pt") as file:
                kept = json.loads((file.metadata() or {})["rows"])
                rows += [(content, path.name, row, check) for row, (content, check) in enumerate(kept)]
        with suppress(OSError, sqlite3.DatabaseError):
            (self.folder / INDEX).unlink(missing_ok=True)
            self._enter(rows)
        return rows


def _check_sum(features: Features) -> int:
    total = 0
    for name in sorted(features):
        total = crc32(features[name].contiguous().numpy().data, total)
    return total
