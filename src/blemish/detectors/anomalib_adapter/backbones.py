"""Where the backbones of anomalib's models come from: what blemish has embedded, a file, or the hub's cache."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.detectors.anomalib_adapter.catalogue import RESNET_HEADS
from blemish.detectors.anomalib_adapter.offline import NetworkRefusedError
from blemish.errors import RequestError
from blemish.features.backbones import BACKBONES, load_classifier

Create = Callable[..., nn.Module]
STANDS_IN_FOR = "resnet18"  # what models that take ResNets by name only are told that they have


def is_embedded(backbone: str) -> bool:
    """Whether a backbone's weights come with blemish."""
    return backbone in BACKBONES


def timm_name(backbone: str) -> str:
    """The name of the architecture in timm."""
    return BACKBONES[backbone].timm_name if is_embedded(backbone) else backbone


def standard_of(backbone: str) -> tuple[list[float], list[float]]:
    """Mean and deviation (0..1) that the embedded weights of `backbone` were made with."""
    entry = BACKBONES[backbone]
    return [entry.mean / 255] * 3, [entry.scale / 255] * 3


@cache
def layers_of(backbone: str) -> list[str]:
    """The layers of a convolutional network as timm names them, from stride 2 to 32. Raises `RequestError`."""
    import timm

    try:
        network = timm.create_model(timm_name(backbone), pretrained=False, features_only=True)
    except RuntimeError as error:
        raise RequestError(
            f"The backbone '{backbone}' cannot be used ({error}); name one of {', '.join(BACKBONES)} or of timm."
        ) from None
    names: list[str] = network.feature_info.module_name()
    return names


def translated(layer: str, backbone: str) -> str:
    """The layer that `backbone` has at the stride of a ResNet's `layer`; other names stay as they are.

    "layer1" has stride 4, "layer4" has 32; anomalib's defaults are these names.
    """
    if not (layer.startswith("layer") and layer[5:].isdigit()):
        return layer
    layers = layers_of(backbone)
    number = int(layer[5:])
    return layer if layer in layers or number >= len(layers) else layers[number]


