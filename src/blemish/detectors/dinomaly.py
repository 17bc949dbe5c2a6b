"""Dinomaly: a decoder that learns to reproduce a vision transformer's features of ordinary images."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar
from unittest import mock

from blemish.detectors.anomalib_adapter.detector import AnomalibDetector
from blemish.detectors.anomalib_adapter.weights_at_hand import architecture, shape_of
from blemish.detectors.settings import check_least, documented
from blemish.features.backbones import backbone
from blemish.machine.errors import RequestError

SIDE = 392  # pixels, about: 28 patches of 14, as published
TAKEN = 8  # blocks whose outputs are reproduced, in two groups of four


@documented
@dataclass(kw_only=True)
class Dinomaly(AnomalibDetector):
    """A decoder that learns to reproduce a vision transformer's features of the images; what it cannot is anomalous.

    The implementation is anomalib's, which knows four sizes of encoder by name; here width, heads and blocks are read
    off the architecture, so that any plain transformer of timm does. No weights are embedded: they have to be named, or
    be in a local cache.

    Parameters
    ----------
    backbone : str, default "dinov2_vitb14_reg"
        The encoder: a name of the registry of backbones or of timm. DINOv2 with register tokens was published.
    weights : str, default ""
        File with its weights.
    dropout : float, default 0.2
        In the bottleneck, 0.2 to 0.4; it keeps the decoder from reproducing whatever it is shown.
    depth : int, default 8
        Blocks of the decoder, 8 or more.
    size : int, default 0
        Side of the square that images are letterboxed to, in pixels, a multiple of the encoder's patch; 0 is about 392.
    steps : int, default 5000
        Steps of the training, 1 or more; they count if `epochs` is 0.
    batch : int, default 16
        Images a step, 1 or more.

    Source: Dinomaly (Guo et al., CVPR 2025, arXiv 2405.14325).

    Examples
    --------
    Without a ViT's weights at hand nothing can be fitted; settings are checked at once.

    >>> Dinomaly(depth=4)
    Traceback (most recent call last):
    blemish.machine.errors.RequestError: 'depth' must be at least 8; got 4.
    """

    backbone: str = "dinov2_vitb14_reg"
    dropout: float = 0.2
    depth: int = 8
    steps: int = 5000
    batch: int = 16

    name: ClassVar[str] = "dinomaly"
    summary: ClassVar[str] = "a decoder that reproduces a vision transformer's features of ordinary images only"
    source: ClassVar[str] = "Dinomaly (CVPR 2025, arXiv 2405.14325), as in anomalib; needs anomalib and `weights`"
    model: ClassVar[str] = "Dinomaly"
    budget_settings: ClassVar[Mapping[str, Any]] = {
        "training_scores": False,
        "epochs": 0,
        "steps": 1000,
    }  # spec/llbnad.md

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, depth=TAKEN)
        if not 0 <= self.dropout < 1:
            raise RequestError(f"'dropout' must be at least 0 and below 1; got {self.dropout}.")

    def _arguments(self) -> dict[str, Any]:
        return {
            "encoder_name": architecture(backbone(self.backbone)),
            "bottleneck_dropout": self.dropout,
            "decoder_depth": self.depth,
            "target_layers": taken_blocks(len(self._encoder().blocks)),
        }

    def _encoder(self) -> Any:
        """The encoder's architecture. Raises `RequestError` if it will not do."""
        entry = backbone(self.backbone)
        if not entry.transformer:
            raise RequestError(f"Dinomaly takes a plain vision transformer, which '{self.backbone}' is not.")
        network = shape_of(self.backbone)
        if len(network.blocks) < TAKEN:
            raise RequestError(f"Dinomaly takes {TAKEN} blocks; '{self.backbone}' has {len(network.blocks)}.")
        return network

    def _while_made(self) -> AbstractContextManager[Any]:
        from anomalib.models.image.dinomaly import torch_model

        encoder = self._encoder()
        shape = {"embed_dim": encoder.embed_dim, "num_heads": encoder.blocks[0].attn.num_heads, "target_layers": []}
        name = architecture(backbone(self.backbone))
        return mock.patch.dict(torch_model.DINO_ARCHITECTURES, {name: shape}, clear=True)

    def _side(self) -> int:
        patch = backbone(self.backbone).align
        if self.size % patch:
            raise RequestError(
                f"'size' must be a multiple of {patch}, the patch of '{self.backbone}'; got {self.size}."
            )
        return self.size or round(SIDE / patch) * patch


def taken_blocks(blocks: int) -> list[int]:
    """Eight blocks from the middle: 2 to 9 of 12, every second from 4 to 18 of 24, as published."""
    if blocks < 12:
        first = (blocks - TAKEN) // 2
        return list(range(first, first + TAKEN))
    first, last = blocks // 6, 3 * blocks // 4
    return [round(first + number * (last - first) / (TAKEN - 1)) for number in range(TAKEN)]
