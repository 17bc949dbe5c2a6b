"""Miniature trees of the true layouts of datasets, generated."""

from pathlib import Path

import numpy as np
from PIL import Image

from conftest import picture

SIDE = 64


def image(path: Path, index: int, *, square: bool = False) -> Path:
    """A picture of its own; with `square` a bright defect in its middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = picture(1 + index)
    if square:
        rgb[24:40, 24:40] = 255
    Image.fromarray(rgb).save(path)
    return path


def mask(path: Path, side: int = SIDE) -> Path:
    """The mask of such a defect."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = np.zeros((side, side), np.uint8)
    drawn[24 * side // 64 : 40 * side // 64, 24 * side // 64 : 40 * side // 64] = 255
    Image.fromarray(drawn).save(path)
    return path


def mvtec(
    root: Path,
    name: str = "bolt",
    train: int = 12,
    good: int = 4,
    bad: int = 3,
    suffix: str = ".png",
    end: str = "_mask",
) -> Path:
    """A category with two kinds of defect, `bad` images each."""
    for index in range(train):
        image(root / name / "train" / "good" / f"{index:03d}{suffix}", index)
    for index in range(good):
        image(root / name / "test" / "good" / f"{index:03d}{suffix}", 100 + index)
    for number, defect in enumerate(("dent", "scratch")):
        for index in range(bad):
            image(root / name / "test" / defect / f"{index:03d}{suffix}", 200 + 50 * number + index, square=True)
            mask(root / name / "ground_truth" / defect / f"{index:03d}{end}.png")
    return root
