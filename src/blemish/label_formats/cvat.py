"""CVAT: its XML for images, version 1.1, with a tag an image and its boxes."""

import re
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, tostring

from blemish.label_formats.annotated import BAD, DEFECT, GOOD, Annotated, category

FILE = "annotations.xml"
NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def to_cvat(images: Iterable[Annotated]) -> str:
    """The images with a tag good or bad, by a person or automatic, and a box around each defect."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    names = dict.fromkeys((GOOD, BAD, DEFECT))
    for number, each in enumerate(images):
        size = {"width": str(each.width), "height": str(each.height)}
        image = SubElement(root, "image", {"id": str(number), "name": each.name, **size})
        SubElement(image, "tag", {"label": each.verdict, "source": "manual" if each.label else "auto"})
        for region in each.regions:
            corners = {"xtl": region.left, "ytl": region.top, "xbr": region.right, "ybr": region.bottom}
            places = {name: f"{value:.2f}" for name, value in corners.items()}
            source = "manual" if region.drawn else "auto"
            names[category(region)] = None
            about = {"label": category(region), "source": source, "occluded": "0"}
            SubElement(image, "box", {**about, **places, "z_order": "0"})
    for name in names:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        SubElement(label, "attributes")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n'
