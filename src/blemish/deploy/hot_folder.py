"""A hot folder: each file is scored once it is complete, noted once, and put where the decision says.

What survives a kill at any moment: a row of the table is written and synced before its file is moved, and says where
to. A file that still stands where a row names it has been scored and is only moved; a row that was cut short is cut
away and its file scored again. So no file is missed and none is noted twice. Messages follow their rows (`notifying`).
"""

import errno
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from blemish.deploy.current import CurrentRun
from blemish.deploy.notifying import Notifier
from blemish.deploy.watch_records import COLUMNS, TABLE, Key, WatchTable
from blemish.images import ImageSet
from blemish.images.finding import is_image_file, other_files, printable
from blemish.machine.errors import JobError, RequestError, writing_to
from blemish.scores import above

Action = Literal["move", "link", "copy", "none"]
NO_LINK = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)
GOOD, BAD, UNREADABLE = "good", "bad", "unreadable"
AT_ONCE = 32  # files scored together: a kill costs at most their scores


@dataclass(frozen=True)
class Settled:
    """When a file counts as complete.

    Attributes
    ----------
    seconds : unchanged in size and time for this long.
    give_up : a file that cannot be read is looked at again until it is unchanged for this long.
    """

    seconds: float = 1.0
    give_up: float = 30.0


