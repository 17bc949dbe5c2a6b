"""Real-IAD: images in realiad_512/CAT/{OK,NG/DEFECT}/SAMPLE, splits as JSON in realiad_jsons*/CAT.json.

Each folder of JSONs is a dataset: `realiad`, `realiad_sv` (one view), `realiad_fuiad_0.1` (training images
that ship contaminated). Up to five views show one sample: they are one group.
"""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.benchmark.datasets.category import GOOD, Category, Layout, Sample, folders_in, inside, missing_note
from blemish.images.finding import identifier
from blemish.machine.errors import RequestError

NAME, SPLITS = "realiad", "realiad_jsons"
SIZES = ("realiad_512", "realiad_1024", "realiad_256", "realiad_raw")  # the first that is there is read


def categories(root: Path) -> list[Category]:
    """The categories of every split below `root` whose images are there."""
    pictures = next((root / size for size in SIZES if (root / size).is_dir()), None)
    if pictures is None:
        return []
    tables = [table for folder in _split_folders(root) for table in folder.glob("*.json")]
    found = [_category(table, pictures, root) for table in tables if (pictures / table.stem).is_dir()]
    return sorted(found, key=lambda category: (category.dataset, category.name))


def signs(root: Path) -> Mapping[str, bool]:
    """See `Layout`."""
    near = [root, *folders_in(root)]
    return {
        "realiad_512 (or _256, _1024, _raw)": any((root / size).is_dir() for size in SIZES),
        "realiad_jsons*/CATEGORY.json": bool(_split_folders(root)),
        "CATEGORY/OK": any((folder / "OK").is_dir() for folder in near),
        "CATEGORY/NG": any((folder / "NG").is_dir() for folder in near),
    }


def _split_folders(root: Path) -> list[Path]:
    """Folders of splits: in `root`, or one level down, as the archive unpacks them."""
    outer = [folder for folder in folders_in(root) if folder.name.startswith(SPLITS)]
    inner = [folder for each in outer for folder in folders_in(each) if folder.name.startswith(SPLITS)]
    return [folder for folder in (*outer, *inner) if next(folder.glob("*.json"), None)]


def _category(table: Path, pictures: Path, root: Path) -> Category:
    try:
        split: dict[str, Any] = json.loads(table.read_text(encoding="utf-8"))
        home = pictures / (str(split.get("meta", {}).get("prefix", "")).strip("/") or table.stem)
        normal_class = split.get("meta", {}).get("normal_class", "OK")
        gone: list[Path] = []
        train, test = (_samples(split[part], home, normal_class, table, root, gone) for part in ("train", "test"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(
            f"'{table}' is no split of Real-IAD ({type(error).__name__}: {error}); unpack the dataset again."
        ) from None
    normals = tuple(each for each in test if each.defect == GOOD)
    anomalies = tuple(each for each in test if each.defect != GOOD)
    problems = missing_note("images", gone)
    name = NAME + table.parent.name.removeprefix(SPLITS)
    return Category(name, table.stem, root, tuple(train), normals, anomalies, problems)


def _samples(
    rows: list[dict[str, Any]], home: Path, normal_class: str, table: Path, root: Path, gone: list[Path]
) -> list[Sample]:
    samples = []
    for row in rows:
        path = inside(home, row["image_path"], table)
        if not path.is_file():
            gone.append(path)
            continue
        defect = GOOD if row["anomaly_class"] == normal_class else row["anomaly_class"]
        mask = inside(home, row["mask_path"], table) if row.get("mask_path") and defect != GOOD else None
        group = f"{home.name}/{PurePosixPath(row['image_path']).parent}"
        samples.append(Sample(identifier(path, root), path, defect, mask if mask and mask.is_file() else None, group))
    return samples


LAYOUT = Layout(
    NAME,
    "realiad_512/CATEGORY/{OK,NG}/... and realiad_jsons*/CATEGORY.json",
    categories,
    signs,
)
