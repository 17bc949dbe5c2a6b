"""SoftPatch: a coreset of the patches that are no outliers at their place, each with a weight."""

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
from blemish.detectors.parts.sampling import TrainingPart, whole_images
from blemish.detectors.patchcore import PatchCore
from blemish.detectors.settings import check_least, documented
from blemish.machine.errors import RequestError
from blemish.machine.runtime import side_by_side


@documented
@dataclass(kw_only=True)
class SoftPatch(PatchCore):
    """PatchCore without the patches that are outliers among those at the same place: bad images may be among the good.

    What is left keeps its outlier factor as a weight: the score is the weight of the nearest entry times the distance
    to it, so that being close to a dubious entry counts less as proof of being normal.

    Parameters
    ----------
    discriminator : "lof" (default), "nearest" or "gaussian"
        How outliers are found among the patches of a place: by the local outlier factor, the distance to the nearest
        one, or the distance from their mean under their covariance.
    lof_neighbours : int, default 6
        k of the local outlier factor, 1 or more.
    dropped : float, default 0.15
        Share of all patches that give nothing to the coreset, 0 or more, below 1.
    most_images : int, default 500
        Images that are learned from, at random where there are more; 8 or more.
    neighbours : int, default 0
        Entries around the nearest one that tell how crowded it is there; 0 leaves the distance as it is.

    Source: SoftPatch (Jiang et al., NeurIPS 2022, arXiv 2403.14233).

    Examples
    --------
    >>> import numpy as np
    >>> from blemish.images import ImageSet
    >>> features = np.random.default_rng(0).normal(size=(24, 16, 8)).astype("float32")  # 24 images of 4 x 4 patches
    >>> features[22, 5] += 9  # a defect in a new image
    >>> detector = SoftPatch(backbone="given").fit(ImageSet.of_features(features[:20]))
    >>> detector.score(ImageSet.of_features(features[20:])).ranking()[0]
    'image-000002'
    """

    neighbours: int = 0
    discriminator: Discriminator = "lof"
    lof_neighbours: int = 6
    dropped: float = 0.15
    most_images: int = 500

    name: ClassVar[str] = "softpatch"
    summary: ClassVar[str] = "a coreset without the patches that are outliers at their place, the rest weighted"
    source: ClassVar[str] = "SoftPatch (NeurIPS 2022, arXiv 2403.14233)"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, lof_neighbours=1, most_images=self.min_images)
        if not 0 <= self.dropped < 1:
            raise RequestError(f"'dropped' must be at least 0 and below 1; got {self.dropped}.")

    def _plan(self, ids: Sequence[str]) -> Mapping[str, int]:
        return whole_images(ids, self.most_images, self.random_state)

    def _nominal(self, embedded: Tensor, part: TrainingPart, width: int) -> tuple[Tensor, float]:  # noqa: ARG002
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
