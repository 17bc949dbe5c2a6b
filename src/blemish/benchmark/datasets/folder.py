"""A folder of one's own: sorted into `good` and other folders, or with a `labels.csv`, or not labelled at all."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from blemish.benchmark.datasets.category import (
    GOOD_NAMES,
    Category,
    Layout,
    Sample,
    folders_in,
    images_in,
    inside,
    table_rows,
    with_own_split,
)
from blemish.images.finding import find, identifier
from blemish.machine.errors import RequestError

NAME, LABELS, DEFECT = "folder", "labels.csv", "defect"
MASKS = ("masks", "ground_truth")
NORMAL_WORDS = GOOD_NAMES | {"0", "accept", "accepted"}
OWN_SPLIT = "every fifth normal image is for the test"
UNLABELLED = "no labels: detectors can learn from it, but nothing can be measured"


def categories(root: Path) -> list[Category]:
    """`root` as one category if a person labelled it."""
    if (root / LABELS).is_file():
        return [_labelled(root, _labels(root))]
    kinds = [folder for folder in folders_in(root) if folder.name.lower() not in MASKS]
    if len(kinds) < 2 or not any(folder.name.lower() in GOOD_NAMES for folder in kinds):
        return []
    labels = {identifier(path, root): kind.name for kind in kinds for path in images_in(kind)}
    return [_labelled(root, labels)] if labels else []


def unlabelled(root: Path) -> list[Category]:
    """Any folder with images, all of them for training. An empty list if there are none."""
    try:
        files = find(root).files
    except RequestError:
        return []
    train = tuple(Sample(name, path) for name, path in files.items() if isinstance(path, Path))
    return [Category(NAME, root.name, root, train, (), (), (UNLABELLED,))]


def signs(root: Path) -> Mapping[str, bool]:
    """See `Layout`."""
    names = {folder.name.lower() for folder in folders_in(root)}
    return {
        "good": bool(names & GOOD_NAMES),
        "folders of defects": len(names - GOOD_NAMES - set(MASKS)) > 0,
        LABELS: (root / LABELS).is_file(),
    }


def _labels(root: Path) -> dict[str, str]:
    """The last label given to each path."""
    rows = table_rows(root / LABELS, ("path", "label"))
    return {row["path"]: row["label"] for row in rows if row["path"] and row["label"]}


def _labelled(root: Path, labels: Mapping[str, str]) -> Category:
    masks = _masks(root)
    normals: list[Sample] = []
    anomalies: list[Sample] = []
    gone = 0
    for name, label in sorted(labels.items()):
        path = inside(root, name, root / LABELS)
        if not path.is_file():
            gone += 1
        elif label.strip().lower() in NORMAL_WORDS:
            normals.append(Sample(name, path))
        else:
            names = (f"{folder}{path.stem}{end}" for folder in (f"{path.parent.name}/", "") for end in ("", "_mask"))
            mask = next((masks[each] for each in names if each in masks), None)
            anomalies.append(Sample(name, path, label.strip(), mask))
    train, test = with_own_split(normals)
    problems = (OWN_SPLIT, *((f"{gone} labelled images are not there",) if gone else ()))
    named = [replace(each, defect=DEFECT if each.defect in ("1", "reject") else each.defect) for each in anomalies]
    return Category(NAME, root.name, root, tuple(train), tuple(test), tuple(named), problems)


def _masks(root: Path) -> dict[str, Path]:
    """Mask files by stem, those in folders of defects as FOLDER/STEM."""
    found: dict[str, Path] = {}
    for home in (root / name for name in MASKS if (root / name).is_dir()):
        found |= {path.stem: path for path in images_in(home)}
        found |= {f"{inner.name}/{path.stem}": path for inner in folders_in(home) for path in images_in(inner)}
    return found


LAYOUT = Layout(
    NAME,
    "good and folders of defects beside it (masks in masks/NAME.png), or labels.csv with path,label",
    categories,
    signs,
)