class HotFolder:
    """A folder and where its files go; see the module. `step` looks once."""

    def __init__(
        self,
        folder: Path,
        run: CurrentRun,
        out: Path,
        *,
        action: Action = "move",
        settled: Settled | None = None,
        notifier: Notifier | None = None,
    ) -> None:
        self.folder, self.run, self.out, self.action = folder, run, out, action
        self.settled = settled or Settled()
        self.table = WatchTable(out / TABLE)
        self.notifier = notifier or Notifier(out)
        self.notifier.start(self.table.rows)
        self._real: dict[str, Path] = {}  # by the path as it is told, which differs where a name is no UTF-8
        self._seen: dict[str, tuple[Key, float]] = {}  # by path: as it was last, and since when
        self._others: Counter[str] = Counter()  # files that are not looked at, by suffix
        self._linked = {key[0]: place for key, place in self.table.rows.items() if action == "link" and place}
        self._put_already: set[str] = set()
        self._reported: set[str] = set()
        self.news = self.notifier.news  # sentences for a person; the caller removes those it has shown
        self.noted: list[dict[str, Any]] = []  # what is known of each image that was scored, taken out likewise

    def step(self) -> int:
        """Score what is complete, move what is due; how many files were noted. Raises `JobError` for a full disk."""
        now, noted, due = time.monotonic(), 0, []
        found = self._listed()
        for key in found:
            if key in self.table.rows:
                self._put(key)
                continue
            before = self._seen.get(key[0])
            if before is None or before[0] != key:
                self._seen[key[0]] = (key, now)
                self._unlink_rewritten(key[0])
            if now - self._seen[key[0]][1] >= self.settled.seconds:
                due.append(key)
        self._seen = {
            key[0]: self._seen[key[0]] for key in found if key[0] in self._seen and key not in self.table.rows
        }
        self.notifier.release(self.table.rows)  # of an earlier start that was killed before it
        for start in range(0, len(due), AT_ONCE):
            noted += self._noted(due[start : start + AT_ONCE], now)
        return noted

    def idle(self) -> bool:
        """Whether everything in the folder has been noted and put where it goes."""
        left = [key for key in self._listed() if not (key in self.table.rows and self.action != "move")]
        return not left

    def _listed(self) -> list[Key]:
        found = []
        others: Counter[str] = Counter()
        self._real.clear()
        for root, folders, names in os.walk(self.folder):
            here = Path(root)
            folders[:] = sorted(each for each in folders if here / each != self.out and not each.startswith("."))
            for name in sorted(names):
                path = here / name
                if name.startswith(".") or path.is_symlink():
                    continue
                if not is_image_file(path):
                    others[path.suffix.lower() or name] += 1
                    continue
                try:
                    about = path.stat()
                except OSError:  # gone by now, or not ours to look at
                    continue
                relative = path.relative_to(self.folder)
                self._real[printable(relative)] = relative
                found.append((printable(relative), about.st_size, about.st_mtime_ns))
        if set(others) - set(self._others):
            self.news += other_files(others)
        self._others = others
        return found

    def _noted(self, keys: Sequence[Key], now: float) -> int:
        paths = {printable(self.folder / self._real[key[0]]): key for key in keys}
        run, version = self.run.now()
        try:
            images = ImageSet.of(
                [self.folder / self._real[key[0]] for key in keys], decoding=run.decoding, find_range=False
            )
            scores = run.scored(images)
            self._tell_once(images.notes)
            unreadable = {**images.skipped, **scores.skipped}
        except (RequestError, JobError) as error:
            if len(keys) > 1:  # one of them, or all: told apart one by one
                return sum(self._noted([key], now) for key in keys)
            images, scores, unreadable = None, None, {next(iter(paths)): str(error)}
        rows, about = [], []
        for path, key in paths.items():
            if self._key(key[0]) != key:  # it changed while it was read
                continue
            row: tuple[object, ...]
            chance = None
            if scores is not None and images is not None and path in scores.ids:
                score = scores[path]
                flagged = bool(above([score], run.threshold_)[0])
                facts = (images.content[path], f"{score:.9g}", int(flagged), f"{run.threshold_:.9g}", version)
                (band,) = run.decision.bands(np.array([score]))
                chances = run.decision.chances(np.array([score]))
                chance = None if chances is None else round(float(chances[0]), 4)
                row = (*facts, self._place(BAD if flagged else GOOD, key[0]), "", band)
            else:
                if now - self._seen[key[0]][1] < self.settled.give_up:
                    continue  # perhaps it is still being written
                reason = unreadable.get(path, "cannot be read")
                row = ("", "", "", "", version, self._place(UNREADABLE, key[0]), reason, "")
            stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
            rows.append((key, (stamp, *key, *row)))
            about.append(self._about(rows[-1][1], chance))
        if rows:
            self.notifier.prepare(about)
            self.table.add(rows)
            self.noted += about
            for key, _ in rows:
                self._put(key)
            self.notifier.release(self.table.rows)
        return len(rows)

    def _tell_once(self, notes: Sequence[str]) -> None:
        """Say what is odd about images, once for each thing that is."""
        for note in notes:
            kind = " ".join(note.split()[3:7])  # after "1 image has" and "10 images have"
            if kind not in self._reported:
                self._reported.add(kind)
                self.news.append(note)

    def _about(self, row: Sequence[object], chance: float | None) -> dict[str, Any]:
        """A row of the table as a message: numbers as such, and in `file` where the image lies once it was moved."""
        about: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
        place = about.pop("to")
        about["folder"] = printable(self.folder)
        about["file"] = printable(self.out / place if place else self.folder / self._real[about["path"]])
        for name in ("score", "threshold"):
            about[name] = float(about[name]) if about[name] else None
        return {**about, "flagged": bool(about["flagged"]), "chance": chance}

    def _key(self, name: str) -> Key | None:
        try:
            about = (self.folder / self._real[name]).stat()
        except OSError:
            return None
        return name, about.st_size, about.st_mtime_ns

    def _place(self, kind: str, name: str) -> str:
        """Where a file goes, below `out`: its own path, with a number where that is taken or promised."""
        if self.action == "none":
            return ""
        path, number = Path(kind) / name, 2
        while path.as_posix() in self.table.promised or os.path.lexists(self.out / path):
            path, number = Path(kind) / Path(name).with_stem(f"{Path(name).stem}-{number}"), number + 1
        self.table.promised.add(path.as_posix())
        return path.as_posix()

    def _put(self, key: Key) -> None:
        """Move, link or copy a noted file to where its row says; again and again does no harm.

        A link is a hard link: it holds the content that was scored when another file takes the name. Where the disk
        has none, the file is copied.
        """
        if not (place := self.table.rows[key]):
            return
        source, target = self.folder / self._real[key[0]], self.out / place
        with writing_to(self.out):
            if self.action in ("link", "copy"):
                if place not in self._put_already and not os.path.lexists(target):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self._link_or_copy(key[0], source, target)
                self._put_already.add(place)
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                source.rename(target)
            except OSError as error:
                if error.errno != errno.EXDEV:  # another disk
                    raise
                _copy(source, target)
                source.unlink()

    def _link_or_copy(self, name: str, source: Path, target: Path) -> None:
        if self.action == "link":
            try:
                target.hardlink_to(source)
                self._linked[name] = target.relative_to(self.out).as_posix()
                return
            except OSError as error:
                if error.errno not in NO_LINK:
                    raise
                self.action = "copy"
                self.news.append(f"'{self.out}' cannot hold hard links to '{self.folder}'; files are copied there.")
        _copy(source, target)

    def _unlink_rewritten(self, name: str) -> None:
        """Remove the link of a file that was written into again: it would show what was not scored."""
        target = self.out / self._linked.get(name, "")
        if name not in self._linked or not target.is_file():
            return
        if target.samefile(self.folder / self._real[name]):
            with writing_to(self.out):
                target.unlink()
            self.news.append(
                f"'{name}' was written into again, which changes its link '{self._linked[name]}', too: the link was "
                "removed. Give `action` copy for a camera that does so."
            )
        del self._linked[name]


def _copy(source: Path, target: Path) -> None:
    """Copy a file, whole or not at all, and have it on the disk."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copy2(source, partial)
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(target)
