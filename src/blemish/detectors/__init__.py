"""The detectors behind one contract, by name.

A detector of blemish is a file (or folder) here and a line in `BUILT_IN`; `CONTRIBUTING.md` lists the rest. Another
package adds its own by the entry point group "blemish.detectors"; see `docs/extend.md`.
"""

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from blemish.detectors.anomalib_adapter import catalogue
from blemish.detectors.base import Detector
from blemish.detectors.feature_detector import FeatureDetector
from blemish.detectors.parts.scoring_head import ScoringHead, State
from blemish.detectors.parts.views import View
from blemish.machine.errors import RequestError

BUILT_IN = {
    "dinomaly": "blemish.detectors.dinomaly:Dinomaly",
    "funad": "blemish.detectors.funad:FunAD",
    "inreach": "blemish.detectors.inreach:InReaCh",
    "nearest_images": "blemish.detectors.nearest_images:NearestImages",
    "padim": "blemish.detectors.padim:PaDiM",
    "patchcore": "blemish.detectors.patchcore:PatchCore",
    "simplenet": "blemish.detectors.simplenet:SimpleNet",
    "softpatch": "blemish.detectors.softpatch:SoftPatch",
}
REGISTRY = {  # blemish's own names stay its own
    **{each.name: each.value for each in entry_points(group="blemish.detectors")},
    **BUILT_IN,
}
DEFAULT_DETECTOR = "nearest_images"


def detector_class(name: str) -> type[Detector]:
    """The class called `name`, one of the registry or "anomalib:MODEL". Raises `RequestError` with near names."""
    if name.startswith(catalogue.PREFIX):
        from blemish.detectors.anomalib_adapter.detector import model_class

        return model_class(name)
    if name not in REGISTRY:
        of_anomalib = [f"{catalogue.PREFIX}{model}" for model in catalogue.models() if model.lower() == name.lower()]
        same = [own for own in REGISTRY if own == name.lower()]
        near = same or of_anomalib or get_close_matches(name, REGISTRY, n=2) or sorted(REGISTRY)
        raise RequestError(f"Detector '{name}' is not known; did you mean {' or '.join(near)}?")
    module, _, attribute = REGISTRY[name].partition(":")
    try:
        found: type[Detector] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RequestError(
            f"Detector '{name}' cannot be imported from '{REGISTRY[name]}' ({error}); update the package it is of."
        ) from error
    return found


def restored_detector(name: str, settings: dict[str, Any]) -> Detector:
    """A detector with the settings that `config.json` holds, not fitted yet."""
    settings = dict(settings)
    if "views" in settings:
        settings["views"] = tuple(
            view if isinstance(view, View) else View(**{**view, "stages": tuple(view["stages"])})
            for view in settings["views"]
        )
    return detector_class(name)(**settings)


__all__ = [
    "BUILT_IN",
    "DEFAULT_DETECTOR",
    "REGISTRY",
    "Detector",
    "FeatureDetector",
    "ScoringHead",
    "State",
    "detector_class",
    "restored_detector",
]
