"""The nets of one view: taught on folds of the images, put together as a scorer and cross-fitted maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blemish.detectors.embedding import Standardised
from blemish.detectors.funad.local_net import LocalNet
from blemish.detectors.funad.memory_bank import normal_looking
from blemish.detectors.funad.schedule import Stop
from blemish.detectors.funad.scorer import DistanceAndNet, scale_of
from blemish.detectors.funad.training import Trained
from blemish.detectors.nearest_images import FittedNeighbours
from blemish.detectors.scoring import PatchScorer
from blemish.detectors.views import PatchBatch, ViewFeatures


@dataclass(frozen=True)
class Taught:
    """What is known after training the nets of a view.

    Attributes
    ----------
    features : of the view.
    fold : (N,) the net that scores each image of the folder, which did not learn from it unless there is one alone.
    embeddings, trained, chosen : of each net, what its patches pass first, its training, and the snapshot that the
        stopping rule chose, None for a rule that chooses none. All empty for a view that has distances alone.
    wholes_scale : (2, G) mean and deviation of the global vectors the nets take.
    neighbours : the distances to the nearest images, if there are any.
    looks : (N,) image scores by those, if there are any.
    weights : of distance and net.
    """

    features: ViewFeatures
    fold: Tensor
    embeddings: Sequence[Standardised]
    trained: Sequence[Trained]
    chosen: Sequence[int | None]
    wholes_scale: Tensor
    neighbours: FittedNeighbours | None
    looks: Tensor | None
    weights: tuple[float, float]

    def nets(self, stop: Stop | int) -> list[LocalNet]:
        """The nets that a rule, or the number of a snapshot, stands for."""
        if stop == "average":
            return [each.average for each in self.trained]
        if stop == "last":
            return [each.last for each in self.trained]
        if isinstance(stop, int):
            return [each.at(stop) for each in self.trained]
        return [each.at(-1 if at is None else at) for each, at in zip(self.trained, self.chosen, strict=True)]

    def assembled(self, stop: Stop | int) -> tuple[PatchScorer, Tensor]:
        """The scorer, and the cross-fitted maps (N, h, w) of the folder on its scale."""
        known = self.neighbours
        if not self.trained and known is not None:
            return known.scorer, known.maps
        nets = self.nets(stop)
        near = known.scorer if known is not None and self.weights[0] else None
        scorer = DistanceAndNet(near, self.embeddings[0], nets[0], self.weights)
        scorer.wholes_scale = self.wholes_scale
        logits, valid = self._cross_fitted_logits(scorer, nets), self.features.valid()
        looks = logits.masked_fill(~valid, -torch.inf).amax(dim=(1, 2)) if self.looks is None else self.looks
        normal = valid & torch.from_numpy(normal_looking(looks.numpy(), "mad"))[:, None, None]
        for number in range(len(nets)):  # the nets' logits have no common origin or unit
            held_out = self.fold == number
            scale = scale_of(logits[normal & held_out[:, None, None]])
            logits[held_out] = (logits[held_out] - scale[0]) / scale[1]
            if number == 0:  # the net that scores new images
                scorer.scales[1] = scale
        if scorer.neighbours is None or known is None:
            return scorer.eval(), self.weights[1] * logits
        scorer.scales[0] = scale_of(known.maps[normal])
        distances = (known.maps - scorer.scales[0, 0]) / scorer.scales[0, 1]
        return scorer.eval(), scorer.combined(distances, logits)

    def _cross_fitted_logits(self, scorer: DistanceAndNet, nets: Sequence[LocalNet]) -> Tensor:
        """Every image's logits by the net that did not learn from it, (N, h, w)."""
        fold_of = dict(zip(self.features.images.ids, self.fold.tolist(), strict=True))

        def one(batch: PatchBatch, row: int) -> Tensor:
            patches, number = batch.patches[row], fold_of[batch.ids[row]]
            embedded = self.embeddings[number](patches.flatten(0, 1))[None]
            whole = scorer.standardised(batch.globals[row : row + 1])
            logits: Tensor = nets[number].of_images(embedded, whole).view(patches.shape[:2])
            return logits

        return self.features.maps(one, f"logits {self.features.view.pixels}")
