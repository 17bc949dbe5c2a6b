"""Where the backbones of anomalib's models come from: embedded weights, a file, or a cache of this machine."""

import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.detectors.anomalib_adapter.catalogue import RESNET_HEADS
from blemish.features.backbones import Backbone, backbone
from blemish.features.hub import cached, not_here
from blemish.features.networks import load_classifier
from blemish.features.weights import Tensors, load_into, read_weights, weights_path

STAND_IN = "resnet18"  # the name given to models that take ResNets by name only
NO_CLASSIFIER = -1  # in timm: whatever classifier the network has, the weights come without one
Create = Callable[..., nn.Module]
_forbidden: ContextVar[bool] = ContextVar("blemish_no_network", default=False)


def architecture(entry: Backbone) -> str:
    """The name for anomalib: it compares names, and the names of published weights have a tag."""
    return entry.timm_name.partition(".")[0]


def standard_of(name: str) -> tuple[list[float], list[float]]:
    """Mean and deviation, 0..1 and channel by channel, that the weights of backbone `name` were made with."""
    entry = backbone(name)
    return [level / 255 for level in entry.mean], [level / 255 for level in entry.scale]


@cache
def shape_of(name: str) -> Any:
    """The network `name` without its numbers. Raises `RequestError` for a name that nobody knows."""
    import timm

    with torch.device("meta"):
        return timm.create_model(architecture(backbone(name)), pretrained=False)


def translated(layer: str, name: str) -> str:
    """The layer that backbone `name` has at the stride of a ResNet's `layer`; other names stay as they are.

    "layer1" has stride 4, "layer4" has 32; anomalib's defaults are these names.
    """
    if not (layer.startswith("layer") and layer[5:].isdigit()):
        return layer
    by_stride = {each["reduction"]: each["module"] for each in shape_of(name).feature_info}
    return str(by_stride.get(2 ** (int(layer[5:]) + 1), layer))


def as_taken(model: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings `backbone`, `layer` and `layers` as the constructor of `model` takes them."""
    name = settings["backbone"]
    entry = backbone(name)
    if model in RESNET_HEADS and entry.package:
        return {"backbone": STAND_IN}
    taken: dict[str, Any] = {"backbone": architecture(entry)}
    if isinstance(settings.get("layer"), str):
        taken["layer"] = translated(settings["layer"], name)
    if settings.get("layers") and all(isinstance(layer, str) for layer in settings["layers"]):
        taken["layers"] = [translated(layer, name) for layer in settings["layers"]]
    return taken


class SignedHalves(nn.Module):
    """Features split in their positive and negative parts, zeros behind, in the widths of another network.

    Nothing is lost and cosines stay meaningful. Decoders made for ResNets end in a ReLU: they can only reach
    features that are not negative, and features of an EfficientNet can be negative.
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


@contextmanager
def backbones_at_hand(name: str, weights: str, model: str, *, learned: bool) -> Iterator[None]:
    """While a `model` of anomalib is made: answer what it asks of timm from what is on this machine.

    anomalib's models fetch their backbones by `timm.create_model(..., pretrained=True)` and have no other door; so
    that is what is answered here, in this thread, for as long as the model is made. `name` is the backbone that was
    chosen, empty for models that have their own backbone; `weights` a file, or empty for embedded weights and those in
    a cache; `learned` says that the parameters will be loaded from a Run. Raises `WeightsError` for weights that are
    not on this machine.
    """
    import timm

    create: Create = timm.create_model
    mine = threading.get_ident()

    def answer(model_name: str, pretrained: bool = False, **arguments: Any) -> nn.Module:
        if not pretrained or threading.get_ident() != mine:
            return create(model_name, pretrained=pretrained, **arguments)
        chosen = name if name and model_name in (architecture(backbone(name)), STAND_IN) else model_name
        stand_in = model_name == STAND_IN and bool(backbone(chosen).package)
        wanted = architecture(backbone(chosen)) if stand_in else model_name
        if learned:
            network = create(wanted, pretrained=False, **arguments)
        else:
            tensors = _tensors(create, chosen, weights)
            overlay = {"state_dict": tensors, "num_classes": NO_CLASSIFIER}
            network = create(wanted, pretrained=True, **{**arguments, "pretrained_cfg_overlay": overlay})
            _forget_tensors(network)
        widths = RESNET_HEADS.get(model) if stand_in else None
        return SignedHalves(network, widths) if widths else network

    with mock.patch.object(timm, "create_model", answer):
        yield


def _tensors(create: Create, name: str, weights: str) -> Tensors:
    """The weights of backbone `name` without its classifier, checked against its architecture."""
    entry = backbone(name)
    if entry.package:
        whole = load_classifier(name, weights)
        return {key: each for key, each in whole.state_dict().items() if not key.startswith("classifier.")}
    if not weights and not cached(entry):
        raise not_here(name, entry, "are not fetched for models of anomalib")
    path = weights_path(name, weights)
    network = create(architecture(entry), pretrained=False, num_classes=0)
    load_into(network, read_weights(path), name, path)
    return dict(network.state_dict())


def _forget_tensors(network: nn.Module) -> None:
    """Let go of the weights that timm keeps beside the parameters."""
    for name in ("pretrained_cfg", "default_cfg"):
        config = getattr(network, name, None)
        if isinstance(config, dict):
            config.pop("state_dict", None)


class NetworkRefusedError(RuntimeError):
    """Something reached for `wanted`, an address, where the network is forbidden.

    No OSError: libraries catch those and try again elsewhere.
    """

    def __init__(self, wanted: str) -> None:
        super().__init__(f"'{wanted}' needs the network, which is forbidden here")
        self.wanted = wanted


@contextmanager
def no_network() -> Iterator[None]:
    """Let this thread reach no other machine inside the block. Raises `NetworkRefusedError` where it tries to.

    The hub's client is put offline as well, since it asks from threads of its own; it then reads its cache only.
    """
    from huggingface_hub import constants

    _install()
    token = _forbidden.set(True)
    try:
        with mock.patch.object(constants, "HF_HUB_OFFLINE", True):
            yield
    finally:
        _forbidden.reset(token)


@cache
def _install() -> None:
    sys.addaudithook(_heard)  # hooks cannot be taken away again; outside of the block this one lets all pass


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("urllib.Request", "socket.getaddrinfo", "socket.connect") or not _forbidden.get():
        return
    wanted = arguments[1] if event == "socket.connect" else arguments[0]
    if isinstance(wanted, tuple):  # (host, port, ...); a path is a socket of this machine
        wanted = wanted[0]
    elif event == "socket.connect":
        return
    raise NetworkRefusedError(str(wanted))