class SignedHalves(nn.Module):
    """Features split in their positive and negative parts, zeros behind, in the widths of another network.

    Nothing is lost and cosines stay meaningful. Decoders made for ResNets end in a ReLU: they can only reach
    features that are not negative, and those of an EfficientNet are.
    """

    def __init__(self, network: nn.Module, widths: Sequence[int]) -> None:
        super().__init__()
        self.network, self.widths = network, tuple(widths)
        self.feature_info = network.feature_info

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to one (B, width, h, w) a layer."""
        halves = [torch.cat([each.relu(), (-each).relu()], dim=1) for each in self.network(images)]
        pairs = zip(halves, self.widths, strict=True)
        return [F.pad(each, (0, 0, 0, 0, 0, width - each.shape[1])) for each, width in pairs]


def as_taken(model: str, given: Mapping[str, Any], *, own_weights: bool) -> dict[str, Any]:
    """The settings `backbone`, `layer` and `layers` as the constructor of `model` takes them."""
    backbone: str = given["backbone"]
    if model in RESNET_HEADS and is_embedded(backbone) and not own_weights:
        return {"backbone": STANDS_IN_FOR}
    taken: dict[str, Any] = {"backbone": timm_name(backbone)}
    if isinstance(given.get("layer"), str):
        taken["layer"] = translated(given["layer"], backbone)
    if given.get("layers") and all(isinstance(layer, str) for layer in given["layers"]):
        taken["layers"] = [translated(layer, backbone) for layer in given["layers"]]
    return taken


@contextmanager
def backbones_at_hand(backbone: str, weights: str, model: str, *, learned: bool) -> Iterator[None]:
    """While a model of anomalib is made: answer what it asks of timm from what is on this machine.

    anomalib's models fetch their backbones by `timm.create_model(name, pretrained=True)` and have no other door; so
    that is what is answered here, in this thread, for as long as the model is made. `weights` is a file, or empty for
    embedded weights and those in the hub's cache; `learned` says that the parameters will be loaded from a Run.
    Raises `RequestError` for weights that are not on this machine.
    """
    import timm

    create: Create = timm.create_model
    mine = threading.get_ident()

    def answer(model_name: str, pretrained: bool = False, **arguments: Any) -> nn.Module:
        if not pretrained or threading.get_ident() != mine:
            return create(model_name, pretrained=pretrained, **arguments)
        if is_embedded(backbone) and not weights:
            return _embedded(create, backbone, model, model_name, arguments)
        if learned:
            return create(model_name, pretrained=False, **arguments)
        return _from_file(create, model_name, weights, arguments) if weights else _cached(create, model_name, arguments)

    with mock.patch.object(timm, "create_model", answer):
        yield


def _embedded(create: Create, backbone: str, model: str, asked: str, arguments: dict[str, Any]) -> nn.Module:
    if asked not in (timm_name(backbone), STANDS_IN_FOR):
        raise missing_weights(asked)
    network = create(timm_name(backbone), pretrained=False, **arguments)
    lacking, _ = network.load_state_dict(load_classifier(backbone).state_dict(), strict=False)  # but for its head
    if lacking:
        raise RequestError(f"The embedded weights of '{backbone}' lack '{lacking[0]}'; name another backbone.")
    widths = RESNET_HEADS.get(model)
    return SignedHalves(network, widths) if widths and asked == STANDS_IN_FOR else network


def _from_file(create: Create, asked: str, weights: str, arguments: dict[str, Any]) -> nn.Module:
    tensors = read_weights(Path(weights).expanduser())
    try:
        network = create(asked, pretrained=True, **{**arguments, "pretrained_cfg_overlay": {"state_dict": tensors}})
    except (RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()
        detail = " ".join(each.strip() for each in reason[:2])
        raise RequestError(f"'{weights}' does not hold the weights of '{asked}': {detail[:300]}") from error
    for name in ("pretrained_cfg", "default_cfg"):  # timm keeps the tensors there as well
        if isinstance(getattr(network, name, None), dict):
            getattr(network, name).pop("state_dict", None)
    return network


def _cached(create: Create, asked: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        return create(asked, pretrained=True, **arguments)
    except (OSError, NetworkRefusedError) as error:  # the kinds of the hub's client are OSErrors
        raise missing_weights(asked) from error


def missing_weights(architecture: str) -> RequestError:
    """The error for weights of timm that are not on this machine: which file, where from, and how to hand it in."""
    import timm
    from huggingface_hub.constants import HF_HUB_CACHE

    entry = timm.get_pretrained_cfg(architecture, allow_unregistered=True)
    source = entry.hf_hub_id if entry is not None else None
    where = f"'model.safetensors' of https://huggingface.co/{source}" if source else "a file of them"
    return RequestError(
        f"The weights of '{architecture}' are not on this machine, and nothing is downloaded; fetch {where} and hand "
        f"it in with --set weights=FILE, or put it in the hub's cache ({HF_HUB_CACHE})."
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors or a .pth file, which can run no code. Raises `RequestError`."""
    import safetensors.torch

    if not path.is_file():
        raise RequestError(f"There is no file '{path}'; name one that holds weights with --set weights=FILE.")
    try:
        if path.suffix == ".safetensors":
            found: Any = safetensors.torch.load_file(path)
        else:
            found = torch.load(path, weights_only=True, map_location="cpu")
        for key in ("state_dict", "model", "teacher"):
            found = found.get(key, found) if isinstance(found, dict) else found
    except Exception as error:  # both libraries raise a dozen kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(f"The weights '{path}' cannot be read ({reason}); hand in another file.") from None
    if not isinstance(found, dict) or not all(isinstance(each, Tensor) for each in found.values()):
        raise RequestError(f"'{path}' holds no tensors by name; hand in the state dict of a network.")
    tensors: dict[str, Tensor] = found
    return tensors
