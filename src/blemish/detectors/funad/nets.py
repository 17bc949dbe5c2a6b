"""The nets of each view: what they learn from, their training side by side, which weights are kept, and the scorer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blemish.detectors.funad.checkpoint import Checkpoint, hash_of
from blemish.detectors.funad.local_net import DistanceAndNet, LocalNet, Output, scale_of
from blemish.detectors.funad.memory_bank import normal_looking
from blemish.detectors.funad.pool import Pool
from blemish.detectors.funad.schedule import Schedule, Stop
from blemish.detectors.funad.training import Trained, Training
from blemish.detectors.nearest_images import FittedNeighbours
from blemish.detectors.parts.embedding import Standardised
from blemish.detectors.parts.scoring_head import PatchScorer
from blemish.detectors.parts.views import PatchBatch, ViewFeatures
from blemish.machine.runtime import intra_op_threads, runtime, side_by_side


@dataclass(frozen=True)
class TrainingSet:
    """What the nets of one view learn from.

    Attributes
    ----------
    view : its number among the detector's views.
    features : of the view.
    pool : patches of all images, images with a synthetic defect behind the images of the folder.
    fold : (N,) the net that scores each image of the folder.
    inside : of each net, (N,) bool, the images of the pool that it learns from.
    embeddings : of each net, what its patches pass first.
    wholes_scale : (2, G) mean and deviation of the global vectors.
    """

    view: int
    features: ViewFeatures
    pool: Pool
    fold: Tensor
    inside: Sequence[Tensor]
    embeddings: Sequence[Standardised]
    wholes_scale: Tensor

    def pool_of(self, net: int) -> Pool:
        """The embedded patches that a net learns from."""
        return self.pool.of(self.inside[net], self.embeddings[net])

    def images_of(self, net: int) -> int:
        """How many images they are from."""
        owners = self.pool.owners
        return len(torch.unique(owners[self.inside[net][owners]]))


def train_nets(
    sets: Sequence[TrainingSet], schedule: Schedule, seed: int, settings: Mapping[str, Any]
) -> list[list[Trained]]:
    """The nets of each view, one a core: their matrices are too small to be shared out.

    A checkpoint is taken up if it was made by the same `settings` of the detector.
    """
    nets = [(each, net) for each in sets for net in range(len(each.inside))]
    total = sum(schedule.steps_for(each.images_of(net)) for each, net in nets)
    done: dict[tuple[int, int], int] = {}
    progress = runtime().progress

    def one(which: tuple[TrainingSet, int]) -> Trained:
        training_set, net = which

        def tell(steps: int) -> None:
            done[training_set.view, net] = steps
            progress("nets", sum(done.values()), total)

        training = Training(training_set.pool_of(net).to(runtime().device), schedule, seed)
        checkpoint = _checkpoint(training_set, f"view{training_set.view}-net{net}", settings)
        checkpoint.take_up(training)
        with torch.enable_grad():
            return training.run(tell, checkpoint.keep)

    if runtime().device != "cpu" or len(nets) == 1:
        with intra_op_threads(runtime().threads):  # a net alone has all cores
            results = [one(which) for which in nets]
    else:
        results = side_by_side(one, nets)
    of_view = iter(results)
    return [[next(of_view) for _ in each.inside] for each in sets]


def _checkpoint(training_set: TrainingSet, name: str, settings: Mapping[str, Any]) -> Checkpoint:
    """Where the state of a net is kept; nowhere without a folder for it."""
    features = training_set.features.features
    place, images, spec = runtime().checkpoints, features.images, features.spec
    made = [str(spec.source().tolist()), str(spec.size), str(images.decoding)]  # of the same files others can be made
    known = [f"{images.content[name]}{images.labels.get(name, '')} {images.groups[name]}" for name in images.ids]
    about = {**settings, "images": hash_of(sorted([*known, *([images.roi.key] if images.roi else [])]))}
    about |= {"features": hash_of(made)}
    return Checkpoint(place / f"{name}.safetensors" if place else None, about)


@dataclass(frozen=True)
class TrainedView:
    """One view after the nets have learned: all that its scorer is made of.

    Attributes
    ----------
    features : of the view.
    fold : (N,) the net that scores each image of the folder, which did not learn from it unless there is one alone.
    embeddings, nets : of each net, what its patches pass first, and its training. Empty for a view that has distances
        alone.
    wholes_scale : (2, G) mean and deviation of the global vectors the nets take.
    neighbours : the distances to the nearest images, if there are any.
    image_scores : (N,) by those, if there are any.
    weights : of distance and net.
    output : of the net, see `DistanceAndNet`.
    """

    features: ViewFeatures
    fold: Tensor
    embeddings: Sequence[Standardised]
    nets: Sequence[Trained]
    wholes_scale: Tensor
    neighbours: FittedNeighbours | None
    image_scores: Tensor | None
    weights: tuple[float, float]
    output: Output = "logit"

    @classmethod
    def without_nets(cls, features: ViewFeatures, neighbours: FittedNeighbours | None) -> "TrainedView":
        """A view that has distances alone."""
        if neighbours is None:
            raise RuntimeError("a view without a net needs distances")
        fold = torch.zeros(len(features.images), dtype=torch.long)
        return cls(features, fold, (), (), scale_of(torch.empty((0, 0))), neighbours, None, (1.0, 0.0))

    def nets_at(self, stop: Stop | int) -> list[LocalNet]:
        """The nets that a rule, or the number of a snapshot, means."""
        if stop == "average":
            return [net.average for net in self.nets]
        return [net.last if stop == "last" else net.at(stop) for net in self.nets]

    def assembled(self, stop: Stop | int) -> tuple[PatchScorer, Tensor]:
        """The scorer, and the cross-fitted maps (N, h, w) of the folder on its scale."""
        known = self.neighbours
        if not self.nets and known is not None:
            return known.scorer, known.maps
        nets = self.nets_at(stop)
        near = known.scorer if known is not None and self.weights[0] else None
        scorer = DistanceAndNet(near, self.embeddings[0], nets[0], self.weights, self.output)
        scorer.wholes_scale = self.wholes_scale
        logits, valid = self._cross_fitted_logits(scorer, nets), self.features.valid()
        scores = self.image_scores
        if scores is None:
            scores = logits.masked_fill(~valid, -torch.inf).amax(dim=(1, 2))
        normal = valid & torch.from_numpy(normal_looking(scores.numpy(), "mad"))[:, None, None]
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
            return scorer.of_net(nets[number], embedded, batch.globals[row : row + 1]).view(patches.shape[:2])

        return self.features.maps(one, f"logits {self.features.view.pixels}")
