"""A contamination on record: which images are trained on, written once and the same for every method.

See `spec/protocols.md`. One manifest serves both protocols: the injected anomalies are the same, and only whether they
stay in the test set (Overlap) or leave it (No overlap) differs, so that one fit is enough.
"""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.benchmark.datasets import Category, Sample
from blemish.benchmark.split_files import listed
from blemish.images import ANOMALOUS, ImageSet
from blemish.images.decoding import Decoding, Pixels, decode
from blemish.machine.errors import RequestError, writing_to

OVERLAP, NO_OVERLAP = "overlap", "no_overlap"
MODES = (OVERLAP, NO_OVERLAP)
MANIFEST, ABOUT, FORMAT_VERSION = "manifest.csv", "manifest.json", 1
SETTINGS = ("dataset", "category", "ratio", "reached", "seed", "policy", "test_share")
COLUMNS = ("path", "anomalous", "defect", "copy", "rotation", "shift_x", "shift_y")


@dataclass(frozen=True)
class TrainingImage:
    """One training image.

    Attributes
    ----------
    path : of the image, relative to the root of its dataset.
    anomalous : whether it was injected; read by metrics, never by a detector.
    copy : 0 for the image itself, 1, 2, ... for a turned and shifted copy of it (policy `resample`).
    rotation : degrees, counter-clockwise. shift_x, shift_y : share of the width and height.
    """

    path: str
    anomalous: bool
    defect: str = "good"
    copy: int = 0
    rotation: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0

    @property
    def id(self) -> str:
        """What the image is called in the ImageSet: a name that says nothing.

        The paths of injected images begin with `test`, and a detector that goes by the order of names would be told
        which they are: it happened (benchmarks/LOG.md).
        """
        return _nameless(f"{self.path}#{self.copy}")


