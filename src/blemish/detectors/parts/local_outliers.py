"""How much of an outlier each of a few points is among the others: how SoftPatch finds noise."""

from typing import Literal

import torch
from torch import Tensor

from blemish.detectors.parts.distances import squared_distances

Discriminator = Literal["lof", "nearest", "gaussian"]
CLOSE = 0.01  # deviations of a channel: nearer than this is the same point, and rounding
RIDGE = 0.01  # added to the variances, PaDiM Sec. 3.2


def local_outlier_factors(points: Tensor, groups: Tensor, neighbours: int, close: float | None = None) -> Tensor:
    """The local outlier factors (n,) of points (n, D), about 1 for ordinary ones (Breunig et al., SIGMOD 2000).

    How much sparser it is around a point than around its `neighbours` nearest, or as many as there are.
    Points of one group are no neighbours. `close` is added to distances before they are divided by; by default
    `CLOSE` in each channel.
    """
    close = CLOSE * points.shape[1] ** 0.5 if close is None else close
    away = _between_groups(points, groups)
    nearest, which = away.topk(min(neighbours, len(points)), dim=1, largest=False)
    there = nearest.isfinite()  # (n, k), whose first columns are those that exist
    count = there.sum(1).clamp_min(1)
    reach = torch.where(there, nearest, 0.0).amax(1)  # to the farthest of the neighbours
    reached = torch.where(there, torch.maximum(nearest, reach[which]), 0.0)
    density = 1 / (reached.sum(1) / count + close)
    factors = torch.where(there, density[which], 0.0).sum(1) / count / density
    return torch.where(there.any(1), factors, 1.0)


def nearest_distances(points: Tensor, groups: Tensor) -> Tensor:
    """The distances (n,) to the nearest point of another group; 0 where there is none."""
    away = _between_groups(points, groups).amin(1)
    return torch.where(away.isfinite(), away, 0.0)


def mahalanobis(points: Tensor) -> Tensor:
    """The distances (n,) from the mean of the points (n, D) under their own covariance."""
    mean, whitening = gaussian(points)
    return ((points - mean) @ whitening.T).square().sum(1).sqrt()


def gaussian(points: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (..., D) of points (..., n, D) and the W (..., D, D) with W'W the inverse of their covariance + `RIDGE` I.

    With fewer points than channels, the ridge alone sets the variance in directions without points.
    """
    mean = points.mean(-2)
    centred = (points - mean[..., None, :]).double()
    identity = torch.eye(points.shape[-1], dtype=torch.float64)
    covariance = centred.mT @ centred / max(1, points.shape[-2] - 1) + RIDGE * identity
    factor = torch.linalg.cholesky(covariance)
    whitening = torch.linalg.solve_triangular(factor, identity.expand_as(covariance), upper=False)
    return mean, whitening.float()


def _between_groups(points: Tensor, groups: Tensor) -> Tensor:
    """Distances (n, n), infinite within a group."""
    centred = points - points.mean(0)  # smaller numbers, less rounding
    return squared_distances(centred, centred).sqrt().masked_fill(groups[:, None] == groups, torch.inf)
