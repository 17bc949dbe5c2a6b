"""YOLO: a text file an image with its boxes, and `data.yaml`."""

import json
from pathlib import PurePosixPath

from blemish.label_formats.annotated import Annotated, category

IMAGES, LABELS, DATA = "images", "labels", "data.yaml"


def to_yolo(image: Annotated, names: list[str]) -> str:
    """The boxes of an image, one a line: class, a place in `names`, then centre and sides as shares of the image."""
    return "".join(
        f"{names.index(category(region))} {(region.left + region.right) / 2 / image.width:.6f} "
        f"{(region.top + region.bottom) / 2 / image.height:.6f} {region.width / image.width:.6f} "
        f"{region.height / image.height:.6f}\n"
        for region in image.regions
    )


def data_yaml(names: list[str]) -> str:
    """Where images are, below the folder of this file, and the classes. All images are for training: split them."""
    classes = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(names))
    return f"path: .\ntrain: {IMAGES}\nval: {IMAGES}\nnames:\n{classes}"


def stems(names: list[str]) -> dict[str, str]:
    """By name, what image and text file are called without a suffix: another name where two differ in it only."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        path = PurePosixPath(name)
        stem = str(path.with_suffix(""))
        if stem in taken:
            stem = f"{stem}_{path.suffix[1:]}"
        while stem in taken:
            stem += "_"
        taken.add(stem)
        found[name] = stem
    return found