@dataclass(frozen=True)
class Manifest:
    """The training images of a run, and how they were chosen.

    Attributes
    ----------
    ratio : injected anomalies / normal training images, as asked for; `reached` is what came about.
    policy, test_share, seed, defects : see `contaminate`.
    training : the images, sorted by path.
    notes : sentences on what was guessed or left out in a file of others; see `split_files`.
    """

    dataset: str
    category: str
    ratio: float
    reached: float
    seed: int
    policy: str
    test_share: float
    training: tuple[TrainingImage, ...]
    defects: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """16 hex digits that differ if any training image does."""
        rows = "\n".join(json.dumps(list(asdict(entry).values())) for entry in self.training)
        return hashlib.sha256(rows.encode()).hexdigest()[:16]

    @property
    def contamination(self) -> float:
        """Anomalies / all training images."""
        return sum(entry.anomalous for entry in self.training) / max(len(self.training), 1)

    def training_set(self, category: Category) -> ImageSet:
        """The training images, without labels and under names that tell nothing; views of a part are one group."""
        self.check(category)
        sources: dict[str, Path | Pixels] = {}
        groups: dict[str, str] = {}
        for entry in self.training:
            sample = category.sample(entry.path)
            whole = sample.source if isinstance(sample.source, Path) else sample.source()
            sources[entry.id] = _moved(whole, entry) if entry.copy else whole
            if sample.group is not None:
                groups[entry.id] = _nameless(sample.group)
        images = ImageSet.named(sources)
        return replace(images, groups={name: groups.get(name, group) for name, group in images.groups.items()})

    def training_truth(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """(N,) whether each of the training images `ids` is anomalous."""
        truth = {entry.id: entry.anomalous for entry in self.training}
        return np.array([truth[name] for name in ids], dtype=bool)

    def test_paths(self, category: Category, mode: str) -> tuple[str, ...]:
        """The test images, sorted: all of them with `overlap`, those that were not injected with `no_overlap`.

        Other views of a part that was injected leave the test with it.

        Raises `RequestError` if no anomaly or no normal image is left to test on.
        """
        if mode not in MODES:
            raise RequestError(f"The mode must be one of {', '.join(MODES)}; got '{mode}'.")
        self.check(category)
        seen = {part_of(category.sample(entry.path)) for entry in self.training} if mode == NO_OVERLAP else set()
        normals = [each.path for each in category.normals if part_of(each) not in seen]
        anomalies = [each.path for each in category.anomalies if part_of(each) not in seen]
        for kind, left in (("normal", normals), ("anomalous", anomalies)):
            if not left:
                raise RequestError(
                    f"No {kind} test image of {category} is left without overlap; lower the ratio ({self.ratio:g}), "
                    f"raise the test share ({self.test_share:g}), or test with overlap."
                )
        return tuple(sorted(normals + anomalies))

    def test_set(self, category: Category, mode: str) -> ImageSet:
        """The images of `test_paths`, without labels."""
        return category.images(self.test_paths(category, mode))

    def write(self, folder: Path) -> None:
        """Leave `manifest.csv` (a row a training image) and `manifest.json` (how they were chosen)."""
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / MANIFEST).open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow((*COLUMNS, "id"))
                for entry in self.training:
                    table.writerow([*(int(v) if isinstance(v, bool) else v for v in asdict(entry).values()), entry.id])
            about = {name: value for name, value in asdict(self).items() if name != "training"}
            about |= {"contamination": self.contamination, "hash": self.hash, "images": len(self.training)}
            about |= {"modes": list(MODES), "format_version": FORMAT_VERSION}
            (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    def check(self, category: Category) -> None:
        """Raise `RequestError` unless the manifest is one of `category`."""
        if (category.dataset, category.name) != (self.dataset, self.category):
            raise RequestError(f"The manifest is one of {self.dataset}/{self.category}, not of {category}.")


def read_manifest(source: Path, category: Category) -> Manifest:
    """A manifest of ours (its folder or its `manifest.csv`), or a split file of others; see `split_files.listed`.

    Of a foreign file nothing but the paths is taken: its ratio follows from the truth of `category`. Raises
    `RequestError` for paths that the category does not have, and for a file without a row of the category.
    """
    table, about = _files(source)
    if about is not None:
        return _read_ours(table, about, category)
    found = listed(table, category)
    samples = [category.sample(path) for path in found.paths]
    training = [TrainingImage(each.path, each.label == ANOMALOUS, each.defect) for each in samples]
    if not training:
        others = f"; it has {', '.join(sorted(found.others))}" if found.others else ""
        raise RequestError(f"'{table}' names no image of {category}{others}; name another file, or other categories.")
    if all(entry.anomalous for entry in training):
        raise RequestError(f"'{table}' names no normal image of {category}; a manifest needs some.")
    ratio = ratio_of(training)
    ordered = tuple(sorted(training, key=in_order))
    return Manifest(category.dataset, category.name, ratio, ratio, 0, "external", 0.0, ordered, notes=found.notes)


def names_category(source: Path, category: Category) -> bool:
    """Whether the manifest or split file says of its rows that they are of `category`, or they only fit its images."""
    table, about = _files(source)
    return about is not None or listed(table, category).named


def covers(source: Path, category: Category) -> bool:
    """Whether the manifest or split file has a row of `category`. Raises `RequestError` as `read_manifest` does."""
    table, about = _files(source)
    if about is not None:
        known = json.loads(about.read_text(encoding="utf-8"))
        return (known.get("dataset"), known.get("category")) == (category.dataset, category.name)
    return bool(listed(table, category).paths)


def _files(source: Path) -> tuple[Path, Path | None]:
    """The table of a manifest, and for one of ours the file beside it. Raises `RequestError` if there is none."""
    source = source.expanduser()
    table = source / MANIFEST if source.is_dir() else source
    if not table.is_file():
        raise RequestError(
            f"'{table}' does not exist; name a manifest, or a list of training paths (.txt, .csv, .json)."
        )
    about = table.parent / ABOUT
    return table, about if table.name == MANIFEST and about.is_file() else None


def _read_ours(table: Path, about_file: Path, category: Category) -> Manifest:
    try:
        about: dict[str, Any] = json.loads(about_file.read_text(encoding="utf-8"))
        if about["format_version"] != FORMAT_VERSION:
            raise RequestError(
                f"'{about_file}' has format {about['format_version']}; this blemish reads {FORMAT_VERSION}."
            )
        with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            training = tuple(
                TrainingImage(
                    row["path"],
                    row["anomalous"] == "1",
                    row["defect"],
                    int(row["copy"]),
                    *(float(row[name]) for name in COLUMNS[4:]),
                )
                for row in csv.DictReader(file)
            )
        settings = {name: about[name] for name in SETTINGS}
        manifest = Manifest(**settings, training=training, defects=about["defects"] and tuple(about["defects"]))
    except (KeyError, TypeError, ValueError, OSError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"'{table}' is damaged ({type(error).__name__}: {error}); write it again.") from None
    if manifest.hash != about["hash"]:
        raise RequestError(f"'{table}' was changed since it was written (its hash differs); write it again.")
    manifest.check(category)
    for entry in training:
        category.sample(entry.path)
    return manifest


def in_order(entry: TrainingImage) -> tuple[str, int]:
    """What the images of a manifest are sorted by."""
    return entry.path, entry.copy


def _nameless(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def part_of(sample: Sample) -> str:
    """What a detector would know again: the part that is shown, or the image itself."""
    return sample.group or sample.path


def ratio_of(training: Sequence[TrainingImage]) -> float:
    """Anomalies / normal images."""
    bad = sum(entry.anomalous for entry in training)
    return bad / (len(training) - bad)


def _moved(source: Path | Pixels, entry: TrainingImage) -> Pixels:
    """The image turned and shifted, edges filled with its border's median level."""
    rgb = decode(source, Decoding()) if isinstance(source, Path) else source
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    fill = tuple(int(level) for level in np.median(border, axis=0))
    height, width = rgb.shape[:2]
    moved = Image.fromarray(rgb).rotate(
        entry.rotation,
        Image.Resampling.BILINEAR,
        translate=(round(entry.shift_x * width), round(entry.shift_y * height)),
        fillcolor=fill,
    )
    return np.asarray(moved)
