"""Methods stand above parts, side by side: none looks into another."""

from test_imports import MODULES, imported

FLOORS = (("settings",), ("parts",), ("base",), ("feature_detector",), ("one_class",))  # each may use those before it
# A method that is made of another one uses its public names.
MADE_OF = {
    "dinomaly": "anomalib_adapter",
    "funad": "nearest_images",
    "inreach": "patchcore",
    "softpatch": "patchcore",
}
INNER = {  # what these are made of beyond the public names of the other
    ("dinomaly", "anomalib_adapter.weights_at_hand"),
    ("dinomaly", "anomalib_adapter.detector"),
}
OF_DETECTORS = {name: name.split(".")[1:] for name in MODULES if name.startswith("detectors.")}
METHODS = {own for own, *_ in OF_DETECTORS.values()}.difference(*FLOORS)


def test_parts_know_no_method_and_methods_know_no_other() -> None:
    level = {name: number for number, names in enumerate((*FLOORS, METHODS)) for name in names}
    assert {"nearest_images", "padim"} < METHODS
    for name, (own, *_) in OF_DETECTORS.items():
        for other in imported(name):
            if not other.startswith("detectors."):
                assert other != "detectors", f"{name} may not import the registry"
                continue
            _, theirs, *inner = other.split(".")
            assert level[theirs] <= level[own], f"{name} may not import {other}"
            if own != theirs and {own, theirs} <= METHODS:
                assert MADE_OF.get(own) == theirs, f"{name} may not import {other}"
                assert not inner or (own, ".".join([theirs, *inner])) in INNER, f"{name} looks into {other}"
