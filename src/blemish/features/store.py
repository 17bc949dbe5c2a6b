"""Features on disk: immutable shards under an SQLite index, made where they are missing, read in slices."""

import errno
import hashlib
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from blemish.errors import JobError, UnreadableImageError
from blemish.features.extract import FeatureSpec, box_in_grid, extractor
from blemish.images import ImageSet
from blemish.runtime import intra_op_threads, runtime

SHARD_IMAGES = 32  # at most this many images are lost when an extraction is killed
ANSWER_WITHIN = 60.0  # seconds to wait for another process that writes the index


@dataclass(frozen=True)
class FeatureBatch:
    """Features of a few images.

    Attributes
    ----------
    ids : (B,) the images.
    globals : (B, G) float16, the pooled deepest stage.
    patches : (B, h, w, D) float16.
    boxes : (B, 4) float32, where each image lies in its grid: left, top, right, bottom, each 0..1.
    """

    ids: tuple[str, ...]
    globals: Tensor
    patches: Tensor
    boxes: Tensor

    @property
    def valid(self) -> Tensor:
        """(B, h, w) bool, the patches whose centre lies in the image and not in the padding."""
        return valid_patches(self.boxes, (int(self.patches.shape[1]), int(self.patches.shape[2])))


def valid_patches(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h, w) bool from boxes (B, 4): the patches whose centre lies inside."""
    rows = (torch.arange(grid[0], device=boxes.device) + 0.5) / grid[0]
    columns = (torch.arange(grid[1], device=boxes.device) + 0.5) / grid[1]
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    inside_rows = (rows > top) & (rows < bottom)
    inside_columns = (columns > left) & (columns < right)
    return inside_rows[:, :, None] & inside_columns[:, None, :]


@dataclass
class PatchFeatures:
    """Features of an ImageSet at one spec, in the order of its ids; each made at most once.

    Attributes
    ----------
    images : whose features these are; unreadable ones are still among them.
    spec : with its working size.
    unreadable : images met so far that could not be decoded, with the reason.
    """

    images: ImageSet
    spec: FeatureSpec
    store: "FeatureStore"
    unreadable: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, images: ImageSet, spec: FeatureSpec) -> "PatchFeatures":
        """Features of `images` through the cache of the runtime."""
        return cls(images, spec, FeatureStore.at(runtime().cache, spec, images))

    def batches(
        self, ids: Sequence[str] | None = None, *, size: int = SHARD_IMAGES, stage: str = ""
    ) -> Iterator[FeatureBatch]:
        """The features in slices of up to `size` images; memory does not grow with the number of images.

        Unreadable images are left out and noted in `unreadable`. `stage` names the progress bar.
        """
        names = self.images.ids if ids is None else tuple(ids)
        for start in range(0, len(names), size):
            batch = self._read(names[start : start + size])
            if batch is not None:
                yield batch
            if stage:
                runtime().progress(stage, min(start + size, len(names)), len(names))

    def make(self) -> int:
        """Make and keep whatever is missing; returns how many images passed the backbone."""
        missing = self.store.missing(self.images.content[name] for name in self.images.ids)
        if not missing:
            return 0
        by_content = {self.images.content[name]: name for name in reversed(self.images.ids)}
        names = sorted(by_content[content] for content in missing)
        for start in range(0, len(names), SHARD_IMAGES):
            part = names[start : start + SHARD_IMAGES]
            made = self._compute(part)
            self.store.add(made, self.images)
            runtime().progress("features", start + len(part), len(names))
        return len(names)

    def _read(self, names: Sequence[str]) -> FeatureBatch | None:
        names = [name for name in names if name not in self.unreadable]
        content = self.images.content
        missing = self.store.missing(content[name] for name in names)
        if missing:
            first = {content[name]: name for name in reversed(names) if content[name] in missing}
            made = self._compute(sorted(first.values()))
            if runtime().keep_features:
                self.store.add(made, self.images)
        else:
            made = {}
        by_content = {content[name]: features for name, features in made.items()}
        reasons = {content[name]: self.unreadable[name] for name in self.unreadable if name in content}
        self.unreadable.update({n: reasons[content[n]] for n in names if content[n] in reasons})
        names = [name for name in names if name not in self.unreadable]
        if not names:
            return None
        stored = self.store.read([content[n] for n in names if content[n] not in by_content])
        parts = [by_content.get(content[name]) or stored[content[name]] for name in names]
        boxes = [box_in_grid(self.images.sizes[name], self.spec.size or (1, 1)) for name in names]
        return FeatureBatch(
            tuple(names),
            torch.stack([whole for whole, _ in parts]),
            torch.stack([patches for _, patches in parts]),
            torch.tensor(boxes, dtype=torch.float32),
        )

    def _compute(self, names: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
        """Decode and pass the backbone, one image a thread.

        One image at a time a core is the fastest on a CPU (its activations stay in the cache), and makes an
        image's features independent of the company it came in and of the number of threads.
        """
        network = extractor(self.spec, runtime().device)
        device = runtime().device

        def one(name: str) -> tuple[Tensor, Tensor] | str:
            try:
                rgb = torch.from_numpy(self.images.read(name))
            except UnreadableImageError as error:
                return str(error)
            except OSError as error:
                return f"cannot be read: {error.strerror or error}"
            with torch.inference_mode():
                whole, patches = network(rgb.permute(2, 0, 1)[None].to(device))
            return whole[0].half().cpu().clone(), patches[0].half().cpu().clone()

        made: dict[str, tuple[Tensor, Tensor]] = {}
        with intra_op_threads(1):
            pool = ThreadPoolExecutor(runtime().threads)
            try:
                for name, result in zip(names, pool.map(one, names), strict=True):
                    if isinstance(result, str):
                        self.unreadable[name] = result
                    else:
                        made[name] = result
            finally:
                pool.shutdown(cancel_futures=True)
        return made


@dataclass(frozen=True)
class FeatureStore:
    """One folder of the cache: all features made with the same settings, by the content of the image."""

    folder: Path

    @classmethod
    def at(cls, cache: Path, spec: FeatureSpec, images: ImageSet) -> "FeatureStore":
        """The store for `spec` under the folder `cache`; features depend on how files are decoded, too."""
        about = {"spec": spec.key(), "range": images.decoding.range}
        text = json.dumps(about, sort_keys=True)
        store = cls(cache / "features" / hashlib.sha256(text.encode()).hexdigest()[:24])
        if runtime().keep_features and not store._index_path.exists():
            store._create(json.dumps({"spec": asdict(spec), **about}, indent=1))
        return store

    @property
    def _index_path(self) -> Path:
        return self.folder / "index.sqlite"

    def _create(self, about: str) -> None:
        with writing_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / "about.json").write_text(about, encoding="utf-8")
            with closing(self._connect()) as index, index:
                index.execute("PRAGMA journal_mode=WAL")
                index.execute("CREATE TABLE IF NOT EXISTS rows (content TEXT PRIMARY KEY, shard TEXT, row INTEGER)")

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._index_path, timeout=ANSWER_WITHIN)

    def _find(self, contents: Iterable[str]) -> dict[str, tuple[str, int]]:
        if not self._index_path.exists():
            return {}
        query = "SELECT shard, row FROM rows WHERE content = ?"
        with closing(self._connect()) as index:
            found = {content: index.execute(query, (content,)).fetchone() for content in contents}
        return {content: (row[0], row[1]) for content, row in found.items() if row}

    def missing(self, contents: Iterable[str]) -> set[str]:
        """Those of `contents` whose features have not been kept."""
        wanted = set(contents)
        return wanted.difference(self._find(wanted))

    def read(self, contents: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
        """Features (globals (G,), patches (h, w, D)) by content.

        Shards are opened for one read and closed again: mapped pages would otherwise count as memory in use.
        """
        by_shard: dict[str, list[tuple[int, str]]] = {}
        for content, (shard, row) in self._find(contents).items():
            by_shard.setdefault(shard, []).append((row, content))
        features = {}
        for shard, rows in by_shard.items():
            with safe_open(self.folder / shard, framework="pt") as file:
                wholes, patches = file.get_slice("globals"), file.get_slice("patches")
                for row, content in sorted(rows):
                    features[content] = (wholes[row : row + 1][0].clone(), patches[row : row + 1][0].clone())
        return features

    def add(self, made: dict[str, tuple[Tensor, Tensor]], images: ImageSet) -> None:
        """Keep newly made features: first the whole shard, then its rows in the index."""
        if not made:
            return
        shard = f"{uuid.uuid4().hex}.safetensors"
        names = sorted(made)
        data = save({
            "globals": torch.stack([made[name][0] for name in names]),
            "patches": torch.stack([made[name][1] for name in names]),
        })  # fmt: skip
        with writing_to(self.folder):
            partial = self.folder / f"{shard}.partial"
            try:
                partial.write_bytes(data)
                partial.replace(self.folder / shard)
            finally:
                partial.unlink(missing_ok=True)
            rows = [(images.content[name], shard, row) for row, name in enumerate(names)]
            with closing(self._connect()) as index, index:
                index.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?, ?)", rows)

    def size(self) -> tuple[int, int]:
        """Images kept and bytes used."""
        with closing(self._connect()) as index:
            count = int(index.execute("SELECT COUNT(*) FROM rows").fetchone()[0])
        return count, sum(path.stat().st_size for path in self.folder.iterdir())

    def touch(self) -> None:
        """Note that the features were used now, so that they are the last to be pruned."""
        os.utime(self.folder / "about.json", (time.time(), time.time()))


class writing_to:  # noqa: N801 - reads as a clause: `with writing_to(folder):`
    """Turn a full or unwritable disk into one sentence that says what to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise `JobError` for what the disk refused."""
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or (isinstance(error, sqlite3.OperationalError) and "full" in str(error)):
            raise JobError(
                f"The disk that holds '{self.folder}' is full; free some space or name another place with --cache "
                "or --out. Features made so far are kept."
            ) from error
        if isinstance(error, PermissionError):
            raise JobError(
                f"'{self.folder}' cannot be written; change its permissions, or name another place with "
                "--cache or --out."
            ) from error
