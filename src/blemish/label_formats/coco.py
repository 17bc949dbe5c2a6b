"""COCO: one JSON file with the images, the boxes and the masks as polygons or run lengths."""

import json
from collections.abc import Iterable
from typing import Any

from blemish.images.defect_boxes import as_text, run_lengths
from blemish.label_formats.annotated import BAD, DEFECT, GOOD, Annotated, Read, category, outline, whole, word_of
from blemish.machine.errors import RequestError
from blemish.scores.regions import Region

POLYGONS, RLE = MASKS = ("polygons", "rle")
FILE = "coco.json"


def to_coco(images: Iterable[Annotated], masks: str = POLYGONS) -> str:
    """The images and their defects as COCO's detection format; `masks` is "polygons" or "rle".

    Beside what COCO has, an image has `score`, `predicted` and `label`. An annotation that was found, not drawn by a
    person, has `score`, the highest value of the map in it.
    """
    names = {DEFECT: 1}
    listed: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, each in enumerate(images, start=1):
        listed.append({
            "id": number,
            "file_name": each.name,
            "width": each.width,
            "height": each.height,
            "score": each.score,
            "predicted": each.predicted,
            "label": each.label,
        })  # fmt: skip
        for region in each.regions:
            found.append({
                "id": len(found) + 1,
                "image_id": number,
                "category_id": names.setdefault(category(region), len(names) + 1),
                "bbox": [region.left, region.top, region.width, region.height],
                "area": region.area,
                "iscrowd": 0,
                "segmentation": _segmentation(region, (each.height, each.width), masks),
                **({} if region.drawn else {"score": region.peak}),
            })  # fmt: skip
    return json.dumps({
        "info": {"description": "made by blemish"},
        "licenses": [],
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in names.items()],
        "images": listed,
        "annotations": found,
    })  # fmt: skip


def from_coco(content: Any) -> tuple[list[Read], int]:
    """What a COCO file says of its images, and how many annotations were predictions, which say nothing.

    Raises `RequestError` if it is no COCO file.
    """
    try:
        names = {each["id"]: str(each["name"]) for each in content["categories"]}
        words: dict[Any, list[str]] = {each["id"]: [] for each in content["images"]}
        predicted = 0
        for each in content["annotations"]:
            if "score" in each:
                predicted += 1
            else:
                words[each["image_id"]].append(word_of(names[each["category_id"]]))
        return [_read(each, words[each["id"]]) for each in content["images"]], predicted
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise RequestError(
            f"It is no COCO file ({type(error).__name__}: {error}): that has images, annotations and categories, and "
            "each annotation the id of one of the images and categories."
        ) from None


def _read(image: dict[str, Any], words: list[str]) -> Read:
    size = (int(image["width"]), int(image["height"])) if image.get("width") and image.get("height") else None
    words = [BAD if BAD in words else GOOD] if words else []
    if image.get("label"):  # of a file that blemish wrote: what a person found
        words = [*words, word_of(str(image["label"]))]
    return Read(str(image["file_name"]), tuple(words), size)


def _segmentation(region: Region, size: tuple[int, int], masks: str) -> Any:
    if masks == POLYGONS:
        return [[round(value, 2) for point in outline(region) for value in point]]
    return {"size": list(size), "counts": as_text(run_lengths(whole(region, size)))}
