"""MVTec AD and what is laid out like it: CAT/train/good, CAT/test/{good,DEFECT}, CAT/ground_truth/DEFECT."""

from pathlib import Path

from blemish.benchmark.datasets.category import GOOD, Category, Sample
from blemish.decoding import SUFFIXES
from blemish.folders import identifier

NAME = "mvtec"
LAYOUT = "CATEGORY/train/good, CATEGORY/test/{good,DEFECT} and CATEGORY/ground_truth/DEFECT/NAME_mask.png"
MASK_ENDINGS = ("_mask", "", "_gt")  # in the wild, the ending is often dropped


def categories(root: Path) -> list[Category]:
    """The categories below `root`, or `root` itself if it is one; an empty list if there is none."""
    if _is_category(root):
        return [_category(root, root.parent)]
    return [_category(folder, root) for folder in sorted(root.iterdir()) if _is_category(folder)]


def _is_category(folder: Path) -> bool:
    return (folder / "train" / GOOD).is_dir() and (folder / "test").is_dir()


def _category(folder: Path, root: Path) -> Category:
    normals: list[Sample] = []
    anomalies: list[Sample] = []
    for defect in sorted(path for path in (folder / "test").iterdir() if path.is_dir()):
        if defect.name == GOOD:
            normals += [Sample(identifier(path, root), path) for path in images_in(defect)]
        else:
            masks = _masks(folder / "ground_truth" / defect.name)
            anomalies += [
                Sample(identifier(path, root), path, defect.name, _mask_of(path, masks)) for path in images_in(defect)
            ]
    train = [Sample(identifier(path, root), path) for path in images_in(folder / "train" / GOOD)]
    return Category(NAME, folder.name, root, tuple(train), tuple(normals), tuple(anomalies))


def images_in(folder: Path) -> list[Path]:
    """The image files of one folder, sorted by name; hidden ones are left out."""
    if not folder.is_dir():
        return []
    found = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def _masks(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in images_in(folder)}


def _mask_of(image: Path, masks: dict[str, Path]) -> Path | None:
    return next((masks[image.stem + end] for end in MASK_ENDINGS if image.stem + end in masks), None)
