"""Which models anomalib has and what each needs. Only `anomalib_class` imports anomalib, which takes seconds."""

import ast
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from blemish.machine.errors import RequestError

PREFIX = "anomalib:"
INSTALL = "pip install 'blemish[anomalib]'"
EMBEDDED = "run on the embedded backbone"
VIT = "need the weights of a vision transformer: `weights`"
TORCHVISION = "need weights of torchvision in the cache of torch.hub"
NOT_TRIED = "were not tried with blemish"

# Found by running each with anomalib 2.7.0; docs/anomalib.md says which were fitted and which only refused.
NEEDS: Mapping[str, str] = {
    **dict.fromkeys(
        ("Cflow", "Dfkde", "Dfm", "Fastflow", "Fre", "Glass", "MHPatchcore", "Padim", "Patchcore", "Patchflow",
         "ReverseDistillation", "Stfpm", "Supersimplenet", "Uflow"),
        EMBEDDED,
    ),
    "Ganomaly": "need no weights",
    **dict.fromkeys(("AnomalyDINO", "Dinomaly", "FoundAD", "GeneralAD", "InpFormer", "L2BT", "Rad", "SuperADD"), VIT),
    **dict.fromkeys(("Cfa", "Csflow", "UniNet"), TORCHVISION),
    "Draem": "need a folder of photos of textures: the setting dtd_dir",
    "EfficientAd": "need their teacher's weights in anomalib's cache and a folder of photos: the setting imagenet_dir",
    "Dsr": "need their own weights in anomalib's cache",
    "AnomalyVFM": "need their own weights in the hub's cache",
}  # fmt: skip

# They take depth or words, and do not learn from a folder of images.
OTHER_WORK = ("CFM", "VlmAd", "WinClip")

# Settings that anomalib leaves open for our backbone, and one that would take hours on a CPU.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "EfficientAd": {"batch": 1},  # it insists
    "Fre": {"input_dim": 7680},  # the features of layer3 at 256 pixels, pooled
    "Glass": {"layers": ("layer2", "layer3")},
    "Padim": {"n_features": 100},  # PaDiM Sec. 3.2
    "Patchcore": {"coreset_sampling_ratio": 0.01},
}

# Models that take ResNets by name only, and the channels that they insist on.
RESNET_HEADS: Mapping[str, tuple[int, ...] | None] = {
    "Fastflow": None,
    "ReverseDistillation": (64, 128, 256),
    "Uflow": None,
}


@cache
def models() -> tuple[str, ...]:
    """The image models of the anomalib that is installed, read from its source; empty if it is not installed."""
    found = find_spec("anomalib")
    if found is None or not found.submodule_search_locations:
        return ()
    source = Path(found.submodule_search_locations[0]) / "models" / "image" / "__init__.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return tuple(sorted(set(ast.literal_eval(node.value)).difference(OTHER_WORK)))
    return ()


def by_need() -> dict[str, list[str]]:
    """The models, of this release where anomalib is not installed, by what they need in a few words."""
    found: dict[str, list[str]] = {}
    for model in models() or NEEDS:
        found.setdefault(NEEDS.get(model, NOT_TRIED), []).append(model)
    return {need: found[need] for need in (*dict.fromkeys(NEEDS.values()), NOT_TRIED) if need in found}


def anomalib_class(model: str) -> Any:
    """The class of an image model of anomalib. Raises `RequestError`, with near names or with what to install."""
    known = models()
    if not known:
        raise RequestError(f"'{PREFIX}{model}' needs anomalib, which is not installed; run: {INSTALL}")
    if model in OTHER_WORK:
        raise RequestError(f"'{PREFIX}{model}' does not learn from a folder of images; see: blemish detectors")
    if model not in known:
        lower = {each.lower(): each for each in known}
        near = [PREFIX + lower[each] for each in get_close_matches(model.lower(), lower, n=2)]
        meant = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}."
        raise RequestError(f"anomalib {version('anomalib')} has no image model '{model}'; {meant}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what its modules say of each other concerns nobody here
            import anomalib.models.image
    except ImportError as error:
        raise RequestError(f"anomalib is installed but cannot be imported ({error}); run: {INSTALL}") from error
    return getattr(anomalib.models.image, model)
