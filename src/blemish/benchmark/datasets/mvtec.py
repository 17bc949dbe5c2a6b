"""MVTec AD and what is laid out like it: CAT/train/good, CAT/test/{good,DEFECT}, CAT/ground_truth/DEFECT.

In the wild, masks come without their `_mask`, images as JPEG, folders as `ok` or `normal`, or no ground truth at all.
MVTec LOCO has a folder of masks an image, MVTec 3D-AD the folders rgb, xyz and gt in each folder of images.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from blemish.benchmark.datasets.category import GOOD_NAMES, Category, Layout, Sample, folders_in, images_in, samples_in

NAME = "mvtec"
PICTURES, OWN_MASKS = "rgb", "gt"  # of MVTec 3D-AD
MASK_ENDINGS = ("_mask", "", "_gt", "_label")


def categories(root: Path) -> list[Category]:
    """The categories below `root`, or `root` itself if it is one."""
    if _is_category(root):
        return [_category(root, root.parent)]
    return [_category(folder, root) for folder in folders_in(root) if _is_category(folder)]


def signs(root: Path) -> Mapping[str, bool]:
    """See `Layout`."""
    near = [root, *folders_in(root)]
    return {
        "CATEGORY/train": any((folder / "train").is_dir() for folder in near),
        "CATEGORY/train/good": any(_good(folder / "train") for folder in near),
        "CATEGORY/test": any((folder / "test").is_dir() for folder in near),
        "CATEGORY/ground_truth": any((folder / "ground_truth").is_dir() for folder in near),
    }


def _good(folder: Path) -> Path | None:
    """The folder of normal images in `folder`."""
    if not folder.is_dir():
        return None
    return next((path for path in folders_in(folder) if path.name.lower() in GOOD_NAMES), None)


def _is_category(folder: Path) -> bool:
    return (folder / "test").is_dir() and _good(folder / "train") is not None


def _category(folder: Path, root: Path) -> Category:
    good = _good(folder / "train")
    normals: list[Sample] = []
    anomalies: list[Sample] = []
    for kind in folders_in(folder / "test"):
        samples = samples_in(_pictures(kind), root)
        if kind.name.lower() in GOOD_NAMES:
            normals += samples
        else:
            masks = _masks(folder / "ground_truth" / kind.name) | _masks(kind / OWN_MASKS)
            anomalies += [replace(each, defect=kind.name, mask=_mask_of(each.path, masks)) for each in samples]
    train = samples_in(_pictures(good), root) if good else []
    masked = (folder / "ground_truth").is_dir() or any(each.mask for each in anomalies)
    problems = () if masked else ("there is no ground_truth folder",)
    return Category(NAME, folder.name, root, tuple(train), tuple(normals), tuple(anomalies), problems)


def _pictures(folder: Path) -> Path:
    """Where the pictures of a folder are: in it, or in its folder `rgb`."""
    return folder / PICTURES if (folder / PICTURES).is_dir() else folder


def _masks(folder: Path) -> dict[str, Path]:
    """The masks of a folder by name: files, or a folder of them an image. Empty if there is no such folder."""
    if not folder.is_dir():
        return {}
    return {each.name: each for each in folders_in(folder)} | {each.stem: each for each in images_in(folder)}


def _mask_of(image: str, masks: dict[str, Path]) -> Path | None:
    stem = Path(image).stem
    return next((masks[stem + end] for end in MASK_ENDINGS if stem + end in masks), None)


LAYOUT = Layout(
    NAME,
    "CATEGORY/train/good, CATEGORY/test/{good,DEFECT}, CATEGORY/ground_truth/DEFECT/NAME_mask.png",
    categories,
    signs,
)
