"""The nets of each view: what they learn from, their training side by side, which weights are kept, and the scorer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.detectors.funad.checkpoint import Checkpoint, hash_of
from blemish.detectors.funad.local_net import DistanceAndNet, LocalNet, Output, net_scores, scale_of
from blemish.detectors.funad.memory_bank import normal_looking
from blemish.detectors.funad.pool import Pool
from blemish.detectors.funad.schedule import Schedule, Stop
from blemish.detectors.funad.training import Trained, Training
from blemish.detectors.nearest_images import FittedNeighbours
from blemish.detectors.parts.embedding import Standardised
from blemish.detectors.parts.scoring_head import PatchScorer
from blemish.detectors.parts.views import PatchBatch, ViewFeatures
from blemish.machine.runtime import intra_op_threads, runtime, side_by_side

TWIN = 1000  # added to the seed for the second net of the stopping rule "agreement"

ScoresOf = Callable[[LocalNet], NDArray[np.float64]]
"""Scores of all images by a net: the largest logit of each, (N,)."""


def entropy(logits: NDArray[np.float64]) -> float:
    """Mean entropy in bits of the images' scores (N,), 0..1: low where a net has made up its mind about each."""
    score = torch.from_numpy(logits).sigmoid()
    bits: float = (torch.special.entr(score) + torch.special.entr(1 - score)).mean().item() / np.log(2)
    return bits


def agreement(logits: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Rank correlation of the images' scores by two nets that started from different seeds, -1..1."""
    from scipy.stats import spearmanr  # here: it takes a second to load

    if np.ptp(logits) == 0 or np.ptp(others) == 0:
        return 0.0
    return float(spearmanr(logits, others).statistic)


def synthetic_auroc(synthetic: NDArray[np.float64], plain: NDArray[np.float64]) -> float:
    """AUROC of images with a synthetic defect against images that look normal, 0..1."""
    from sklearn.metrics import roc_auc_score  # here: it takes half a second to load

    truth = np.repeat([1, 0], [len(synthetic), len(plain)])
    return float(roc_auc_score(truth, np.concatenate([synthetic, plain])))


def best_snapshot(
    rule: Stop, trained: Trained, scores: ScoresOf, *, twin: Trained | None = None, synthetic: ScoresOf | None = None
) -> int:
    """The snapshot that a rule finds best without labels; of equals the last.

    The authors keep the epoch with the best test AUROC, which needs labels; benchmarks print it as the oracle.
    "entropy" needs the scores alone; "agreement" the `twin`, trained from another seed; "synthetic" the scores of
    images with a `synthetic` defect, which are compared with the lower half of the folder's.
    """
    values = []
    for number in range(len(trained.snapshots)):
        net = trained.at(number)
        of_folder = scores(net)
        if rule == "entropy":
            values.append(-entropy(of_folder))
        elif rule == "agreement" and twin is not None:
            values.append(agreement(of_folder, scores(twin.at(number))))
        elif rule == "synthetic" and synthetic is not None:
            values.append(synthetic_auroc(synthetic(net), np.sort(of_folder)[: max(1, len(of_folder) // 2)]))
        else:
            raise ValueError(f"the rule '{rule}' chooses no snapshot, or lacks what it needs")
    return len(values) - 1 - int(np.argmax(values[::-1]))


@dataclass(frozen=True)
class TrainingSet:
    """What the nets of one view learn from.

    Attributes
    ----------
    view : its number among the detector's views.
    features : of the view.
    pool : patches of all images, those with a synthetic defect behind those of the folder.
    fold : (N,) the net that scores each image of the folder.
    inside : of each net, (N,) bool, the images of the pool that it learns from.
    embeddings : of each net, what its patches pass first.
    wholes_scale : (2, G) mean and deviation of the global vectors.
    validation : patches of other images with a synthetic defect, for the stopping rule "synthetic".
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


@dataclass(frozen=True)
class TrainedNet:
    """A net's training, and the snapshot that the stopping rule chose, None for a rule that chooses none."""

    trained: Trained
    snapshot: int | None


def train_nets(
    sets: Sequence[TrainingSet], schedule: Schedule, seed: int, settings: Mapping[str, Any]
) -> list[list[TrainedNet]]:
    """The nets of each view, one a core: their matrices are too small to be shared out.

    A checkpoint is taken up if it was made by the same `settings` of the detector.
    """
    nets = [(each, net) for each in sets for net in range(len(each.inside))]
    seeds = [seed, seed + TWIN][: 2 if schedule.stop == "agreement" else 1]
    total = len(seeds) * sum(schedule.steps_for(each.images_of(net)) for each, net in nets)
    done: dict[tuple[int, int, int], int] = {}
    progress = runtime().progress

    def one(which: tuple[TrainingSet, int]) -> TrainedNet:
        training_set, net = which
        pool = training_set.pool_of(net)

        def trained(seed: int, twin: str) -> Trained:
            def tell(steps: int) -> None:
                done[training_set.view, net, seed] = steps
                progress("nets", sum(done.values()), total)

            training = Training(pool.to(runtime().device), schedule, seed)
            checkpoint = _checkpoint(training_set, f"view{training_set.view}-net{net}{twin}", settings)
            checkpoint.take_up(training)
            with torch.enable_grad():
                return training.run(tell, checkpoint.keep)

        found = [trained(each, "-twin" if each != seed else "") for each in seeds]
        return TrainedNet(found[0], _chosen(schedule, pool, found, training_set.validation_of(net)))

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


def _chosen(schedule: Schedule, pool: Pool, trained: Sequence[Trained], validation: Pool | None) -> int | None:
    """The snapshot that the stopping rule chooses, None for a rule that chooses none."""
    if schedule.stop in ("average", "last"):
        return None

    def by_image(pool: Pool) -> ScoresOf:
        return lambda net: net_scores(net, pool)[pool.images].double().numpy()

    synthetic = by_image(validation) if validation else None
    return best_snapshot(schedule.stop, trained[0], by_image(pool), twin=trained[-1], synthetic=synthetic)


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
    nets: Sequence[TrainedNet]
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
            return [net.trained.average for net in self.nets]
        if stop == "last":
            return [net.trained.last for net in self.nets]
        if isinstance(stop, int):
            return [net.trained.at(stop) for net in self.nets]
        return [net.trained.at(-1 if net.snapshot is None else net.snapshot) for net in self.nets]

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
