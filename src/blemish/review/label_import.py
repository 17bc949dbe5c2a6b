"""`import_labels`: what people said of images in another program, as rows of the Run's `labels.csv`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.images import UNKNOWN
from blemish.images.labels import LABELS, WORDS, Row, append, latest, read
from blemish.label_formats.annotated import BAD, GOOD, Read
from blemish.label_formats.coco import from_coco
from blemish.label_formats.label_studio import from_label_studio
from blemish.machine.errors import RequestError
from blemish.runs.artifact import check_scored, read_config
from blemish.runs.stored_scores import StoredScores, read_scores

FORMATS = ("coco", "label-studio", "csv")


@dataclass(frozen=True)
class Imported:
    """What an import added: labels good and bad, and sentences a person should read."""

    good: int
    bad: int
    notes: tuple[str, ...]


def import_labels(
    run: str | Path,
    file: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - as `export_labels` has it
    empty_is_good: bool = False,
    force: bool = False,
) -> Imported:
    """Add what people said in another program to the labels of a Run.

    Images are found by their path, or by as much of its end as the file holds. Rows are only ever appended to
    `labels.csv`. An image that has another label there keeps it unless `force` is set.

    Parameters
    ----------
    run : the folder that `fit` or `score` left.
    file : a COCO file, a JSON export of Label Studio, or a CSV with the columns `path` and `label`.
    format : "coco", "label-studio" or "csv"; found in the file by default.
    empty_is_good : an image of a COCO file without annotations was looked at, and is good.
    force : let these labels replace those that the Run has.

    Raises
    ------
    RequestError, JobError

    >>> blemish.import_labels("run", "annotations.json")  # doctest: +SKIP
    """
    run, file = Path(run).expanduser(), Path(file).expanduser()
    check_scored(run, read_config(run))
    stored = read_scores(run)
    kind, content = _content(file, format)
    if empty_is_good and kind != "coco":
        raise RequestError(f"`empty_is_good` is for coco; in {kind} an image nobody looked at is told apart.")
    notes: list[str] = []
    if kind == "csv":
        found, known, notes = _of_table(content, stored)
    else:
        try:
            listed, predicted = from_coco(content) if kind == "coco" else (from_label_studio(content), 0)
        except RequestError as error:
            raise RequestError(f"'{file}' cannot be read. {error}") from None
        if predicted:
            notes.append(
                f"{predicted:,} annotation{' has' if predicted == 1 else 's have'} a score: they were found by a "
                "program, not drawn by a person, and say nothing here."
            )
        found, known, more = _of_images(listed, stored, empty_is_good)
        notes += more
    if known == 0:
        raise RequestError(f"No image of '{file}' is one of '{run}'; name the Run that these images belong to.")
    return _added(run, stored, found, notes, force=force)


def _added(run: Path, stored: StoredScores, found: Mapping[str, str], notes: list[str], *, force: bool) -> Imported:
    file = run / LABELS
    content = dict(zip(stored.scores.ids, stored.content, strict=True))
    rows, _ = latest(read(file)[0] if file.exists() else [], content)
    before = {name: WORDS[row.meaning] for name, row in rows.items() if row.meaning != UNKNOWN}
    other = [name for name, word in found.items() if before.get(name, word) != word]
    if not force:
        notes += _note(other, "a different label in the Run and kept it", "set `force` to replace it")
    new = {name: word for name, word in found.items() if before.get(name) != word and (force or name not in before)}
    if new:
        append(file, [Row(name, content[name], word) for name, word in new.items()])
    words = list(new.values())
    return Imported(words.count(GOOD), words.count(BAD), tuple(notes))


def _content(file: Path, format: str | None) -> tuple[str, Any]:  # noqa: A002
    """The format of a file, and its JSON; for CSV the path, as tables are read later. Raises `RequestError`."""
    if format is not None and format not in FORMATS:
        raise RequestError(f"`format` must be one of {', '.join(FORMATS)}; got '{format}'.")
    if format == "csv" or (format is None and file.suffix.lower() == ".csv"):
        return "csv", file
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise RequestError(f"'{file}' cannot be read ({error.strerror}); give a file with labels.") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(
            f"'{file}' is no JSON ({error}); give a COCO file, a JSON export of Label Studio, or a .csv."
        ) from None
    return format or ("label-studio" if isinstance(content, list) else "coco"), content


Found = tuple[dict[str, str], int | None, list[str]]


def _of_images(listed: Sequence[Read], stored: StoredScores, empty_is_good: bool) -> Found:
    """By id, good or bad; how many images are known, None of an empty file; sentences on images without a label."""
    names = Names(stored.scores.ids)
    words: dict[str, list[str]] = {}
    unknown: list[str] = []
    several: list[str] = []
    sizes: list[str] = []
    empty: list[str] = []
    for each in listed:
        fitting = names.fitting(each.path)
        if len(fitting) != 1:
            (several if fitting else unknown).append(each.path)
            continue
        [name] = fitting
        width, height = (int(value) for value in stored.scores.sizes[stored.scores.index(name)])
        if each.size not in (None, (width, height), (height, width)):  # a program may not apply the orientation
            there = "{} x {}".format(*each.size) if each.size else ""
            sizes.append(f"{name}' ({there} there, {width} x {height} here)")
        elif each.words or empty_is_good:
            words.setdefault(name, []).extend(each.words or (GOOD,))
        else:
            empty.append(name)
    found, notes = _agreed(words)
    notes += [
        *_note(unknown, "a name that no image of the Run has and got no label", "give its Run"),
        *_note(several, "a name that fits several images of the Run and got no label", "give the whole path"),
        *_note(empty, "no annotation and got no label", "if all were looked at, set `empty_is_good`"),
    ]
    if sizes:
        notes.append(
            f"{_many(sizes)} another size than in the Run and got no label, such as '{sizes[0]}; give the same images."
        )
    return found, len(listed) - len(unknown) if listed else None, notes


def _of_table(file: Path, stored: StoredScores) -> Found:
    """As `_of_images`, from a table. Where it has times, the last row of an image counts."""
    rows, notes = read(file)
    names = Names(stored.scores.ids)
    by_content: dict[str, list[str]] = {}
    for name, digest in zip(stored.scores.ids, stored.content, strict=True):
        by_content.setdefault(digest, []).append(name)
    words: dict[str, list[str]] = {}
    unknown: list[str] = []
    several: list[str] = []
    changed: list[str] = []
    for row in rows:
        fitting = by_content.get(row.sha256, []) if row.sha256 else names.fitting(row.path)
        if not fitting:
            (changed if row.sha256 and names.fitting(row.path) else unknown).append(row.path)
        elif not row.sha256 and len(fitting) > 1:
            several.append(row.path)
        else:
            for name in fitting:
                earlier = [] if row.time else words.get(name, [])
                words[name] = [*earlier, *([WORDS[row.meaning]] if row.meaning != UNKNOWN else [])]
    found, more = _agreed(words)
    known = len(rows) - len(unknown) if rows else None
    return (
        found,
        known,
        [
            *notes,
            *more,
            *_note(unknown, "a name that no image of the Run has and got no label", "give its Run"),
            *_note(several, "a name that fits several images of the Run and got no label", "give the whole path"),
            *_note(changed, "another content than in the Run and got no label", "label the image as it is now"),
        ],
    )


def _agreed(words: Mapping[str, Iterable[str]]) -> tuple[dict[str, str], list[str]]:
    """What all who said something of an image said; a sentence on those they do not agree on."""
    sets = {name: set(each) for name, each in words.items() if each}
    split = [name for name, each in sets.items() if len(each) > 1]
    found = {name: next(iter(each)) for name, each in sets.items() if len(each) == 1}
    return found, _note(split, "the labels good and bad in the file and got neither", "decide, and import again")


class Names:
    """Finds images by as much of the end of their path as another program kept, or by more than that."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = frozenset(ids)
        self.by_last: dict[str, list[tuple[str, list[str]]]] = {}
        for name in ids:
            parts = name.split("/")
            self.by_last.setdefault(parts[-1], []).append((name, parts))

    def fitting(self, path: str) -> list[str]:
        """The ids that a path may mean: itself, or those that end as it does, or that it ends as."""
        if path in self.ids:
            return [path]
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
        if not parts:
            return []
        found = []
        for name, own in self.by_last.get(parts[-1], ()):
            least = min(len(own), len(parts))
            if own[-least:] == parts[-least:]:
                found.append((least, name))
        longest = max((least for least, _ in found), default=0)
        return [name for least, name in found if least == longest]


def _many(names: Sequence[str]) -> str:
    return "1 image has" if len(names) == 1 else f"{len(names):,} images have"


def _note(names: Sequence[str], what: str, fix: str) -> list[str]:
    return [f"{_many(names)} {what}, such as '{names[0]}'; {fix}."] if names else []
