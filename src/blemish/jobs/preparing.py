"""From a request to a detector and images."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.detectors import Detector, detector_class
from blemish.detectors.settings import check_names
from blemish.images import ANOMALOUS, NORMAL, ImageSet, defect_boxes
from blemish.images.decoding import Decoding
from blemish.images.defect_boxes import BOXES, DefectBox
from blemish.images.groups import groups_by
from blemish.images.labels import labelled
from blemish.images.roi import SIDE, Roi
from blemish.jobs.option_groups import InputOptions, MethodOptions
from blemish.jobs.request import Request
from blemish.machine.errors import RequestError

NORMALS_PREFIX = "normals//"  # ids of images from `normals`: no path of a folder has two slashes in a row


def detector_of(request: MethodOptions) -> Detector:
    """The detector of a request, with its settings. Raises `RequestError` for one there is not."""
    named = {name: getattr(request, name, None) for name in ("backbone", "weights", "pixels", "tile", "overlap")}
    named["weights"] = str(named["weights"]) if named["weights"] else None
    settings = {**request.settings, **{name: value for name, value in named.items() if value is not None}}
    if isinstance(request.detector, Detector):
        return request.detector.clone(**settings)
    if not isinstance(request.detector, str):
        kind = request.detector if isinstance(request.detector, type) else type(request.detector)
        fix = f"give an instance, {kind.__name__}()" if issubclass(kind, Detector) else "subclass `Detector`"
        raise RequestError(f"`detector` is a name or an instance of `Detector`; got {request.detector!r}: {fix}.")
    kind = detector_class(request.detector)
    check_names(kind.setting_names(), settings)
    preset = getattr(request, "preset", None)
    preset_settings = kind.preset(preset) if preset else {}
    return kind(**{**preset_settings, "random_state": request.seed, **settings})


def decoding_of(request: InputOptions, otherwise: Decoding | None = None) -> Decoding:
    """How files are read: as in the request, else as in `otherwise`."""
    known = otherwise or Decoding()
    return replace(known, range=request.levels or known.range, max_pixels=request.max_pixels or known.max_pixels)


def checkpoints_of(place: Path | None, detector: Detector) -> Path | None:
    """The folder for half-trained nets, made before anything is done. Raises `RequestError` if there cannot be one."""
    if place is None:
        return None
    if not detector.keeps_checkpoints:
        raise RequestError(f"{detector.name} keeps no half-trained nets; leave out `checkpoints`.")
    folder = place.expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise RequestError(f"`checkpoints` '{place}' can be no folder ({reason}); give another.") from None
    return folder


def ready(detector: Detector, images: Any) -> Detector:
    """The detector set up for what it will look at: what it needs is here, or it takes features as they are."""
    if isinstance(images, ImageSet) and images.features_alone:
        return detector.on_features()
    detector.obtain_needs()
    return detector


def check_features_alone(request: Request, images: Any) -> None:
    """Refuse options that change nothing where the images are features alone. Raises `RequestError`."""
    if isinstance(images, ImageSet) and images.features_alone:
        for name in ("backbone", "weights", "pixels", "tile", "roi", "levels", "max_pixels"):
            if getattr(request, name, None):
                raise RequestError(f"The images are features alone, where `{name}` changes nothing; leave it out.")


def with_labels(found: ImageSet, labels: Path | Mapping[str, str] | None) -> ImageSet:
    """The images with the labels of a review, and what was drawn beside them.

    Raises `RequestError` for labels of other images.
    """
    if labels is None:
        return found
    known, notes = labelled(found, labels)
    defects: Mapping[str, bytes] = {}
    if isinstance(labels, Path):
        defects, more = _drawn(found, known, labels.expanduser().with_name(BOXES))
        notes += more
    good = sum(label == NORMAL for label in known.values())
    notes = [f"Learned from {len(known)} labels, {good} good and {len(known) - good} bad.", *notes]
    return replace(found, labels={**found.labels, **known}, defects=defects, notes=(*found.notes, *notes))


def _drawn(found: ImageSet, known: dict[str, int], file: Path) -> tuple[dict[str, bytes], list[str]]:
    """By id, where defects were drawn on the images labelled bad, and sentences a person should read."""
    boxes, notes = defect_boxes.read(file)
    by_content = defect_boxes.standing(boxes)
    defects = {}
    for name, label in known.items():
        if label == ANOMALOUS and (drawn := by_content.get(found.content[name])):
            defects[name] = np.packbits(_cells(drawn, found.sizes[name])).tobytes()
    if defects:
        notes.append(f"On {len(defects)} of the bad images it was drawn where the defect is.")
    return defects, notes


def _cells(drawn: Iterable[DefectBox], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(SIDE, SIDE), the cells of an image of `size` (width, height) that what was drawn reaches into."""
    width, height = size
    whole, cells = np.zeros((height, width), dtype=np.bool_), np.zeros((SIDE, SIDE), dtype=np.bool_)
    for box in drawn:
        part = whole[box.y : box.y + box.height, box.x : box.x + box.width]
        part |= box.pixels()[: part.shape[0], : part.shape[1]]
    down, across = np.nonzero(whole)
    cells[down * SIDE // height, across * SIDE // width] = True
    return cells


def within_roi(found: ImageSet, roi: str | Path | None, detector: Detector) -> ImageSet:
    """The images, looked at within a region of interest. Raises `RequestError` for a detector that cannot."""
    if roi is None:
        return found
    if not detector.looks_at_patches:
        raise RequestError(f"{detector.name} looks at whole images; `roi` needs a detector that looks at patches.")
    return replace(found, roi=Roi.read(roi))


def is_normal(name: str) -> bool:
    """Whether the image of this id came from `normals`."""
    return name.startswith(NORMALS_PREFIX)


def with_normals(found: ImageSet, normals: Any) -> ImageSet:
    """The images and the images known to be good, each content once as one or the other."""
    if normals is None:
        return found
    good = ImageSet.of(normals, decoding=found.decoding)
    if found.grouping:
        good = replace(good, groups=groups_by(found.grouping, good.ids, good.content))
    if good.features_alone != found.features_alone:
        raise RequestError("The `normals` must be what the images are, either images or features; got one of each.")
    rejected = {found.content[name] for name, label in found.labels.items() if label == ANOMALOUS}
    if outliers := [name for name in good.ids if good.content[name] in rejected]:
        good = good.subset(set(good.ids).difference(outliers))
        which = f"'{outliers[0]}'" + (f" and {len(outliers) - 1} more" if outliers[1:] else "")
        note = f"Of the known good images, {which} had been called bad in the review and count as bad."
        found = replace(found, notes=(*found.notes, note))
    known = {good.content[name] for name in good.ids}  # a folder of normals may be within the folder
    rest = found.subset(name for name in found.ids if found.content[name] not in known)
    if not len(rest):
        raise RequestError(
            f"All {len(found)} images are among the `normals`, which are known to be good, so that none is left to "
            "judge; give other images."
        )
    return rest.joined(good, prefix=NORMALS_PREFIX, label=NORMAL)
