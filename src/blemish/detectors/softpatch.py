"""SoftPatch: a coreset of the patches that are no outliers where they lie, each with a weight."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from blemish.detectors.parts.local_outliers import (
    Discriminator,
    local_outlier_factors,
    mahalanobis,
    nearest_distances,
)
from blemish.detectors.parts.sampling import Part, whole_images
from blemish.detectors.patchcore import PatchCore
from blemish.detectors.settings import check_least
from blemish.machine.errors import RequestError
from blemish.machine.runtime import side_by_side


@dataclass(kw_only=True)
class SoftPatch(PatchCore):
    """PatchCore without the patches that stand out among those at the same place (Jiang et al., NeurIPS 2022).

    What is left keeps its outlier factor as a weight: the score is the weight of the nearest entry times the
    distance to it, so that being close to a dubious entry counts less as proof of being normal.

    Attributes
    ----------
    discriminator : what tells outliers among the patches of a place: "lof", the local outlier factor; "nearest",
        the distance to the nearest; "gaussian", the distance from their mean under their covariance.
    lof_neighbours : k of the local outlier factor.
    dropped : share of all patches that give nothing to the coreset.
    most_images : images that are learned from, at random where there are more.
    """

    neighbours: int = 0
    discriminator: Discriminator = "lof"
    lof_neighbours: int = 6
    dropped: float = 0.15
    most_images: int = 500

    name: ClassVar[str] = "softpatch"
    summary: ClassVar[str] = "a coreset without the patches that are outliers where they lie, the rest weighted"
    source: ClassVar[str] = "SoftPatch (NeurIPS 2022, arXiv 2403.14233)"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, lof_neighbours=1, most_images=self.min_images)
        if not 0 <= self.dropped < 1:
            raise RequestError(f"'dropped' must be at least 0 and below 1; got {self.dropped}.")

    def _plan(self, ids: Sequence[str]) -> Mapping[str, int]:
        return whole_images(ids, self.most_images, self.random_state)

    def _nominal(self, embedded: Tensor, part: Part, width: int) -> tuple[Tensor, float]:  # noqa: ARG002
        factors = self._outlying(embedded, part.sample.places, part.groups)
        kept = max(1, round((1 - self.dropped) * len(factors)))
        limit = factors.kthvalue(kept).values
        return torch.where(factors <= limit, factors, 0.0), 0.0

    def _outlying(self, embedded: Tensor, places: Tensor, groups: Tensor) -> Tensor:
        """How much of an outlier each patch (n, D) is among those at its place, (n,) above 0."""
        order = places.argsort(stable=True)
        rows = torch.split(order, torch.bincount(places).tolist())

        def one(here: Tensor) -> Tensor:
            points, owners = embedded[here], groups[here]
            if self.discriminator == "lof":
                return local_outlier_factors(points, owners, self.lof_neighbours)
            return nearest_distances(points, owners) if self.discriminator == "nearest" else mahalanobis(points)

        factors = torch.empty(len(order))
        factors[order] = torch.cat(side_by_side(one, rows))
        if self.discriminator != "lof":  # which is about 1 as it is
            factors /= factors.median().clamp_min(torch.finfo().tiny)
        return factors.clamp_min(1e-3)
