"""What was said in this review: every click is a row of `labels.csv` before the page shows it."""

import json
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.decision import LARGEST
from blemish.images import ANOMALOUS, NORMAL, UNKNOWN
from blemish.images.labels import LABELS, MEANINGS, SKIPPED, WORDS, Row, append, carry, latest, read
from blemish.machine.errors import BlemishError, RequestError
from blemish.review.gallery import Gallery

SAID = (WORDS[NORMAL], WORDS[ANOMALOUS], SKIPPED)  # what the page offers


class StaleError(BlemishError):
    """A tab speaks of rows of a ranking that is no longer shown."""

    def __init__(self) -> None:
        super().__init__(
            "The ranking changed: the Run was fitted again, and this tab shows the one before. Reload it to go on; "
            "what was said before is kept."
        )


class Labelling:
    """The labels of a gallery's rows, the file they are in, and the way back.

    The file is the truth: it is read again whenever another page or process has written to it. Safe for threads.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self.file = gallery.folder / LABELS
        self.notes: list[str] = []
        self._words: dict[int, str] = {}
        self._seen: tuple[int, int] | None = None
        self._undo: list[dict[int, str]] = []
        self._lock = threading.RLock()
        self._handed_over = False
        self._rows = {name: row for row, name in enumerate(gallery.scores.ids)}
        self._threshold_file = gallery.place() / "threshold.json"
        self.threshold = self._stored_threshold()
        self.words()

    def words(self) -> dict[int, str]:
        """What was said by row: "good", "bad" or "skipped"; rows nobody spoke of are not in it."""
        with self._lock:
            if not self.file.exists():
                self._words, self._seen = {}, None
                return {}
            now = self.file.stat()
            if self._seen != (now.st_mtime_ns, now.st_size):
                rows, self.notes = read(self.file)
                content = dict(zip(self.gallery.scores.ids, self.gallery.content, strict=True))
                found, notes = latest(rows, content)
                self.notes += notes
                self._words = {self._rows[n]: _said(row) for n, row in found.items() if _said(row) in SAID}
                self._seen = now.st_mtime_ns, now.st_size
            return dict(self._words)

    def labels(self) -> NDArray[np.int64]:
        """(N,) `NORMAL`, `ANOMALOUS` or `UNKNOWN`."""
        found = np.full(len(self.gallery), UNKNOWN, dtype=np.int64)
        for row, word in self.words().items():
            found[row] = MEANINGS[word]
        return found

    def say(self, rows: Sequence[int], word: str) -> None:
        """Write down what was said of some images. Raises `RequestError` for another word or image, `JobError`."""
        if word not in (*SAID, WORDS[UNKNOWN]):
            raise RequestError(f"A label is one of {', '.join(SAID)}; got '{word}'.")
        if not all(0 <= row < len(self.gallery) for row in rows):
            raise RequestError("There is no such image in this Run.")
        with self._lock:
            before = self.words()
            self._write(dict.fromkeys(rows, word))
            self._undo.append({row: before.get(row, WORDS[UNKNOWN]) for row in rows})

    def undo(self) -> list[int]:
        """Take back what was said last since the page's program was started; the rows it was said of."""
        with self._lock:
            if not self._undo:
                return []
            before = self._undo[-1]
            self._write(before)
            self._undo.pop()  # only now: if the disk refused, it can be tried again
            return list(before)

    def set_threshold(self, value: float) -> None:
        """Keep a threshold in the Run. Raises `RequestError` for what is none."""
        if not math.isfinite(value) or abs(value) > LARGEST:
            raise RequestError(f"The threshold must be a number of at most {LARGEST:.0e}; got {value}.")
        with self._lock:
            self.threshold = float(value)
            partial = self._threshold_file.with_suffix(f".{os.getpid()}")
            partial.write_text(
                json.dumps({"threshold": self.threshold, "found": self.gallery.decision.threshold}), encoding="utf-8"
            )
            partial.replace(self._threshold_file)

    def hand_over(self, other: "Labelling") -> None:
        """Carry all that was said to the labels of another Run, and take no more: its rows are others."""
        with self._lock:
            carry(self.file, other.file)
            self._handed_over = True

    def _write(self, words: dict[int, str]) -> None:
        if self._handed_over:
            raise StaleError
        gallery = self.gallery
        append(self.file, [Row(gallery.name(row), gallery.content[row], word) for row, word in words.items()])

    def _stored_threshold(self) -> float:
        try:
            stored = json.loads(Path(self._threshold_file).read_text(encoding="utf-8"))
            value, found = float(stored["threshold"]), float(stored["found"])
        except (OSError, ValueError, KeyError, TypeError):
            return self.gallery.decision.threshold
        # A threshold set before the Run was fitted again is on another scale.
        same = found == self.gallery.decision.threshold and math.isfinite(value)
        return value if same else self.gallery.decision.threshold


def _said(row: Row) -> str:
    """The page's own word for a row's, which may have been written by hand."""
    return SKIPPED if row.label == SKIPPED else WORDS[row.meaning]
