"""CSV: a table of all images, and one of their boxes."""

import csv
import io
from collections.abc import Iterable, Sequence

from blemish.label_formats.annotated import Annotated

IMAGES, BOXES = "labels.csv", "boxes.csv"
IMAGE_COLUMNS = ("path", "label", "predicted", "band", "score", "sha256")
BOX_COLUMNS = ("path", "left", "top", "right", "bottom", "area", "peak", "type", "drawn")


def images_csv(images: Iterable[Annotated]) -> str:
    """A row an image. `label` is what a person found, so that `fit --labels` takes the table; empty if nobody did."""
    return _csv(
        IMAGE_COLUMNS,
        ((each.name, each.label, each.predicted, each.band, f"{each.score:.9g}", each.sha256) for each in images),
    )


def boxes_csv(images: Iterable[Annotated]) -> str:
    """A row a box, in pixels, `right` and `bottom` outside of it."""
    return _csv(
        BOX_COLUMNS,
        (
            (each.name, r.left, r.top, r.right, r.bottom, r.area, f"{r.peak:.6g}", r.type, int(r.drawn))
            for each in images
            for r in each.regions
        ),
    )


def _csv(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(head)
    table.writerows(rows)
    return text.getvalue()
