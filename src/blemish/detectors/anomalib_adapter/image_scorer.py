"""Scoring with a model of anomalib, and how the scores of two trainings of one model compare."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.features.extract import letterbox
from blemish.machine.runtime import runtime
from blemish.scores.cuts import median_and_deviation

MAP_SIDE = 64  # most cells along a map: finer ones show the interpolation of the model, not more of the image
AT_ONCE = 8  # images that pass a model together


class ImageScorer(nn.Module):
    """All of scoring: uint8 RGB (B, 3, H, W), 0..255, to scores (B,) and maps (B, h, w), as the model gives them.

    anomalib's own scaling to 0..1 and its thresholds, which are made with labels, are left out.
    """

    def __init__(self, model: nn.Module, side: int) -> None:
        super().__init__()
        self.model, self.side = model, side

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 RGB (B, 3, H, W) to scores (B,) and maps (B, h, w)."""
        return self.of_working(letterbox(images, (self.side, self.side)).round())

    def of_working(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, for images (B, 3, side, side) that are letterboxed already."""
        found: Any = self.model(levels.float() / 255)
        score, grid = found.pred_score, found.anomaly_map
        score = grid.flatten(1).amax(dim=1) if score is None else score
        score = score.float().reshape(len(levels))
        if grid is None:  # some models have no more than one score for the whole image
            return score, score[:, None, None]
        grid = grid.float().reshape(len(levels), 1, *grid.shape[-2:])
        height, width = (min(side, MAP_SIDE) for side in grid.shape[-2:])
        return score, F.adaptive_avg_pool2d(grid, (height, width))[:, 0]


def scored(scorer: ImageScorer, images: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Scores (N,) and maps (N, h, w) of working images, each (3, side, side) uint8; (0,) and (0, 1, 1) of none."""
    device = runtime().device
    scorer.to(device)
    parts: list[tuple[Tensor, Tensor]] = []
    waiting: list[Tensor] = []

    def pass_on() -> None:
        score, grid = scorer.of_working(torch.stack(waiting).to(device))
        parts.append((score.cpu(), grid.cpu()))
        waiting.clear()

    with torch.inference_mode():
        for levels in images:
            waiting.append(levels)
            if len(waiting) == AT_ONCE:
                pass_on()
        if waiting:
            pass_on()
    if not parts:
        return torch.zeros(0), torch.zeros(0, 1, 1)
    return torch.cat([score for score, _ in parts]), torch.cat([grid for _, grid in parts])


@dataclass(frozen=True)
class Unit:
    """What one training of a model gives images that it did not learn from.

    Two trainings have no common origin or unit, though two of one seed come close. The deviation is that of the
    cells of the maps: there are thousands in each image, where a fold may hold a handful of images.

    Attributes
    ----------
    image, cell : the median score of an image and of a cell.
    deviation : of the cells, as `cuts.median_and_deviation` has it.
    """

    image: float
    cell: float
    deviation: float

    @classmethod
    def of(cls, score: Tensor, grid: Tensor) -> Self:
        """The unit of scores (N,) and maps (N, h, w)."""
        cell, deviation = median_and_deviation(grid.numpy())
        return cls(float(score.quantile(0.5)), cell, deviation)

    def to(self, other: "Unit", score: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and maps of this unit in the other one."""
        # Without any deviation, only the origin can be moved.
        gain = other.deviation / self.deviation if self.deviation > 0 and other.deviation > 0 else 1.0
        return (score - self.image) * gain + other.image, (grid - self.cell) * gain + other.cell
