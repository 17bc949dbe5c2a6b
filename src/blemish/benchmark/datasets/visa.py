"""VisA as it ships: CAT/Data/Images/{Normal,Anomaly}, CAT/Data/Masks/Anomaly, split_csv/1cls.csv."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from blemish.benchmark.datasets.category import (
    GOOD,
    Category,
    Layout,
    Sample,
    folders_in,
    images_in,
    inside,
    missing_note,
    samples_in,
    table_rows,
    with_own_split,
)
from blemish.images.finding import identifier

NAME = "visa"
SPLIT = Path("split_csv", "1cls.csv")
KINDS = "image_anno.csv"  # of each category: which defects an image shows
ANOMALY = "anomaly"  # where that is not known


def categories(root: Path) -> list[Category]:
    """The categories below `root`, split as the CSV says; every fifth normal image is for the test without one."""
    folders = [folder for folder in folders_in(root) if _images(folder, "Normal").is_dir()]
    if not folders:
        return []
    if not (root / SPLIT).is_file():
        return [_without_split(folder, root) for folder in folders]
    rows = table_rows(root / SPLIT, ("object", "split", "label", "image", "mask"))
    by_category: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_category[row["object"]].append(row)
    present = [folder for folder in folders if folder.name in by_category]
    return [_category(folder, root, by_category[folder.name]) for folder in present]


def signs(root: Path) -> Mapping[str, bool]:
    """See `Layout`."""
    near = [root, *folders_in(root)]
    return {
        "CATEGORY/Data/Images/Normal": any(_images(folder, "Normal").is_dir() for folder in near),
        "CATEGORY/Data/Images/Anomaly": any(_images(folder, "Anomaly").is_dir() for folder in near),
        "CATEGORY/Data/Masks/Anomaly": any((folder / "Data" / "Masks" / "Anomaly").is_dir() for folder in near),
        SPLIT.as_posix(): (root / SPLIT).is_file(),
    }


def _images(category: Path, kind: str) -> Path:
    return category / "Data" / "Images" / kind


def _category(folder: Path, root: Path, rows: list[dict[str, str]]) -> Category:
    kinds = _kinds(folder)
    parts: dict[tuple[bool, bool], list[Sample]] = defaultdict(list)  # by (for training, normal)
    gone: list[Path] = []
    for row in rows:
        path = inside(root, row["image"], root / SPLIT)
        normal = row["label"].strip().lower() == "normal"
        mask = inside(root, row["mask"], root / SPLIT) if row["mask"].strip() and not normal else None
        if not path.is_file():
            gone.append(path)
            continue
        defect = GOOD if normal else kinds.get(row["image"], ANOMALY)
        sample = Sample(identifier(path, root), path, defect, mask if mask and mask.is_file() else None)
        parts[row["split"].strip().lower() == "train", normal].append(sample)
    train, normals, anomalies = parts[True, True], parts[False, True], parts[False, False]
    problems = missing_note("images", gone)
    if bad := parts[True, False]:
        problems += (f"the split trains on {len(bad)} anomalous images; they are tested on instead",)
    return Category(NAME, folder.name, root, tuple(train), tuple(normals), (*anomalies, *bad), problems)


def _without_split(folder: Path, root: Path) -> Category:
    kinds = _kinds(folder)
    train, normals = with_own_split(samples_in(_images(folder, "Normal"), root))
    masks = {path.stem: path for path in images_in(folder / "Data" / "Masks" / "Anomaly")}
    anomalies = [
        Sample(each.path, each.source, kinds.get(each.path, ANOMALY), masks.get(Path(each.path).stem))
        for each in samples_in(_images(folder, "Anomaly"), root)
    ]
    problem = f"there is no {SPLIT.as_posix()}: every fifth normal image is for the test"
    return Category(NAME, folder.name, root, tuple(train), tuple(normals), tuple(anomalies), (problem,))


def _kinds(folder: Path) -> dict[str, str]:
    """The defects by image, where the category tells them."""
    if not (folder / KINDS).is_file():
        return {}
    return {row["image"]: row["label"].strip() or ANOMALY for row in table_rows(folder / KINDS, ("image", "label"))}


LAYOUT = Layout(
    NAME,
    "CATEGORY/Data/Images/{Normal,Anomaly}, CATEGORY/Data/Masks/Anomaly, split_csv/1cls.csv",
    categories,
    signs,
)
