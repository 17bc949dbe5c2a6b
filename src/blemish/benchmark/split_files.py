"""Training images from the split files that others publish, as they are: CSV, JSON, or a list of paths.

| file | its rows |
| --- | --- |
| MeDS, CSV | `filename,clsname`, all categories of a dataset, paths such as `bottle/train/good/014.png` |
| VisA, CSV | `object,split,label,image,mask` |
| anomalib, CSV | the `samples` frame of a dataset: `path,split,label,image_path,mask_path,label_index` |
| Real-IAD, JSON | `{"meta": {...}, "train": [{"category": ..., "image_path": ...}], "test": [...]}` |
| UniAD, JSON | a row a line: `{"filename": ..., "clsname": ...}` |
| .txt | a path a line |

Nothing but the paths is taken, of the rows of one category: what is anomalous is read from the dataset.
"""

import codecs
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from blemish.benchmark.datasets import Category
from blemish.benchmark.datasets.category import plain_name
from blemish.images.decoding import SUFFIXES
from blemish.images.finding import UTF_16, names_in
from blemish.machine.errors import RequestError

# In the order of preference: anomalib's frame has the category's folder as `path` beside `image_path`.
IMAGES = ("image_path", "img_path", "filename", "file_name", "image", "path", "file")
CATEGORIES = ("clsname", "cls_name", "category", "object")
SPLITS, TRAIN = ("split",), "train"
SHOWN = 3  # names in a sentence
Inner = tuple[str, ...]


@dataclass(frozen=True)
class Listed:
    """What a file lists for one category.

    Attributes
    ----------
    paths : of the category's images, each once, in the order of the file; empty if no row is of the category.
    notes : sentences on what was guessed, left out or found under another name.
    others : the names of other categories in the file.
    named : whether the file says of all of them which category they are of, in a column or by a folder.
    """

    paths: tuple[str, ...]
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    named: bool = True


def listed(file: Path, category: Category) -> Listed:
    """The training images that `file` lists for `category`.

    An image is found by its path from the folder of its category on, so that what stands before does not matter. One
    that is there with another suffix is taken, with a note.

    Raises
    ------
    RequestError : for a file that is no such table, and for a row of the category that names none of its images.
    """
    rows = _table(file)
    column, notes = _image_column(file, rows)
    if split := _known(rows, SPLITS):
        training = rows[split].astype(str).str.lower() == TRAIN
        if not training.any():
            there = _some(sorted(set(rows[split].astype(str))))
            raise RequestError(f"'{file}' has no row with the {split} '{TRAIN}'; it has {there}. Name another file.")
        if not training.all():
            notes.append(f"{(~training).sum()} rows of other splits than '{TRAIN}' are left out.")
        rows = rows[training]
    names = [str(name).replace("\\", "/") for name in rows[column] if isinstance(name, str) and name.strip()]
    labelled = _known(rows, CATEGORIES)
    of_rows = list(rows[labelled].astype(str)) if labelled else [""] * len(names)
    if len(of_rows) != len(names):
        raise RequestError(f"'{file}' has {len(rows) - len(names)} rows without a path in '{column}'; fix them.")
    samples = _Samples(category)
    mine: list[str] = []
    others: dict[str, int] = {}
    for name, said in zip(names, of_rows, strict=True):
        whose = said or samples.category_in(name)
        if _same(whose, category.name):
            mine.append(name)
        else:
            others[whose] = others.get(whose, 0) + 1
    found = [samples.find(name, file) for name in mine]
    paths = tuple(dict.fromkeys(found))
    if others:
        notes.append(f"{sum(others.values())} rows of other categories ({_some(others)}) are left out.")
    renamed = [(name, path) for name, path in zip(mine, found, strict=True) if _suffix(name) != _suffix(path)]
    if renamed:
        kinds = " and ".join(dict.fromkeys(f"{_suffix(path)} for {_suffix(name)}" for name, path in renamed))
        notes.append(f"{len(renamed)} of {len(mine)} images are here with another suffix ({kinds}).")
    if len(paths) < len(found):
        notes.append(f"{len(found) - len(paths)} rows name an image again, and are taken once.")
    about = tuple(f"'{file.name}' for {category.name}: {note}" for note in notes)
    return Listed(paths, about, tuple(others), bool(labelled) or all(map(samples.has_folder_in, mine)))


