"""Scoring with a model of anomalib, and how the scores of two trainings of one model compare."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.cuts import median_and_deviation
from blemish.detectors.anomalib_adapter.pictures import Pictures
from blemish.features.extract import letterbox
from blemish.runtime import runtime

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
        """See the class."""
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
    """What one training of a model gives ordinary new images: median and deviation of scores and of map cells.

    Two trainings have no common origin or unit. Mirrored images stand for new ones: both trainings saw them alike,
    that is not at all, and the same images are at hand for both. The images themselves will not do, since a training
    on few of them knows each better than a training on all does.
    """

    image: tuple[float, float]
    cell: tuple[float, float]

    @classmethod
    def of(cls, scorer: ImageScorer, pictures: Pictures, rows: Sequence[int]) -> Self:
        """The unit of a training, by the mirrored pictures of `rows`."""
        score, grid = scored(scorer, (levels.flip(-1) for levels in pictures.each(rows)))
        return cls(median_and_deviation(score.numpy()), median_and_deviation(grid.numpy()))

    def to(self, other: "Unit", score: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and maps of a training of this unit in the other one."""
        return _moved(score, self.image, other.image), _moved(grid, self.cell, other.cell)


def _moved(values: Tensor, own: tuple[float, float], other: tuple[float, float]) -> Tensor:
    ratio = other[1] / own[1] if own[1] > 0 and other[1] > 0 else 1.0  # without any deviation, only the origin moves
    return (values - own[0]) * ratio + other[0]
