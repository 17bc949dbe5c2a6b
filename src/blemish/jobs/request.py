"""From what a person asked for to a detector and images."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from blemish.detectors import Detector, detector_class
from blemish.detectors.settings import check_names
from blemish.errors import RequestError
from blemish.images import NORMAL, ImageSet

NORMALS_PREFIX = "normals//"  # ids of images from --normals: no path of the pile has two slashes in a row


def detector_of(which: str | Detector, *, fast: bool, seed: int, settings: Mapping[str, Any]) -> Detector:
    """The detector of a name, or the one handed in with some settings changed. Raises `RequestError`."""
    if isinstance(which, Detector):
        return which.clone(**settings)
    found = detector_class(which)
    check_names({each.name for each in fields(found)}, settings)
    if seed < 0:
        raise RequestError(f"The seed must be 0 or more; got {seed}.")
    return found(**{**(found.fast_settings if fast else {}), "random_state": seed, **settings})


def with_normals(pile: ImageSet, normals: Any) -> ImageSet:
    """The pile and the images known to be good, each content once as one or the other."""
    if normals is None:
        return pile
    good = ImageSet.of(normals, decoding=pile.decoding)
    known = {good.content[name] for name in good.ids}  # a folder of normals may lie within the pile
    return pile.subset(name for name in pile.ids if pile.content[name] not in known).joined(
        good, prefix=NORMALS_PREFIX, label=NORMAL
    )
