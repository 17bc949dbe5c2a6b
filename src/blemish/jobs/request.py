"""From what a person asked for to a detector and images."""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from blemish.detectors import Detector, FeatureDetector, detector_class
from blemish.detectors.settings import check_names
from blemish.features.backbones import DEFAULT_BACKBONE, GIVEN
from blemish.images import NORMAL, ImageSet
from blemish.images.decoding import Decoding
from blemish.images.groups import groups_by
from blemish.images.labels import labelled
from blemish.images.roi import Roi
from blemish.machine.errors import RequestError

NORMALS_PREFIX = "normals//"  # ids of images from --normals: no path of the pile has two slashes in a row


def detector_of(
    which: str | Detector, *, preset: str | None = None, seed: int, settings: Mapping[str, Any]
) -> Detector:
    """The detector of a name, or the one handed in with some settings changed. Raises `RequestError`."""
    if isinstance(which, Detector):
        return which.clone(**settings)
    found = detector_class(which)
    check_names({each.name for each in fields(found)}, settings)
    if seed < 0:
        raise RequestError(f"The seed must be 0 or more; got {seed}.")
    named = found.preset(preset) if preset else {}
    return found(**{**named, "random_state": seed, **settings})


def decoding_of(
    levels: tuple[float, float] | None, max_pixels: int | None, otherwise: Decoding | None = None
) -> Decoding:
    """How files are read: as asked for, else as in `otherwise`. Raises `RequestError` for levels that do not rise."""
    if levels and not -math.inf < levels[0] < levels[1] < math.inf:
        raise RequestError(f"--range needs two levels, the lower one first; got {levels[0]:g} {levels[1]:g}.")
    known = otherwise or Decoding()
    return replace(known, range=levels or known.range, max_pixels=max_pixels or known.max_pixels)


def checkpoints_of(place: str | Path | None, detector: Detector) -> Path | None:
    """The folder for half-trained nets, made before anything is done. Raises `RequestError` if there cannot be one."""
    if place is None:
        return None
    if not detector.keeps_checkpoints:
        raise RequestError(f"{detector.name} keeps no half-trained nets; leave out --checkpoints.")
    folder = Path(place).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise RequestError(f"--checkpoints '{place}' can be no folder ({reason}); name another.") from None
    return folder


def ready(detector: Detector, images: Any) -> Detector:
    """The detector set up for what it will look at: what it needs is here, or it takes features as they are."""
    if isinstance(images, ImageSet) and images.features_alone:
        if not isinstance(detector, FeatureDetector):
            raise RequestError(f"{detector.name} looks at images, and these are features alone; take another detector.")
        unasked = {DEFAULT_BACKBONE, GIVEN, *(preset.get("backbone") for preset in detector.presets.values())}
        if detector.backbone not in unasked:
            raise RequestError(f"Features come as they are; leave out the backbone '{detector.backbone}'.")
        return detector.clone(backbone=GIVEN)
    detector.obtain_needs()
    return detector


def with_labels(pile: ImageSet, labels: str | Path | None) -> ImageSet:
    """The pile with the labels of a review. Raises `RequestError` for a file that speaks of other images."""
    if labels is None:
        return pile
    found, notes = labelled(pile, labels)
    good = sum(label == NORMAL for label in found.values())
    told = f"{len(found)} images were reviewed, {good} of them found good; see docs/decide.md for what that changes."
    return replace(pile, labels={**pile.labels, **found}, notes=(*pile.notes, told, *notes))


def within_roi(pile: ImageSet, roi: str | Path | None, detector: Detector) -> ImageSet:
    """The pile, looked at within a region of interest. Raises `RequestError` for a detector that cannot."""
    if roi is None:
        return pile
    if not isinstance(detector, FeatureDetector):
        raise RequestError(f"{detector.name} looks at whole images; --roi needs a detector on patches of its own.")
    return replace(pile, roi=Roi.read(roi))


def with_normals(pile: ImageSet, normals: Any) -> ImageSet:
    """The pile and the images known to be good, each content once as one or the other."""
    if normals is None:
        return pile
    good = ImageSet.of(normals, decoding=pile.decoding)
    if pile.grouping:
        good = replace(good, groups=groups_by(pile.grouping, good.ids, good.content))
    if good.features_alone != pile.features_alone:
        raise RequestError("The normals must be what the pile is, either images or features; got one of each.")
    known = {good.content[name] for name in good.ids}  # a folder of normals may lie within the pile
    return pile.subset(name for name in pile.ids if pile.content[name] not in known).joined(
        good, prefix=NORMALS_PREFIX, label=NORMAL
    )