class _Samples:
    """The images of a category by their path from its folder on, with and without suffix."""

    def __init__(self, category: Category) -> None:
        self.category = category
        self.by_path: dict[Inner, str] = {}
        self.by_stem: dict[Inner, list[str]] = {}
        for path in category.samples:
            inner = self._inner(path)
            self.by_path[inner] = path
            self.by_stem.setdefault(_stem(inner), []).append(path)

    def category_in(self, name: str) -> str:
        """The category of a path: this one if a folder is called so or one of its images is; else the first folder."""
        parts = PurePosixPath(name).parts
        if self.has_folder_in(name) or _stem(parts) in self.by_stem:
            return self.category.name
        return parts[0] if len(parts) > 1 else ""

    def has_folder_in(self, name: str) -> bool:
        """Whether a folder of the path is called as the category is."""
        return any(_same(part, self.category.name) for part in PurePosixPath(name).parts[:-1])

    def find(self, name: str, file: Path) -> str:
        """The image's path below the root of its dataset. Raises `RequestError`."""
        inner = self._inner(name)
        if inner in self.by_path:
            return self.by_path[inner]
        alike = self.by_stem.get(_stem(inner), [])
        if len(alike) > 1:
            raise RequestError(f"'{name}' of '{file}' may be {' or '.join(alike)}; keep one of the images.")
        return alike[0] if alike else self.category.sample(name).path  # which says that it is none

    def _inner(self, name: str) -> Inner:
        parts = PurePosixPath(name).parts
        at = [place for place, part in enumerate(parts[:-1]) if _same(part, self.category.name)]
        return parts[at[-1] + 1 :] if at else parts


def _table(file: Path) -> pd.DataFrame:
    """The rows of the file; columns without a name are numbered. Raises `RequestError`."""
    kind = file.suffix.lower()
    if kind == ".txt":
        return pd.DataFrame({IMAGES[0]: names_in(file)}, dtype=object)
    data = file.read_bytes()
    try:
        text = data.decode("utf-16" if data[: len(codecs.BOM_UTF16)] in UTF_16 else "utf-8-sig")
        if kind in (".json", ".jsonl"):
            return pd.DataFrame(_json_rows(text))
        if kind != ".csv":
            raise RequestError(f"'{file}' is no list of training images; name a .txt, .csv or .json file.")
        first_line = text.partition("\n")[0]
        parted = ";" if first_line.count(";") > first_line.count(",") else ","
        rows = pd.read_csv(
            io.StringIO(text), sep=parted, dtype=str, keep_default_na=False, header=None, skip_blank_lines=True
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(
            f"'{file}' cannot be read as a list of training images ({type(error).__name__}: {error}); save it as "
            "UTF-8 text, CSV with a row an image, or JSON with a list 'train'."
        ) from None
    first = [str(cell) for cell in rows.iloc[0]]
    if any(_is_image(cell) for cell in first):
        return rows
    return rows.iloc[1:].set_axis(first, axis=1).reset_index(drop=True)


def _json_rows(text: str) -> list[dict[str, Any]]:
    """The rows of a list, of the list `train` (Real-IAD), of lists by category, or of an object a line."""
    try:
        content = json.loads(text)
    except ValueError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    if not isinstance(content, Mapping):
        return list(content)
    if TRAIN not in content:  # one row, an object on a line
        return [dict(content)]
    training = content[TRAIN]
    if isinstance(training, Mapping):
        return [{CATEGORIES[0]: name, **row} for name, rows in training.items() for row in rows]
    return list(training)


def _image_column(file: Path, rows: pd.DataFrame) -> tuple[Any, list[str]]:
    """The column that holds the images' paths, and a sentence if it was guessed. Raises `RequestError`."""
    if known := _known(rows, IMAGES):
        return known, []
    free = [name for name in rows.columns if "mask" not in str(name).lower()]
    shares = {name: rows[name].map(_is_image).mean() if len(rows) else 0.0 for name in free}
    if not shares or max(shares.values()) == 0:
        raise RequestError(
            f"'{file}' has no column with paths of images; call one of its columns ({_some(map(str, rows.columns))}) "
            f"{IMAGES[0]}."
        )
    guess = max(shares, key=lambda name: shares[name])
    called = f"column {guess + 1}" if isinstance(guess, int) else f"the column '{guess}'"
    return guess, [f"{called} is taken for the images: {shares[guess]:.0%} of its values end like an image's name."]


def _known(rows: pd.DataFrame, names: Sequence[str]) -> str:
    """The first of `names` that is a column, in any case; "" if none is."""
    by_name = {str(column).strip().lower(): column for column in reversed(list(rows.columns))}
    return next((by_name[name] for name in names if name in by_name), "")


def _is_image(cell: object) -> bool:
    return isinstance(cell, str) and _suffix(cell.strip()).lower() in SUFFIXES


def _same(name: str, category: str) -> bool:
    return plain_name(name.lower()) == plain_name(category.lower())


def _stem(parts: Inner) -> Inner:
    return (*parts[:-1], PurePosixPath(parts[-1]).stem) if parts else parts


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix


def _some(names: Any) -> str:
    shown = list(names)
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")
