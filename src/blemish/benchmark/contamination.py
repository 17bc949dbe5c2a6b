"""Contamination as a manifest: which images are trained on, written once and the same for every method.

See `spec/protocols.md`. One manifest serves both protocols: the injected anomalies are the same, and only whether they
stay in the test set (Overlap) or leave it (No overlap) differs, so that one fit is enough.
"""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from blemish.benchmark.datasets import Category, Sample
from blemish.decoding import Decoding, decode
from blemish.disk import writing_to
from blemish.errors import RequestError
from blemish.images import ANOMALOUS, ImageSet, Pixels

POLICIES = ("shrink", "cap", "resample")
OVERLAP, NO_OVERLAP = "overlap", "no_overlap"
MODES = (OVERLAP, NO_OVERLAP)
TEST_SHARE = 0.4  # of the anomalies, kept out of the training images for the test without overlap
ROTATION, SHIFT = 3.0, 0.03  # degrees and share of the side: SoftPatch's way of making more anomalies
MANIFEST, ABOUT, FORMAT_VERSION = "manifest.csv", "manifest.json", 1
SETTINGS = ("dataset", "category", "ratio", "reached", "seed", "policy", "test_share")
COLUMNS = ("path", "anomalous", "defect", "copy", "rotation", "shift_x", "shift_y")


@dataclass(frozen=True)
class Entry:
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
        """What the image is called in the ImageSet: its path, or `PATH#COPY`."""
        return f"{self.path}#{self.copy}" if self.copy else self.path


