"""Several views of an image into one score and one map, each view on the scale of ordinary images."""

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.scores.cuts import median_and_deviation

SIGMA = 0.7  # patches; a single noisy patch is not a defect
ImageScore = Literal["extents", "max", "top"]
AT_ONCE = 256  # images whose maps are worked on together
SHARE = 0.05  # of the valid patches, the highest, whose mean tells of small defects


class Fusion(nn.Module):
    """Distances of each view to the map and score of the image.

    Each view gives numbers that are put in deviations from the median of the training images and summed over the
    views; the score is the largest sum. So 0 is an ordinary image, whatever the product. The map is the sum of the
    views' smoothed maps, each in deviations from the median patch.

    Attributes
    ----------
    ranks, draws : of each view, whether it counts for the score and for the map.
    image_score : the numbers. "top" is the mean of the highest 5 % of patches; "max" the highest patch, as most
        papers have it; "extents" the mean of the highest 5 % and the mean of all, both of the smoothed map.
    smoothing : sigma of the Gaussian, in patches; 0 leaves maps as they are.
    """

    def __init__(
        self,
        ranks: tuple[bool, ...],
        draws: tuple[bool, ...],
        image_score: ImageScore = "extents",
        smoothing: float = SIGMA,
    ) -> None:
        super().__init__()
        self.image_score = image_score
        self.register_buffer("kernel", gaussian(smoothing) if smoothing else None, persistent=False)
        self.kernel: Tensor | None
        kinds = 2 if image_score == "extents" else 1
        self.ranks = [view for view, yes in enumerate(ranks) if yes]
        self.draws = [view for view, yes in enumerate(draws) if yes]
        self.patch: Tensor = nn.Buffer(torch.tensor([[0.0, 1.0]] * len(ranks)))  # (views, 2): middle, deviation
        self.extent: Tensor = nn.Buffer(torch.tensor([[[0.0, 1.0]] * kinds] * len(ranks)))  # (views, kinds, 2)
        self.total: Tensor = nn.Buffer(torch.tensor([[0.0, 1.0]] * kinds))  # (kinds, 2)

    def learn(self, maps: list[Tensor], valid: list[Tensor]) -> "Fusion":
        """Take the scales from the cross-fitted maps of all training images, one (N, h, w) a view."""
        smooth = [
            torch.cat([self._smoothed(grid[rows], inside[rows]) for rows in slices(len(grid))])
            for grid, inside in zip(maps, valid, strict=True)
        ]
        kinds = range(len(self.total))
        for view, (raw, grid, inside) in enumerate(zip(maps, smooth, valid, strict=True)):
            self.patch[view] = robust_scale(grid[inside])
            read = torch.cat([self._read(raw[rows], grid[rows], inside[rows]) for rows in slices(len(grid))])
            self.extent[view] = torch.stack([robust_scale(read[:, kind]) for kind in kinds])
        totals = torch.cat([
            self._totals(*([each[rows] for each in parts] for parts in (maps, smooth, valid)))
            for rows in slices(len(smooth[0]))
        ])  # fmt: skip
        self.total = torch.stack([robust_scale(totals[:, kind]) for kind in kinds])
        return self

    def of_many(self, maps: list[Tensor], valid: list[Tensor]) -> tuple[Tensor, Tensor]:
        """As `forward`, for any number of images in bounded memory."""
        parts = [self([m[rows] for m in maps], [v[rows] for v in valid]) for rows in slices(len(maps[0]))]
        return torch.cat([score for score, _ in parts]), torch.cat([drawn for _, drawn in parts])

    def forward(self, maps: list[Tensor], valid: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Maps and bool (B, h, w), one per view, to scores (B,) and the map (B, H, W) at the finest grid drawn."""
        smooth = [self._smoothed(grid, inside) for grid, inside in zip(maps, valid, strict=True)]
        score = ((self._totals(maps, smooth, valid) - self.total[:, 0]) / self.total[:, 1]).amax(dim=1)
        return score, self._drawn(smooth, valid)

    def _totals(self, maps: list[Tensor], smooth: list[Tensor], valid: list[Tensor]) -> Tensor:
        """(B, kinds), summed over the views that rank."""
        parts = []
        for view in self.ranks:
            read = self._read(maps[view], smooth[view], valid[view])
            parts.append((read - self.extent[view, :, 0]) / self.extent[view, :, 1])
        return torch.stack(parts).sum(dim=0)

    def _read(self, raw: Tensor, smooth: Tensor, valid: Tensor) -> Tensor:
        """What an image's score is made of, (B, kinds)."""
        if self.image_score == "max":
            return raw.masked_fill(~valid, -torch.inf).amax(dim=(1, 2))[:, None]
        if self.image_score == "top":
            return highest_mean(raw.flatten(1), valid.flatten(1))[:, None]
        mean = (smooth * valid).flatten(1).sum(dim=1) / valid.flatten(1).sum(dim=1)
        return torch.stack([highest_mean(smooth.flatten(1), valid.flatten(1)), mean], dim=1)

    def _smoothed(self, maps: Tensor, valid: Tensor) -> Tensor:
        return maps if self.kernel is None else smoothed(maps, valid, self.kernel)

    def _drawn(self, smooth: list[Tensor], valid: list[Tensor]) -> Tensor:
        finest = max((smooth[view].shape[1:] for view in self.draws), key=lambda grid: grid[0] * grid[1])
        drawn = []
        for view in self.draws:
            grid = (smooth[view] - self.patch[view, 0]) / self.patch[view, 1]
            lowest = grid.masked_fill(~valid[view], torch.inf).amin(dim=(1, 2), keepdim=True)
            grid = torch.where(valid[view], grid, lowest)
            drawn.append(F.interpolate(grid[:, None], size=finest, mode="bilinear")[:, 0])
        return torch.stack(drawn).sum(dim=0)


def gaussian(sigma: float) -> Tensor:
    """The weights of the patches around one, (2 * reach + 1,), whose sum is 1; `sigma` in patches."""
    reach = max(1, math.ceil(3 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=torch.float32)
    weights = torch.exp(-(at**2) / (2 * sigma**2))
    return weights / weights.sum()


def smoothed(maps: Tensor, valid: Tensor, kernel: Tensor) -> Tensor:
    """Maps (B, h, w) under `kernel`, as `gaussian` gives it, down and across; nothing is taken from the padding."""
    inside = valid.to(maps.dtype)
    return _blurred(maps * inside, kernel) / _blurred(inside, kernel).clamp_min(1e-6)


def highest_mean(values: Tensor, valid: Tensor) -> Tensor:
    """The mean (B,) of the highest `SHARE` of the valid patches (B, P), the last one counted in part."""
    most = max(1, math.ceil(SHARE * values.shape[1]))
    highest = values.masked_fill(~valid, -torch.inf).topk(most, dim=1).values  # (B, most)
    wanted = (SHARE * valid.sum(dim=1)).clamp_min(1.0)[:, None]
    weight = (wanted - torch.arange(most, device=values.device)).clamp(0, 1)
    return torch.where(weight > 0, highest * weight, 0.0).sum(dim=1) / weight.sum(dim=1)


def slices(count: int) -> list[slice]:
    """Rows of up to `AT_ONCE` images."""
    return [slice(start, start + AT_ONCE) for start in range(0, count, AT_ONCE)]


def _blurred(maps: Tensor, kernel: Tensor) -> Tensor:
    """Maps (B, h, w) under a kernel down and across, zeros outside."""
    reach, down = len(kernel) // 2, kernel.view(1, 1, -1, 1)
    rows = F.conv2d(maps[:, None], down, padding=(reach, 0))
    return F.conv2d(rows, down.transpose(2, 3), padding=(0, reach))[:, 0]


def robust_scale(values: Tensor) -> Tensor:
    """Median and scaled median absolute deviation, (2,); a deviation of 1 where all values are one, 0 and 1 of none."""
    if not len(values):
        return torch.tensor([0.0, 1.0])
    middle, deviation = median_and_deviation(np.asarray(values))
    if deviation <= 1e-6 * max(1.0, abs(middle)):
        deviation = float(values.std(correction=0)) or 1.0
    return torch.tensor([middle, deviation])
