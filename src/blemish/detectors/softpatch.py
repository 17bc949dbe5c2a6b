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
from blemish.detectors.settings import check_least
from blemish.machine.errors import RequestError
from blemish.machine.runtime import side_by_side


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
    share : float, default 0.03
        Share of the patches that the coreset keeps, above 0, at most 1. With 1 %, as in PatchCore's paper, the ranking
        of parts that vary much hangs on chance (benchmarks/detectors.md).
    entries : int, default 10,000
        Most patches that it keeps, 10 or more.
    candidates : int, default 250,000
        Patches that the coreset is chosen from, drawn evenly from the images; 1,000 or more.
    coreset : "greedy" (default), "approximate" or "random"
        "greedy" takes the farthest patch again and again; "approximate" does so among a random tenfold; "random" takes
        any.
    neighbours : int, default 0
        Entries around the nearest one that tell how crowded it is there; 0 leaves the distance as it is.
    folds : int, default 3
        Parts that the images are split into, 2 or more: what was learned without a part gives its training scores.
    training_scores : bool, default True
        Whether there are training scores. Without, most of the time is saved; a fit that decides on a threshold needs
        them.
    backbone : str, default "efficientnet_lite2"
        The frozen network whose features are compared: a name of the registry of backbones or of timm. "given" is for
        features that are computed elsewhere.
    weights : str, default ""
        File with the backbone's weights, where they are neither embedded nor in a local cache.
    views : tuple of View, default one view of 256 pixels, stages "8" and "16", averaged over 3 x 3 patches
        Which stages of the backbone are looked at, and at which working size; several are fused. With another backbone
        the default becomes a view that suits it.
    pixels : int, default 0
        Side of the square whose area the working size has, in pixels, in place of that of the views; 0 leaves it. A
        defect of a few pixels needs more.
    tile : int, default 0
        Side of the tiles that images are cut into, in pixels, each looked at in the working size; 0 takes images whole.
    overlap : int, default 32
        Pixels that neighbouring tiles share at least, up to half a tile.
    image_score : "extents" (default), "max" or "top"
        How a map becomes the image's score: the mean of the highest 5 % of patches ("top"); the highest patch ("max");
        or the larger of two, the mean of the highest 5 % and the mean of all ("extents").
    smoothing : float, default 0.7
        Sigma of the Gaussian that smooths maps, in patches, 0 to 10.
    random_state : int, default 0
        Seed of every random choice, 0 or more.

    Attributes
    ----------
    training_scores_ : Scores of the images of `fit`, each by a part that did not learn from it.
    head_ : the module that scores patch features; what is saved and exported.
    features_ : the features that are read, one `FeatureSpec` a working size.

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