@dataclass(frozen=True)
class Manifest:
    """The training images of a run, and how they were chosen.

    Attributes
    ----------
    ratio : injected anomalies / normal training images, as asked for; `reached` is what came about.
    policy, test_share, seed, defects : see `contaminate`.
    training : the images, sorted by id.
    """

    dataset: str
    category: str
    ratio: float
    reached: float
    seed: int
    policy: str
    test_share: float
    training: tuple[Entry, ...]
    defects: tuple[str, ...] | None = None

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
        """The training images, without labels."""
        self._check(category)
        sources: dict[str, Path | Pixels] = {}
        for entry in self.training:
            sample = category.sample(entry.path)
            whole = sample.source if isinstance(sample.source, Path) else sample.source()
            sources[entry.id] = _moved(whole, entry) if entry.copy else whole
        return ImageSet.named(sources, root=category.root)

    def training_truth(self, ids: Sequence[str]) -> "np.typing.NDArray[np.bool_]":
        """(N,) whether each of the training images `ids` is anomalous."""
        truth = {entry.id: entry.anomalous for entry in self.training}
        return np.array([truth[name] for name in ids], dtype=bool)

    def test_paths(self, category: Category, mode: str) -> tuple[str, ...]:
        """The test images, sorted: all of them with `overlap`, those that were not injected with `no_overlap`.

        Raises `RequestError` if no anomaly or no normal image is left to test on.
        """
        if mode not in MODES:
            raise RequestError(f"The mode must be one of {', '.join(MODES)}; got '{mode}'.")
        self._check(category)
        seen = {entry.path for entry in self.training} if mode == NO_OVERLAP else set()
        normals = [each.path for each in category.normals if each.path not in seen]
        anomalies = [each.path for each in category.anomalies if each.path not in seen]
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
                table.writerow(COLUMNS)
                for entry in self.training:
                    table.writerow([int(v) if isinstance(v, bool) else v for v in asdict(entry).values()])
            about = {name: value for name, value in asdict(self).items() if name != "training"}
            about |= {"contamination": self.contamination, "hash": self.hash, "images": len(self.training)}
            about |= {"modes": list(MODES), "format_version": FORMAT_VERSION}
            (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    def _check(self, category: Category) -> None:
        if (category.dataset, category.name) != (self.dataset, self.category):
            raise RequestError(f"The manifest is one of {self.dataset}/{self.category}, not of {category}.")


def contaminate(
    category: Category,
    ratio: float,
    *,
    seed: int = 0,
    policy: str = "shrink",
    test_share: float = TEST_SHARE,
    defects: Sequence[str] | None = None,
) -> Manifest:
    """Choose training images: all normal ones and `ratio` times as many anomalies drawn from the test set.

    Both are taken from the front of one seeded order, so that a lower ratio injects a subset of what a higher one
    does. `test_share` of the anomalies (rounded up) are never injected.

    Parameters
    ----------
    policy : if fewer anomalies can be injected than asked for: `shrink` drops normal images until the ratio holds,
        `cap` injects all there are, `resample` adds copies turned by up to 3 degrees and shifted by up to 3 %.
    defects : draw from these kinds only.

    Raises
    ------
    RequestError : for a wrong argument, without normal training images, or with nothing to inject.
    """
    _check(category, ratio, seed, policy, test_share, defects)
    rng_anomalies, rng_normals, rng_copies = (np.random.default_rng([seed, stream]) for stream in range(3))
    pool = [each for each in category.anomalies if defects is None or each.defect in defects]
    pool = [pool[i] for i in rng_anomalies.permutation(len(pool))]
    pool = pool[: len(pool) - int(np.ceil(test_share * len(pool)))]
    normals = [category.train[i] for i in rng_normals.permutation(len(category.train))]
    wanted = round(ratio * len(normals))
    if wanted and not pool:
        raise RequestError(
            f"{category} has no anomaly to inject: {len(category.anomalies)} test anomalies, of which a share of "
            f"{test_share:g} is kept for the test; lower --test-share, or use a ratio of 0."
        )
    copies: list[Entry] = []
    if wanted > len(pool) and policy == "shrink":
        normals = normals[: round(len(pool) / ratio)]
    elif wanted > len(pool) and policy == "resample":
        copies = [_copy(pool[i % len(pool)], 1 + i // len(pool), rng_copies) for i in range(wanted - len(pool))]
    injected = [Entry(each.path, anomalous=True, defect=each.defect) for each in pool[:wanted]] + copies
    training = [Entry(each.path, each.label == ANOMALOUS, each.defect) for each in normals] + injected
    return Manifest(
        category.dataset,
        category.name,
        ratio,
        len(injected) / len(normals),
        seed,
        policy,
        test_share,
        tuple(sorted(training, key=lambda entry: entry.id)),
        tuple(defects) if defects is not None else None,
    )


def read_manifest(source: Path, category: Category) -> Manifest:
    """A manifest of ours (its folder or its `manifest.csv`), or any list of training paths (.txt, .csv).

    Of a foreign list nothing but the paths is taken: its ratio follows from the truth of `category`. Raises
    `RequestError` for paths that the category does not have.
    """
    from blemish.folders import names_in  # the one reader of lists

    source = source.expanduser()
    table = source / MANIFEST if source.is_dir() else source
    if not table.is_file():
        raise RequestError(f"'{table}' does not exist; name a manifest, or a list of training paths (.txt, .csv).")
    about = table.parent / ABOUT
    if table.name == MANIFEST and about.is_file():
        return _read_ours(table, about, category)
    samples = [category.sample(name) for name in dict.fromkeys(names_in(table))]
    training = [Entry(each.path, each.label == ANOMALOUS, each.defect) for each in samples]
    if not training:
        raise RequestError(f"'{table}' names no image; a manifest lists the training images, one a line.")
    bad = sum(entry.anomalous for entry in training)
    if bad == len(training):
        raise RequestError(f"'{table}' names no normal image of {category}; a manifest needs some.")
    ratio = bad / (len(training) - bad)
    ordered = tuple(sorted(training, key=lambda entry: entry.id))
    return Manifest(category.dataset, category.name, ratio, ratio, 0, "external", 0.0, ordered)


def _read_ours(table: Path, about_file: Path, category: Category) -> Manifest:
    try:
        about: dict[str, Any] = json.loads(about_file.read_text(encoding="utf-8"))
        if about["format_version"] != FORMAT_VERSION:
            raise RequestError(
                f"'{about_file}' has format {about['format_version']}; this blemish reads {FORMAT_VERSION}."
            )
        with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            training = tuple(
                Entry(
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
    manifest._check(category)
    for entry in training:
        category.sample(entry.path)
    return manifest


def _check(
    category: Category, ratio: float, seed: int, policy: str, test_share: float, defects: Sequence[str] | None
) -> None:
    if not 0 <= ratio < float("inf"):
        raise RequestError(f"The ratio must be 0 or more, anomalies / normal images; got {ratio:g}.")
    if policy not in POLICIES:
        raise RequestError(f"The policy must be one of {', '.join(POLICIES)}; got '{policy}'.")
    if not 0 <= test_share < 1:
        raise RequestError(f"The test share must be at least 0 and below 1; got {test_share:g}.")
    if seed < 0:
        raise RequestError(f"The seed must be 0 or more; got {seed}.")
    if not category.train:
        raise RequestError(f"{category} has no normal training images; nothing can be trained on it.")
    kinds = {each.defect for each in category.anomalies}
    if unknown := sorted(set(defects or ()) - kinds):
        raise RequestError(f"{category} has no defect '{unknown[0]}'; it has {', '.join(sorted(kinds))}.")


def _copy(sample: Sample, number: int, rng: np.random.Generator) -> Entry:
    rotation, across, down = rng.uniform(-1, 1, 3) * (ROTATION, SHIFT, SHIFT)
    # Rounded, so that what the file holds is what was done.
    return Entry(
        sample.path,
        anomalous=True,
        defect=sample.defect,
        copy=number,
        rotation=round(float(rotation), 4),
        shift_x=round(float(across), 6),
        shift_y=round(float(down), 6),
    )


def _moved(source: Path | Pixels, entry: Entry) -> Pixels:
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
