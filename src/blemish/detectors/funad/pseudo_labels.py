"""Pseudo-labels of patches from their distances, and the noise on those that are unsure (FUN-AD Sec. 4; spec 4, 5)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.detectors.funad.pool import Pool
from blemish.detectors.funad.schedule import Scale, Schedule

SURE = 0.999  # quantile of the normal-looking patches' distances that is scaled to MIDDLE
MIDDLE = 0.5  # the published tau_normal
# A suspect's patches are shown with noise more often, by how far it is above what ordinary images reach: so a clean
# folder, which has hardly any such image, is learned from as if there were no suspects.
ORDINARY, MOST_EXCESS, SUSPICION = 2.0, 6.0, 30.0  # deviations, deviations, chance a deviation


@dataclass(frozen=True)
class PseudoLabels:
    """Which patches (n,) are labelled anomalous, and which of those are not sure."""

    anomalous: Tensor
    unsure: Tensor


def normalised(distances: Tensor, scale: Scale, reference: Tensor | None = None) -> Tensor:
    """Distances (n,) brought to the scale of the thresholds.

    "minmax" is the published rule: 0 and 1 are the least and largest of the minibatch, so that every minibatch
    holds an anomaly, in clean data too. "quantile" puts the distance that 99.9 % of the `reference` distances,
    those of patches of normal-looking images, stay below at 0.5: clean data has hardly any.
    """
    if not distances.isfinite().any():
        return torch.zeros_like(distances)  # nothing to compare with: nothing is labelled
    finite = torch.where(distances.isfinite(), distances, distances[distances.isfinite()].amax())
    if scale == "minmax":
        low, high = finite.amin(), finite.amax()
        return (finite - low) / (high - low).clamp_min(1e-12)
    known = distances if reference is None else reference
    known = known[known.isfinite()]
    if not len(known):
        return torch.zeros_like(distances)
    return finite / torch.quantile(known, SURE).clamp_min(1e-12) * MIDDLE


def pseudo_labels(
    distances: Tensor, tau_normal: float, tau_confident: float, known: Tensor | None = None
) -> PseudoLabels:
    """Labels from normalised distances (n,); where `known` (n,) is 0 or 1 and not -1, it is taken and sure."""
    anomalous = distances > tau_normal
    unsure = anomalous & (distances < tau_confident)
    if known is not None:
        anomalous = torch.where(known < 0, anomalous, known > 0)
        unsure = unsure & (known < 0)
    return PseudoLabels(anomalous, unsure)


class NoisyCopies:
    """Draws noisy copies of a pool's patches.

    `chances` (n,) says how readily each patch is shown with noise where it looks normal.
    """

    def __init__(self, pool: Pool, schedule: Schedule) -> None:
        self.pool, self.schedule = pool, schedule
        pooled = schedule.noise in ("pool", "none")
        self.spread = spread_over_batch(self._features(slice(None))) if pooled else torch.empty(0)
        self.chances = torch.ones(len(pool.patches), device=pool.patches.device)
        if schedule.noise_from != "any" and pool.image_scores is not None:
            excess = (pool.image_scores - ORDINARY).clamp(0, MOST_EXCESS)
            self.chances = (1 + SUSPICION * excess)[pool.owners]

    def of(self, rows: Tensor, labels: PseudoLabels, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy copies of a minibatch: patches (m, D), global vectors (m, G), and which of its `rows` (n,) each is of.

        The unsure anomalies, with noise as wide as the channels (spec section 5), and some normal patches, with
        noise from barely visible to beyond doubt: so there is something to tell normal from in clean data, too. The
        noise is on the whole feature [g ; p], as published.
        """
        features, schedule = self._features(rows), self.schedule
        normal = torch.nonzero(~labels.anomalous)[:, 0]
        # drawn: the rows are in the order of the names, which may tell what the images are
        drawn = min(schedule.noise_batch, len(normal))
        if drawn:
            normal = normal[torch.multinomial(self.chances[rows[normal]], drawn, generator=generator)]
        else:
            normal = normal[:0]
        whose = torch.cat([torch.nonzero(labels.unsure)[:, 0], normal])
        unsure, device = len(whose) - len(normal), features.device
        scale = torch.ones((len(whose), 1), device=device)
        scale[:unsure] = float(schedule.noise != "none")
        scale[unsure:] = 0.2 + 1.3 * torch.rand((len(normal), 1), generator=generator, device=device)
        spread = self.spread
        if schedule.noise == "batch":
            spread = spread_over_batch(features)
        elif schedule.noise == "position_max":
            spread = largest_spread_over_positions(features, self.pool.positions[rows])
        noise = torch.randn((len(whose), features.shape[1]), generator=generator, device=device)
        noisy = features[whose] + noise * spread * scale
        width = self.pool.patches.shape[1]
        return noisy[:, :width], noisy[:, width:], whose

    def _features(self, rows: Tensor | slice) -> Tensor:
        """Patches of rows of the pool, each with the global vector of its image behind it, (n, D + G)."""
        patches = self.pool.patches[rows]
        if not self.pool.wholes.shape[1]:
            return patches
        return torch.cat([patches, self.pool.wholes[self.pool.owners[rows]]], dim=1)


def spread_over_batch(patches: Tensor) -> Tensor:
    """The standard deviation of each channel over patches (n, D): the paper's noise. (D,)."""
    return patches.std(dim=0, correction=0)


def largest_spread_over_positions(patches: Tensor, positions: Tensor) -> Tensor:
    """Of each channel, the deviation among the patches at each grid position, then the largest. (D,).

    `positions` (n,) are the places in the grid. This is what the authors' script does; it is far larger than the
    paper's. Positions held by one patch alone tell nothing.
    """
    _, place, count = torch.unique(positions, return_inverse=True, return_counts=True)
    shape = (len(count), patches.shape[1])
    of_each = count[:, None].to(patches.dtype)
    mean = patches.new_zeros(shape).index_add_(0, place, patches) / of_each
    squares = patches.new_zeros(shape).index_add_(0, place, (patches - mean[place]).square())
    spread: Tensor = (squares / of_each).amax(dim=0).sqrt()
    return spread
