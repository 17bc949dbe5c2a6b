"""FiftyOne: its JSON for classified images and for detections, beside the images in `data/`."""

import json
from collections.abc import Mapping, Sequence

from blemish.label_formats.annotated import BAD, GOOD, Annotated, category

DATA, CLASSES, DETECTIONS = "data", "labels.json", "detections.json"


def to_classes(images: Sequence[Annotated], stems: Mapping[str, str]) -> str:
    """`FiftyOneImageClassificationDataset`: good or bad an image; `stems` are the names in `data/` without suffix."""
    classes = (GOOD, BAD)
    return json.dumps(
        {"classes": classes, "labels": {stems[each.name]: classes.index(each.verdict) for each in images}}
    )


def to_detections(images: Sequence[Annotated], stems: Mapping[str, str], names: Sequence[str]) -> str:
    """`FiftyOneImageDetectionDataset`: the boxes (left, top, width, height), as shares of the image, 0..1."""
    found = {
        stems[each.name]: [
            {
                "label": names.index(category(region)),
                "bounding_box": [
                    region.left / each.width,
                    region.top / each.height,
                    region.width / each.width,
                    region.height / each.height,
                ],
                "attributes": {"peak": region.peak, "drawn": region.drawn},
            }
            for region in each.regions
        ]
        for each in images
    }
    return json.dumps({"classes": list(names), "labels": found})
