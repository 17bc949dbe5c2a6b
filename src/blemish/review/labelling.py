"""Labels, defect types, comments and boxes of a review: each is a row of a table before the page shows it."""

import json
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.decision import LARGEST
from blemish.images import ANOMALOUS, NORMAL, UNKNOWN, defect_boxes
from blemish.images.defect_boxes import BOXES, REMOVED, DefectBox, Mask
from blemish.images.labels import LABELS, MEANINGS, SKIPPED, WORDS, Row, append, carry, latest, read
from blemish.machine.errors import BlemishError, RequestError, replacing
from blemish.review.gallery import Gallery

BAD = WORDS[ANOMALOUS]
SAID = (WORDS[NORMAL], BAD, SKIPPED)  # what the page offers
LONGEST = {"type": 60, "comment": 2000, "who": 60}  # characters
MOST_TYPES = 9  # that have a key


class StaleError(BlemishError):
    """A tab speaks of rows of a ranking that is no longer shown."""

    def __init__(self) -> None:
        super().__init__(
            "The ranking changed: the Run was fitted again, and this tab shows the one before. Reload it to go on; "
            "what was said before is kept."
        )


@dataclass(frozen=True)
class Undoable:
    """What `undo` brings back.

    Attributes
    ----------
    labels : by row, the last row of the table before; None where there was none.
    boxes : by row, what was drawn before, of images on which something was drawn or removed.
    """

    labels: Mapping[int, Row | None]
    boxes: Mapping[int, Sequence[DefectBox]] = field(default_factory=dict)


