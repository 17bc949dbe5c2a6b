"""Scoring as modules: what is saved, exported and served is what the training scores were made with."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from blemish.detectors.parts.fusion import Fusion
from blemish.detectors.parts.regions_of_interest import within
from blemish.detectors.parts.views import View
from blemish.features import FeatureSpec
from blemish.features.extract import PatchExtractor, box_in_grid
from blemish.features.store import GLOBALS, valid_patches

State = dict[str, Tensor]

INSIDE = "boxes"  # where the images are in their grid, among the features of a working size
ROI = "roi"  # masks of the images, among those features, where each image has its own


class PatchScorer(nn.Module, ABC):
    """What a detector learned of one view: patches to patch scores. Saved, exported and served as it is."""

    @abstractmethod
    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002
        """Patches (B, h, w, D) and the global vectors (B, G) of their images to (B, h, w), higher is worse."""


class ScoringHead(nn.Module):
    """The detector's half of scoring: backbone stages to image scores and maps, whichever detector it is.

    `forward` takes, for each working size, the stages (B, h, w, C), `GLOBALS` (B, G) and `INSIDE` (B, 4) by name; it
    gives scores (B,) and maps (B, H, W).
    """

    def __init__(
        self, views: Sequence[View], scorers: Sequence[PatchScorer], fusion: Fusion, roi: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("roi", roi)  # (1, R, R) bool, where to look in all images; None for everywhere
        self.roi: Tensor | None
        self.views = tuple(views)
        self.sizes = tuple(dict.fromkeys(view.pixels for view in views))
        self.scorers = nn.ModuleList(scorers)
        self.fusion = fusion

    def forward(self, sizes: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor]:
        """Features of each working size by name to scores (B,) and maps (B, H, W)."""
        maps, valid = [], []
        for view, scorer in zip(self.views, self.scorers, strict=True):
            features = sizes[self.sizes.index(view.pixels)]
            patches = view.joined(features)
            maps.append(scorer(patches, features[GLOBALS].float()))
            grid = (patches.shape[1], patches.shape[2])
            masks = features.get(ROI, self.roi)
            valid.append(
                valid_patches(features[INSIDE], grid) if masks is None else within(masks, features[INSIDE], grid)
            )
        scores: tuple[Tensor, Tensor] = self.fusion(maps, valid)
        return scores


class ScoringModule(nn.Module):
    """All of scoring: images of one size, uint8 RGB (B, 3, H, W), 0..255, to scores (B,) and maps (B, h, w).

    Resize, rounding, standardisation, backbone, distances, fusion and smoothing are inside; decoding is outside.
    Training, a saved Run and an exported graph run the same modules.
    """

    def __init__(self, specs: Sequence[FeatureSpec], head: ScoringHead) -> None:
        super().__init__()
        self.extractors = nn.ModuleList(PatchExtractor(spec) for spec in specs)
        self.specs, self.head = tuple(specs), head

    def forward(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Images uint8 RGB (B, 3, H, W) to scores (B,) and maps (B, h, w); `mask` (B, R, R) bool is where to look."""
        height, width = images.shape[-2:]
        where = {} if mask is None else {ROI: mask if self.head.roi is None else mask & self.head.roi}
        features = []
        for spec, extractor in zip(self.specs, self.extractors, strict=True):
            whole, stages = extractor(images)
            box = torch.tensor([box_in_grid((width, height), spec.size or (1, 1))], device=images.device)
            named = dict(zip(spec.stages, stages, strict=True))
            features.append({GLOBALS: whole, INSIDE: box.expand(images.shape[0], 4), **named, **where})
        scores: tuple[Tensor, Tensor] = self.head(features)
        return scores
