"""Images to features: one module from uint8 pixels to the backbone stages that every detector sees."""

import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.features.backbones import DEFAULT_BACKBONE, GIVEN, GIVEN_STAGE, backbone, stride_of
from blemish.features.networks import load_network
from blemish.features.tiles import Stitched, Window, resized_window, windows
from blemish.features.weights import weights_sha256
from blemish.images import ImageSet
from blemish.machine.errors import RequestError, WeightsError

ALIGN = 32  # pixels; less than half of this between an image's shape and the working size is taken up by stretching
SMALLEST = 64  # pixels, a side of the working size
LARGEST_TILE = 8192  # pixels
BATCH_BYTES = 256 * 2**20  # of float16 features in memory together; patches of float32 take two to four times that
EXTRACTION_VERSION = 3  # part of the cache key: raise it when the same settings give other numbers


@dataclass(frozen=True)
class FeatureSpec:
    """Which features of an image, at which working size.

    Attributes
    ----------
    backbone : a name of the registry.
    pixels : side of the square whose area the working size has; the aspect ratio is the folder's median.
    stages : names of the backbone's stages; each name starts with its stride.
    size : (height, width) worked at, the grid of given features; None until `resolved` for a folder.
    weights : a file with the backbone's weights; empty for embedded ones and those in a local cache.
    widths : of given features, (global, patch); None until `resolved`, and for those a backbone makes.
    tile : side in pixels of the tiles that images are cut into, each seen at the size `pixels`; 0 for whole images.
    overlap : pixels that neighbouring tiles share at least.
    """

    backbone: str = DEFAULT_BACKBONE
    pixels: int = 384
    stages: tuple[str, ...] = ("16", "32")
    size: tuple[int, int] | None = None
    weights: str = ""
    widths: tuple[int, int] | None = None
    tile: int = 0
    overlap: int = 32

    def __post_init__(self) -> None:
        """Check what a person can get wrong."""
        if self.tile and not (SMALLEST <= self.tile <= LARGEST_TILE and 0 <= self.overlap <= self.tile // 2):
            raise RequestError(
                f"A tile is {SMALLEST} to {LARGEST_TILE} pixels, and the overlap at most half of that; got "
                f"{self.tile} and {self.overlap}."
            )
        if self.backbone == GIVEN:
            if self.tile:
                raise RequestError("Features that are computed elsewhere are not made in tiles; leave out 'tile'.")
            if self.stages != (GIVEN_STAGE,) or self.weights:
                raise RequestError(f"Given features have one stage, '{GIVEN_STAGE}', and no weights; got {self}.")
            return
        known = backbone(self.backbone).stages
        if not 64 <= self.pixels <= 2048:
            raise RequestError(f"The 'pixels' of features must be between 64 and 2048; got {self.pixels}.")
        if not self.stages or any(stage not in known for stage in self.stages):
            raise RequestError(f"The 'stages' of {self.backbone} are {', '.join(known)}; got {self.stages}.")

    def resolved(self, images: ImageSet) -> "FeatureSpec":
        """The spec with the working size for these images, unless it has one."""
        if self.size:
            return self
        if self.backbone == GIVEN:
            first = images.feature_arrays()[images.ids[0]]
            return replace(self, size=first.grid, widths=first.widths)
        aspect = images.aspect or images.median_aspect()
        if not self.tile:
            aspect = min(max(aspect, 1 / 8), 8)  # beyond, one side would shrink to a few patches
        align = backbone(self.backbone).align
        side = float(self.pixels)
        if self.tile:  # as if the tiles lay side by side, none smaller than one
            side = max(side, (images.extent or images.median_extent()) * self.pixels / self.tile)
        height, width = side / math.sqrt(aspect), side * math.sqrt(aspect)
        return replace(self, size=(_aligned(height, align), _aligned(width, align)))

    @property
    def windows(self) -> list[Window]:
        """What the working size is cut into; one window of all of it without tiles."""
        height, width = self.size or (0, 0)
        if not self.tile:
            return [Window(0, 0, height, width)]
        align = backbone(self.backbone).align
        side = _aligned(self.pixels, align)
        return windows((height, width), side, math.ceil(self.overlap * self.pixels / self.tile), align)

    def at_once(self, most: int) -> int:
        """How many images' features may be in memory together, `most` at most: fewer of large grids."""
        if self.backbone == GIVEN or not self.size:
            return most
        return max(1, min(most, BATCH_BYTES // self.bytes_each()))

    def bytes_each(self) -> int:
        """Bytes of one image's stages in float16, once `resolved`."""
        (height, width), known = self.size or (0, 0), backbone(self.backbone).stages
        return sum(2 * known[stage][1] * height * width // stride_of(stage) ** 2 for stage in self.stages)

    def key(self) -> dict[str, Any]:
        """All that the features' values depend on, apart from the image."""
        settings = asdict(self)
        del settings["widths"]  # of given features, which are not kept
        if not self.tile:
            del settings["tile"], settings["overlap"]
        return {**settings, "weights": weights_sha256(self.backbone, self.weights), "version": EXTRACTION_VERSION}

    def source(self) -> Tensor:
        """What the features come from: the hash of the weights (32,) uint8, or the widths of given ones (2,) int64."""
        if self.backbone == GIVEN:
            return torch.tensor(self.widths)
        return torch.tensor(list(bytes.fromhex(weights_sha256(self.backbone, self.weights))), dtype=torch.uint8)

    def from_source(self, source: Tensor) -> "FeatureSpec":
        """The spec that `source` was saved for. Raises `WeightsError` if the weights are not those any more."""
        if self.backbone == GIVEN:
            return replace(self, widths=(int(source[0]), int(source[1])))
        wanted, found = bytes(source.tolist()).hex(), weights_sha256(self.backbone, self.weights)
        if found != wanted:
            raise WeightsError(
                f"The weights of '{self.backbone}' have SHA-256 {found[:8]}..., and those it was fitted with "
                f"{wanted[:8]}...; give that file with `weights`, or fit again."
            )
        return self


class PatchExtractor(nn.Module):
    """uint8 RGB images of one size to features: resize, standardise, backbone.

    `forward` maps (B, 3, H, W) uint8, 0..255 to (globals (B, G), stages, each (B, h, w, C)), all float32 rounded
    to what float16 can hold, so that features from the disk and features made now are the same numbers.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.spec = spec
        seen = (spec.windows[0].height, spec.windows[0].width) if spec.size else None
        self.network = load_network(spec.backbone, spec.stages, spec.weights, seen)
        entry = backbone(spec.backbone)
        self.mean: Tensor = nn.Buffer(torch.tensor(entry.mean).view(1, 3, 1, 1), persistent=False)
        self.scale: Tensor = nn.Buffer(torch.tensor(entry.scale).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See the class."""
        if self.spec.tile:
            whole, stages = self._tiled(images)
        else:
            whole, stages = self._seen(letterbox(images, self.spec.size or (0, 0)))
        return whole.half().float(), [stage.half().float() for stage in stages]

    def _seen(self, working: Tensor) -> tuple[Tensor, list[Tensor]]:
        pixels = ((working - self.mean) / self.scale).contiguous(memory_format=torch.channels_last)
        whole, stages = self.network(pixels)  # (B, G), each (B, C, H / stride, W / stride)
        return whole, [stage.permute(0, 2, 3, 1) for stage in stages]

    def _tiled(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """One tile after the other: what is in memory beside the image and its grid is one tile's."""
        size = self.spec.size or (0, 0)
        height, width = images.shape[-2:]
        left, top, inner_width, inner_height = placed((width, height), size)
        inner, wholes = Window(top, left, inner_height, inner_width), []
        grids = [Stitched(size) for _ in self.spec.stages]
        for window in self.spec.windows:
            whole, stages = self._seen(resized_window(images, inner, window))
            wholes.append(whole)
            for grid, stage in zip(grids, stages, strict=True):
                grid.add(stage, window)
        return torch.stack(wholes).mean(dim=0), [grid.grid() for grid in grids]


def letterbox(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (B, 3, H, W) uint8 scaled to fit `size` with their aspect kept, centred, edges repeated.

    Returns float32 levels, 0..255. They are not rounded: where a level is half way, which whole numbers of pixels
    make common, runtimes that differ in the sixth digit would differ by a whole level.
    """
    height, width = images.shape[-2:]
    left, top, inner_width, inner_height = placed((width, height), size)
    levels = images.float()
    if (inner_height, inner_width) != (height, width):
        levels = F.interpolate(levels, size=(inner_height, inner_width), mode="bilinear", antialias=True)
    right, bottom = size[1] - left - inner_width, size[0] - top - inner_height
    if max(left, right, top, bottom) > 0:
        levels = F.pad(levels, (left, right, top, bottom), mode="replicate")
    return levels


def box_in_grid(image_size: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Where an image of (width, height) is in its working size: (left, top, right, bottom), each 0..1."""
    left, top, width, height = placed(image_size, size)
    return left / size[1], top / size[0], (left + width) / size[1], (top + height) / size[0]


def placed(image_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where an image of (width, height) is in a working size: left, top, width, height in its pixels."""
    width, height = image_size
    ratio = min(size[1] / width, size[0] / height)
    inner_width = min(size[1], max(1, round(width * ratio)))
    inner_height = min(size[0], max(1, round(height * ratio)))
    # Working sizes are multiples of ALIGN: the rounding is taken up by stretching, not by a frame.
    if size[1] - inner_width < ALIGN // 2:
        inner_width = size[1]
    if size[0] - inner_height < ALIGN // 2:
        inner_height = size[0]
    return (size[1] - inner_width) // 2, (size[0] - inner_height) // 2, inner_width, inner_height


def _aligned(side: float, align: int) -> int:
    return max(math.ceil(SMALLEST / align), round(side / align)) * align


def extractor(spec: FeatureSpec, device: str) -> PatchExtractor:
    """The extractor of `spec` on `device`, made once a process for the weights as they are now."""
    return _extractor(spec, device, weights_sha256(spec.backbone, spec.weights))


@lru_cache(maxsize=4)
def _extractor(spec: FeatureSpec, device: str, weights: str) -> PatchExtractor:  # noqa: ARG001 - part of the key
    return PatchExtractor(spec).to(device).eval()
