"""From a map of patch scores to one score an image."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIGMA = 0.7  # patches; a single noisy patch is not a defect
SHARE = 0.05  # of the valid patches, the highest, whose mean is the image score


class ImageScore(nn.Module):
    """Maps (B, h, w) with bool (B, h, w) of valid patches to smoothed maps and image scores (B,).

    The score is the mean of the highest 5 % of the smoothed patch scores: a maximum is ruled by noise, a mean
    misses small defects.
    """

    def __init__(self, sigma: float = SIGMA, share: float = SHARE) -> None:
        super().__init__()
        self.sigma, self.share = sigma, share

    def forward(self, maps: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """See the class; patches in the padding get the lowest score of their image in the map."""
        smooth = self.smoothed(maps, valid)
        lowest = smooth.masked_fill(~valid, torch.inf).amin(dim=(1, 2), keepdim=True)
        smooth = torch.where(valid, smooth, lowest)
        return self.pooled(smooth, valid), smooth

    def smoothed(self, maps: Tensor, valid: Tensor) -> Tensor:
        """Gaussian smoothing that takes nothing from the padding."""
        inside = valid.to(maps.dtype)
        weight = _blurred(inside, self.sigma)
        return _blurred(maps * inside, self.sigma) / weight.clamp_min(1e-6)

    def pooled(self, maps: Tensor, valid: Tensor) -> Tensor:
        """The mean of the highest share of the valid patches; at least one, the last one counted in part."""
        cells = maps.shape[1] * maps.shape[2]
        most = max(1, math.ceil(self.share * cells))
        highest = maps.masked_fill(~valid, -torch.inf).flatten(1).topk(most, dim=1).values  # (B, most)
        wanted = (self.share * valid.flatten(1).sum(1, keepdim=True)).clamp_min(1.0)
        weight = (wanted - torch.arange(most, device=maps.device)).clamp(0, 1)
        return torch.where(weight > 0, highest * weight, 0.0).sum(1) / weight.sum(1)


def _blurred(maps: Tensor, sigma: float) -> Tensor:
    """Separable Gaussian on (B, h, w), zeros outside."""
    reach = max(1, math.ceil(3 * sigma))
    at = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    rows = F.conv2d(maps[:, None], kernel[None, None, :, None], padding=(reach, 0))
    return F.conv2d(rows, kernel[None, None, None, :], padding=(0, reach))[:, 0]