class Labelling:
    """The labels of a gallery's rows, the file they are in, and the way back.

    The file is the truth: it is read again whenever another page or process has written to it. Safe for threads.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self.file, self.boxes_file = gallery.folder / LABELS, gallery.folder / BOXES
        self.notes: list[str] = []
        self._rows: dict[int, Row] = {}
        self._types: list[str] = []
        self._boxes: dict[str, list[DefectBox]] = {}
        self._box_notes: list[str] = []
        self._seen: dict[Path, tuple[int, int]] = {}
        self._undo: list[Undoable] = []
        self._lock = threading.RLock()
        self._handed_over = False
        self._row_of = {name: row for row, name in enumerate(gallery.scores.ids)}
        self._threshold_file = gallery.place() / "threshold.json"
        self.threshold = self._stored_threshold()
        self.rows()

    def rows(self) -> dict[int, Row]:
        """The last row of the file for each image, by row of the ranking; some have neither good nor bad."""
        with self._lock:
            if not self.file.exists():
                self._rows, self._types = {}, []
            elif self._grown(self.file):
                rows, self.notes = read(self.file)
                content = dict(zip(self.gallery.scores.ids, self.gallery.content, strict=True))
                found, notes = latest(rows, content)
                self.notes += notes
                self._rows = {self._row_of[name]: row for name, row in found.items()}
                self._types = [each for each in dict.fromkeys(row.type for row in rows) if each]
            return dict(self._rows)

    def words(self) -> dict[int, str]:
        """The labels by row: "good", "bad" or "skipped"; rows without one are not in it."""
        return {row: word for row, found in self.rows().items() if (word := _word(found)) in SAID}

    def types(self) -> list[str]:
        """The defect types in the order of their first use; the first nine have keys."""
        self.rows()
        drawn = (box.type for boxes in self.boxes().values() for box in boxes)
        return [each for each in dict.fromkeys((*self._types, *drawn)) if each]

    def boxes(self) -> Mapping[str, list[DefectBox]]:
        """The boxes drawn, by SHA-256 of the image."""
        with self._lock:
            if not self.boxes_file.exists():
                self._boxes = {}
            elif self._grown(self.boxes_file):
                found, self._box_notes = defect_boxes.read(self.boxes_file)
                self._boxes = defect_boxes.standing(found)
            return self._boxes

    def all_notes(self) -> list[str]:
        """Sentences on rows of both tables that could not be used."""
        return [*self.notes, *self._box_notes]

    def _grown(self, file: Path) -> bool:
        """Whether a file is another one than was read last."""
        now = file.stat()
        state = now.st_mtime_ns, now.st_size
        grown = self._seen.get(file) != state
        self._seen[file] = state
        return grown

    def labels(self) -> NDArray[np.int64]:
        """(N,) `NORMAL`, `ANOMALOUS` or `UNKNOWN`."""
        found = np.full(len(self.gallery), UNKNOWN, dtype=np.int64)
        for row, word in self.words().items():
            found[row] = MEANINGS[word]
        return found

    def label(
        self, rows: Sequence[int], word: str, *, kind: str | None = None, comment: str | None = None, who: str = ""
    ) -> None:
        """Write the label of some images. Raises `RequestError` for another word or image, `JobError`.

        A defect type (`kind`) and a comment that are None stay as they were; only a bad image has a type.
        """
        if word not in (*SAID, WORDS[UNKNOWN]):
            raise RequestError(f"A label is one of {', '.join(SAID)}; got '{word}'.")
        self._check(rows)
        _check_lengths(type=kind, comment=comment, who=who)
        with self._lock:
            before = self.rows()

            def labelled(row: int) -> Row:
                was = before.get(row) or self._empty(row)
                defect = (was.type if kind is None else kind.strip()) if word == BAD else ""
                return self._new(row, word, defect, was.comment if comment is None else comment.strip(), who)

            self._write([labelled(row) for row in rows])
            self._undo.append(Undoable({row: before.get(row) for row in rows}))

    def comment(self, row: int, comment: str, who: str = "") -> None:
        """Keep a comment; the label stays as it is. Raises as `label` does."""
        self._check([row])
        found = self.rows().get(row)
        word = _word(found) if found else WORDS[UNKNOWN]
        self.label([row], word, comment=comment, who=who)

    def undo(self, who: str = "") -> list[int]:
        """Take back the last label or drawing since the page's program was started; the rows it was of."""
        with self._lock:
            if not self._undo:
                return []
            step = self._undo[-1]
            for row, before in step.boxes.items():
                now = self._boxes_on(row)
                self._write_boxes(
                    [
                        *(replace(box, type=REMOVED, who=who, time="") for box in now if box not in before),
                        *(box for box in before if box not in now),
                    ]
                )
            self._write([
                self._new(row, _word(was), was.type, was.comment, was.who) if was
                else replace(self._empty(row), who=who)
                for row, was in step.labels.items()
            ])  # fmt: skip
            self._undo.pop()  # only now: if the disk refused, it can be tried again
            return list({*step.labels, *step.boxes})

    def add_boxes(
        self, row: int, corners: Iterable[tuple[int, int, int, int]], kind: str = "", who: str = ""
    ) -> list[DefectBox]:
        """Keep boxes (x, y, width, height), pixels, of an image. Raises `RequestError` for one outside of it."""
        self._check([row])
        _check_lengths(type=kind, who=who)
        wide, high = (int(each) for each in self.gallery.scores.sizes[row])
        found = []
        for x, y, width, height in corners:
            if not (width > 0 and height > 0 and 0 <= x <= wide - width and 0 <= y <= high - height):
                raise RequestError(
                    f"A box must lie in the image of {wide} x {high} pixels; got x {x}, y {y}, width {width}, height "
                    f"{height}."
                )
            found.append(
                DefectBox(self.gallery.name(row), self.gallery.content[row], x, y, width, height, kind.strip(), who)
            )
        self._draw(row, found, kind, who)
        return found

    def paint(self, row: int, masks: Sequence[Mask], kind: str = "", who: str = "") -> None:
        """Keep painted places, masks (H, W) of an image; strokes of one type that touch are one place.

        Raises `RequestError` for a mask that paints nothing of the image.
        """
        self._check([row])
        _check_lengths(type=kind, who=who)
        name, content, kind = self.gallery.name(row), self.gallery.content[row], kind.strip()
        if not all(mask.any() for mask in masks):
            raise RequestError("The brush touched nothing of the image; paint on it.")
        with self._lock:
            before = [box for box in self._boxes_on(row) if box.mask and box.type == kind]
            written: list[DefectBox] = []
            for mask in masks:
                whole = mask.copy()
                for box in list(before):
                    part = whole[box.y : box.y + box.height, box.x : box.x + box.width]
                    if (part & box.pixels()).any():
                        part |= box.pixels()
                        before.remove(box)
                        written.append(replace(box, type=REMOVED, who=who, time=""))
                before.append(DefectBox.painted(name, content, whole, kind, who))
                written.append(before[-1])
            self._draw(row, written, kind, who)

    def _boxes_on(self, row: int) -> list[DefectBox]:
        """What is drawn on an image now."""
        return list(self.boxes().get(self.gallery.content[row], []))

    def _draw(self, row: int, boxes: Sequence[DefectBox], kind: str, who: str) -> None:
        """Write places of an image, which is bad from then on."""
        with self._lock:
            step = Undoable({}, {row: self._boxes_on(row)})
            self._write_boxes(boxes)
            if boxes and self.words().get(row) != BAD:
                self.label([row], BAD, kind=kind or None, who=who)
                step = Undoable(self._undo.pop().labels, step.boxes)
            self._undo.append(step)

    def remove_box(self, row: int, number: int, who: str = "") -> None:
        """Take a box of an image away again, by its number from 0. Raises `RequestError` if there is none."""
        self._check([row])
        with self._lock:
            found = self._boxes_on(row)
            if not 0 <= number < len(found):
                raise RequestError(f"This image has {len(found)} boxes, and none of number {number + 1}; reload it.")
            self._write_boxes([replace(found[number], type=REMOVED, who=who, time="")])
            self._undo.append(Undoable({}, {row: found}))

    def set_threshold(self, value: float) -> None:
        """Keep a threshold in the Run. Raises `RequestError` for what is none."""
        if not math.isfinite(value) or abs(value) > LARGEST:
            raise RequestError(f"The threshold must be a number of at most {LARGEST:.0e}; got {value}.")
        with self._lock:
            self.threshold = float(value)
            stored = {"threshold": self.threshold, "found": self.gallery.decision.threshold}
            with replacing(self._threshold_file) as partial:
                partial.write_text(json.dumps(stored), encoding="utf-8")

    def hand_over(self, other: "Labelling") -> None:
        """Copy all labels and boxes to the Run of `other`, whose rows differ; this one takes no more labels."""
        with self._lock:
            carry(self.file, other.file)
            if self.boxes_file.exists():
                defect_boxes.carry(self.boxes_file, other.boxes_file)
            self._handed_over = True

    def _check(self, rows: Sequence[int]) -> None:
        if not rows or not all(0 <= row < len(self.gallery) for row in rows):
            raise RequestError("There is no such image in this Run.")

    def _empty(self, row: int) -> Row:
        return Row(self.gallery.name(row), self.gallery.content[row], WORDS[UNKNOWN])

    def _new(self, row: int, word: str, kind: str, comment: str, who: str) -> Row:
        return replace(self._empty(row), label=word, type=kind, comment=comment, who=who.strip())

    def _write(self, rows: Sequence[Row]) -> None:
        if self._handed_over:
            raise StaleError
        if rows:
            append(self.file, rows)

    def _write_boxes(self, boxes: Sequence[DefectBox]) -> None:
        with self._lock:
            if self._handed_over:
                raise StaleError
            if boxes:
                defect_boxes.append(self.boxes_file, boxes)

    def _stored_threshold(self) -> float:
        try:
            stored = json.loads(Path(self._threshold_file).read_text(encoding="utf-8"))
            value, found = float(stored["threshold"]), float(stored["found"])
        except (OSError, ValueError, KeyError, TypeError):
            return self.gallery.decision.threshold
        # A threshold set before the Run was fitted again is on another scale.
        same = found == self.gallery.decision.threshold and math.isfinite(value)
        return value if same else self.gallery.decision.threshold


def _word(row: Row) -> str:
    """The page's own word for a row's, which may have been written by hand."""
    return SKIPPED if row.label == SKIPPED else WORDS[row.meaning]


def _check_lengths(**texts: str | None) -> None:
    for name, text in texts.items():
        if text and len(text) > LONGEST[name]:
            raise RequestError(f"'{name}' has at most {LONGEST[name]} characters; got {len(text)}.")
