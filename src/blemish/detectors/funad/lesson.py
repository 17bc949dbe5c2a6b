"""What the nets of one view learn from, and what is then known of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.detectors.embedding import Standardised
from blemish.detectors.funad.pool import Pool
from blemish.detectors.views import ViewFeatures


@dataclass(frozen=True)
class Lesson:
    """What is ready before the nets of a view are trained.

    Attributes
    ----------
    view : its number among the detector's views.
    features : of the view.
    pool : patches of all images, those with a drawn defect behind those of the pile.
    fold : (N,) the net that scores each image of the pile.
    inside : of each net, (N,) bool, the images of the pool that it learns from.
    embeddings : of each net, what its patches pass first.
    wholes_scale : (2, G) mean and deviation of the global vectors.
    validation : patches of other images with a drawn defect, for the stopping rule "synthetic".
    """

    view: int
    features: ViewFeatures
    pool: Pool
    fold: Tensor
    inside: Sequence[Tensor]
    embeddings: Sequence[Standardised]
    wholes_scale: Tensor
    validation: Pool | None

    def pool_of(self, net: int) -> Pool:
        """The embedded patches that a net learns from."""
        return self.pool.of(self.inside[net], self.embeddings[net])

    def images_of(self, net: int) -> int:
        """How many images they are from."""
        owners = self.pool.owners
        return len(torch.unique(owners[self.inside[net][owners]]))

    def validation_of(self, net: int) -> Pool | None:
        """The validation patches as a net takes them."""
        if self.validation is None:
            return None
        everything = torch.ones(len(self.validation.groups), dtype=torch.bool)
        return self.validation.of(everything, self.embeddings[net])
