"""What is wrong with the files of a category: missing masks, other sizes, images that are in training and test."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from blemish.benchmark.datasets.category import Category, Sample, mask_files, read_mask
from blemish.images.decoding import read_header
from blemish.machine.errors import RequestError, UnreadableImageError, sha256_of
from blemish.machine.runtime import runtime

SHOWN = 3  # examples a problem names


def problems_of(category: Category) -> list[str]:
    """What is wrong, a sentence each: what the layout tells, and what the files do.

    Every header is read and every mask decoded; images are hashed where another file has the same size.
    """
    found = list(category.problems)
    if not category.train:
        found.append("there are no normal training images")
    for kind, part in (("normal", category.normals), ("anomalous", category.anomalies)):
        if not part:
            found.append(f"there are no {kind} test images")
    found += _unreadable(category)
    if not category.semantic:
        found += _mask_problems(category)
    return [*found, *_shared_content(category)]


def _unreadable(category: Category) -> Iterator[str]:
    bad = []
    samples = _files(category)
    for done, (sample, path) in enumerate(samples, start=1):
        try:
            read_header(path)
        except UnreadableImageError:
            bad.append(sample.path)
        runtime().progress(f"{category.name}: images", done, len(samples))
    yield from _told(bad, "images cannot be read")


def _mask_problems(category: Category) -> Iterator[str]:
    missing, resized, empty, damaged = [], [], [], []
    for done, sample in enumerate(category.anomalies, start=1):
        if sample.mask is None:
            missing.append(sample.path)
            continue
        try:
            sizes = set()
            for file in mask_files(sample.mask):
                with Image.open(file) as mask:
                    sizes.add(mask.size)
            size = max(sizes, default=(1, 1))
            if not read_mask(sample.mask, size).any():
                empty.append(sample.path)
            if sizes and isinstance(sample.source, Path) and {read_header(sample.source).size} != sizes:
                resized.append(sample.path)
        except (OSError, RequestError):
            damaged.append(sample.path)
        except UnreadableImageError:  # the image is told of already
            continue
        runtime().progress(f"{category.name}: masks", done, len(category.anomalies))
    yield from _told(missing, "anomalous images have no mask; pixel metrics leave them out")
    yield from _told(resized, "masks have another size than their image; they are brought to it, nearest pixel")
    yield from _told(empty, "masks mark no defect")
    yield from _told(damaged, "masks cannot be read")


def _shared_content(category: Category) -> Iterator[str]:
    """Images that stand in training and test alike: a detector may know them by heart."""
    by_size: dict[int, list[tuple[bool, str, Path]]] = defaultdict(list)
    training = {sample.path for sample in category.train}
    for sample, path in _files(category):
        by_size[path.stat().st_size].append((sample.path in training, sample.path, path))
    alike = [group for group in by_size.values() if len({training for training, _, _ in group}) == 2]
    shared = []
    for group in alike:
        known = {sha256_of(path) for training, _, path in group if training}
        shared += [name for training, name, path in group if not training and sha256_of(path) in known]
    yield from _told(sorted(shared), "test images are in training too, by content")


def _files(category: Category) -> list[tuple[Sample, Path]]:
    return [(each, each.source) for each in category.samples.values() if isinstance(each.source, Path)]


def _told(names: list[str], what: str) -> Iterator[str]:
    if names:
        more = ", ..." if len(names) > SHOWN else ""
        yield f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}"
