"""Backbones as frozen modules: standardised pixels to a global vector and the wanted stages."""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from blemish.features.backbones import BACKBONES, Backbone, backbone, stride_of
from blemish.features.weights import in_order, load_into, read_weights, weights_path, weights_sha256
from blemish.machine.errors import RequestError

EMBEDDED_STYLE = "_conv_stem.weight"  # a tensor's name in the embedded EfficientNets
Output = tuple[Tensor, list[Tensor]]


class Stages(nn.Module):
    """The blocks of an EfficientNet up to the last one that is wanted.

    `forward` maps standardised RGB (B, 3, H, W) to the pooled deepest stage (B, channels) and a list of
    (B, channels, H / stride, W / stride), in the order of `blocks`.
    """

    def __init__(self, network: nn.Module, blocks: Sequence[int]) -> None:
        super().__init__()
        # timm's normalisation layers carry their activation
        self.stem = nn.Sequential(OrderedDict(conv=network.conv_stem, norm=network.bn1))  # type: ignore[arg-type]
        self.blocks = nn.ModuleList(list(network.blocks)[: max(blocks) + 1])  # type: ignore[arg-type]
        self.taken = tuple(blocks)

    def forward(self, images: Tensor) -> Output:
        """See the class."""
        outputs, at = {}, self.stem(images)
        for index, block in enumerate(self.blocks):
            at = outputs[index] = block(at)
        return _pooled(outputs[max(self.taken)]), [outputs[index] for index in self.taken]


class Intermediates(nn.Module):
    """Any timm network, up to the last block that is wanted; for `forward` see `Stages`.

    The stages of a plain transformer are its patch tokens after the final norm, as DINO's authors take them, and its
    global vector is the class token of the deepest stage, the mean patch where there is none. Register tokens are
    dropped.
    """

    def __init__(self, network: nn.Module, blocks: Sequence[int], *, transformer: bool) -> None:
        super().__init__()
        self.network, self.taken, self.transformer = network, tuple(blocks), transformer
        self.order = sorted(set(blocks))
        tells = "return_prefix_tokens" in inspect.signature(network.forward_intermediates).parameters  # type: ignore[arg-type]
        tokens = int(getattr(network, "num_prefix_tokens", 0)) if transformer and tells else 0
        self.class_token = tokens > int(getattr(network, "num_reg_tokens", 0))

    def forward(self, images: Tensor) -> Output:
        """See the class."""
        options = {"norm": True} if self.transformer else {}
        if self.class_token:
            options["return_prefix_tokens"] = True
        found = self.network.forward_intermediates(  # type: ignore[operator]
            images, indices=self.order, intermediates_only=True, stop_early=True, output_fmt="NCHW", **options
        )
        grids = [each[0] if isinstance(each, tuple) else each for each in found]
        whole = found[-1][1][:, 0] if self.class_token else _pooled(grids[-1])
        return whole, [grids[self.order.index(block)] for block in self.taken]


def load_classifier(name: str, weights: str = "") -> nn.Module:
    """The whole EfficientNet with its weights, in evaluation mode: RGB (B, 3, H, W) to (B, 1000) ImageNet logits."""
    import timm

    weights_sha256(name, weights)
    path = weights_path(name, weights)
    saved = read_weights(path)
    network: nn.Module = timm.create_model(backbone(name).timm_name, pretrained=False)
    if EMBEDDED_STYLE in saved:
        network.load_state_dict(in_order(saved, network.state_dict(), name))
    else:
        load_into(network, saved, name, path)
    return network.eval()


def load_network(name: str, wanted: Sequence[str], weights: str = "", size: tuple[int, int] | None = None) -> nn.Module:
    """The backbone `name` up to the stages called `wanted`, ready for inference at `size` (height, width).

    Batch normalisation is folded into the convolutions before it and weights are channels-last: the same
    function to rounding, and several times the speed on a CPU. Raises `RequestError` for a stage that is not there,
    `WeightsError` for weights that are not there or another network's.
    """
    entry = backbone(name)
    if missing := [stage for stage in wanted if stage not in entry.stages]:
        raise RequestError(f"{name} has no stage '{missing[0]}'; it has {', '.join(entry.stages)}.")
    blocks = [entry.stages[stage][0] for stage in wanted]
    stages: nn.Module
    if entry.package:
        stages = Stages(load_classifier(name, weights), blocks)
    else:
        stages = Intermediates(_load_headless(name, entry, weights, size), blocks, transformer=entry.transformer)
    stages.eval().requires_grad_(False)
    if name not in BACKBONES:
        _check(stages, name, wanted, size or (entry.pixels, entry.pixels))
    _fold_batch_norms(stages)
    # torch's own stubs know memory_format for tensors only
    to_channels_last: Callable[..., nn.Module] = stages.to
    return stages if entry.transformer else to_channels_last(memory_format=torch.channels_last)


def _load_headless(name: str, entry: Backbone, weights: str, size: tuple[int, int] | None) -> nn.Module:
    import timm

    path = weights_path(name, weights)
    tensors = read_weights(path)
    fixed = {} if entry.resizable or not size else {"img_size": size}
    try:
        network: nn.Module = timm.create_model(
            entry.timm_name.partition(".")[0], pretrained=False, num_classes=0, **fixed, **entry.arguments
        )
    except Exception as error:  # whatever one of a thousand architectures raises
        at = f" at {size[1]} x {size[0]} pixels" if size else ""
        raise RequestError(f"The backbone '{name}' cannot be made{at} ({error}); choose another size.") from error
    load_into(network, tensors, name, path)
    return network


def _check(network: nn.Module, name: str, wanted: Sequence[str], size: tuple[int, int]) -> None:
    """Refuse an architecture of timm that does not do what its description says. Raises `RequestError`."""
    channels = backbone(name).stages
    expected = [(channels[each][1], size[0] // stride_of(each), size[1] // stride_of(each)) for each in wanted]
    try:
        with torch.inference_mode():
            found = [tuple(each.shape[1:]) for each in network(torch.zeros(1, 3, *size))[1]]
    except Exception as error:  # whatever one of a thousand architectures raises
        found = [(type(error).__name__, (str(error).splitlines() or [""])[0])]
    if found != expected:
        raise RequestError(
            f"The backbone '{name}' of timm cannot be used: its stages {', '.join(wanted)} should be {expected}, but "
            f"are {found}; take another."
        )


def _pooled(stage: Tensor) -> Tensor:
    return stage.mean(dim=(2, 3))


def _fold_batch_norms(network: nn.Module) -> None:
    """Fold each batch normalisation into the convolution registered right before it; its activation stays.

    Only where that is known to be the order of computation, too: in EfficientNets and ResNets.
    """
    from timm.models import EfficientNet, ResNet

    inner = getattr(network, "network", network)
    if not isinstance(inner, (Stages, EfficientNet, ResNet)):
        return
    for block in list(inner.modules()):
        children = list(block.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(block, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(block, norm_name, getattr(norm, "act", nn.Identity()))
