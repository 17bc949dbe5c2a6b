"""YOLO: a text file an image with its boxes, and `data.yaml`."""

import json
from pathlib import PurePosixPath

from blemish.label_formats.annotated import Annotated

IMAGES, LABELS, DATA = "images", "labels", "data.yaml"


def to_yolo(image: Annotated, names: list[str]) -> str:
    """The boxes of an image, one a line: class, a place in `names`, then centre and sides as shares of the image."""
    return "".join(
        f"{names.index(shape.category)} {(shape.left + shape.right) / 2 / image.width:.6f} "
        f"{(shape.top + shape.bottom) / 2 / image.height:.6f} {shape.width / image.width:.6f} "
        f"{shape.height / image.height:.6f}\n"
        for shape in image.shapes
    )


def data_yaml(names: list[str]) -> str:
    """Where images lie, below the folder of this file, and the classes. All images are for training: split them."""
    classes = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(names))
    return f"path: .\ntrain: {IMAGES}\nval: {IMAGES}\nnames:\n{classes}"


def stems(names: list[str]) -> dict[str, str]:
    """By name, what image and text file are called without a suffix: a name of its own, where two differ in it only."""
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
