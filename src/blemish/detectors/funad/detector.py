"""FUN-AD as a detector: distances to the nearest images, and nets that learn the defects of the folder from them."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from blemish.detectors.base import Detector
from blemish.detectors.feature_detector import FeatureDetector
from blemish.detectors.funad.local_net import DistanceAndNet, LocalNet, Output, scale_of
from blemish.detectors.funad.nets import TrainedView, TrainingSet, train_nets
from blemish.detectors.funad.pool import Pool, SyntheticImages, joined, pool_of, with_synthetic_defects
from blemish.detectors.funad.schedule import PAPER, Schedule, Stop
from blemish.detectors.nearest_images import FittedNeighbours, ImageNeighbours, NearestImages, empty_neighbours
from blemish.detectors.parts.embedding import Standardised
from blemish.detectors.parts.fusion import ImageScore
from blemish.detectors.parts.sampling import group_numbers, split_in_folds
from blemish.detectors.parts.scoring_head import PatchScorer, State
from blemish.detectors.parts.views import PatchBatch, View, ViewFeatures
from blemish.detectors.settings import check_names, documented
from blemish.features import features_of
from blemish.machine.errors import RequestError
from blemish.scores.cuts import unexplained

ENOUGH = 0.1  # share of images beyond what chance explains from which the nets have their full weight
OF_SCHEDULE = tuple(each.name for each in fields(Schedule))
OF_FEATURES = tuple(each.name for each in fields(FeatureDetector))  # the same for the distances and the nets
OF_NEIGHBOURS = tuple(each.name for each in fields(NearestImages) if each.name not in OF_FEATURES)


@documented
@dataclass(kw_only=True, init=False)
class FunAD(FeatureDetector):
    """Distances to the nearest images, and small networks that learn from them which patches are anomalous.

    The networks, Local-Nets, learn from pseudo-labels. The distances of `NearestImages` give the first ones; from then
    on a memory bank is rebuilt from the images that the net finds normal (FUN-AD). Each view gets a net for each fold,
    trained on the images of the other folds. Its scores of that fold, in deviations from the normal-looking patches
    there, are added to the distances; the first net scores new images. So every score comes from one net that never
    saw the image. The defaults take a small fraction of the published operations; the preset "paper" is as published.

    Parameters
    ----------
    neighbours : NearestImages
        Compares images with images. Its features are those of this detector; its `k` and `retrieved` can be set by
        their names here, too: `FunAD(k=3)`.
    schedule : Schedule
        How the nets are trained, in 30 settings, described there. Each can be set by its name here, too:
        `FunAD(steps=100)`.
    net_weight, distance_weight : float, default 0.8 and 1.0
        Of net and distances in the patch score, above 0, and 0 or more. A distance weight of 0 leaves the nets alone,
        as published.
    trust : "evidence" (default) or "full"
        With "evidence" the net's weight grows with the share of images whose distances are larger than chance
        explains, and is full from 10 % on: a folder with hardly any defects teaches little about them. "full" is the
        weight as it is set.
    net_views : "ranking" (default) or "all"
        "ranking" has nets for the views that count for the image score, "all" for all views. With a distance weight of
        0 all have one.
    use_globals : bool, default False
        Whether the net takes the vector of the whole image beside the patch, as published.
    output : "logit" (default) or "sigmoid"
        What of the net is the patch score. Its sigmoid, as published, needs a distance weight of 0.
    embedding : "view" (default) or "none"
        What the net's patches pass first: the embedding of the view, or none, as published.
    pool_patches : int, default 40,000
        Patches drawn evenly from all images to learn from; 0 takes all, as published.
    cross_fit : bool, default True
        Whether there is a net for each fold. Without, as published, one net learns from all images, and the training
        scores are its scores of the images it learned from.
    folds : int, default 3
        Parts that the images are split into for that, 2 or more.
    image_score : "top" (default), "max" or "extents"
        How a map becomes the image's score: the mean of the highest 5 % of patches; the highest patch; or the larger
        of two, the mean of the highest 5 % and the mean of all.
    smoothing : float, default 0.3
        Sigma of the Gaussian that smooths maps, in patches, 0 to 10.

    Attributes
    ----------
    training_scores_ : Scores of the images of `fit`, each by a net that did not learn from it.
    neighbours_ : the fitted `NearestImages` below it, after `fit`.
    trained_views_ : the nets of each view with all their training, after `fit`.
    head_ : the module that scores patch features; what is saved and exported.

    Source: FUN-AD (Im, Son, Hong, WACV 2025, arXiv 2411.16110).

    Examples
    --------
    >>> import numpy as np
    >>> from blemish.images import ImageSet
    >>> features = np.random.default_rng(0).normal(size=(20, 16, 8)).astype("float32")  # 20 images of 4 x 4 patches
    >>> features[3, 5] += 9  # a defect
    >>> detector = FunAD(backbone="given", steps=20, batch=64).fit(ImageSet.of_features(features))
    >>> detector.training_scores_.ranking()[0]
    'image-000003'
    """

    neighbours: NearestImages
    schedule: Schedule
    image_score: ImageScore = "top"
    smoothing: float = 0.3
    net_weight: float = 0.8
    distance_weight: float = 1.0
    trust: Literal["evidence", "full"] = "evidence"
    net_views: Literal["ranking", "all"] = "ranking"
    use_globals: bool = False
    output: Output = "logit"
    embedding: Literal["view", "none"] = "view"
    pool_patches: int = 40_000
    cross_fit: bool = True
    folds: int = 3

    name: ClassVar[str] = "funad"
    summary: ClassVar[str] = "nearest_images, and small networks that learn the defects of the folder from it"
    source: ClassVar[str] = "FUN-AD (WACV 2025, arXiv 2411.16110)"
    uses_set_aside: ClassVar[bool] = True
    keeps_checkpoints: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": PAPER}
    patent: ClassVar[str] = (
        "FUN-AD is the subject of a patent application by its authors; before commercial use, clear that, or take "
        "nearest_images, which trains no network and has no pseudo-labels."
    )

    def __init__(self, **settings: Any) -> None:
        """Settings by name. Raises `RequestError`."""
        check_names({*self.setting_names(), "neighbours", "schedule"}, settings)
        of_neighbours, of_schedule = (
            {name: settings.pop(name) for name in names if name in settings} for names in (OF_NEIGHBOURS, OF_SCHEDULE)
        )
        self.neighbours = replace(settings.pop("neighbours", NearestImages()), **of_neighbours)
        self.schedule = replace(settings.pop("schedule", Schedule()), **of_schedule)
        for each in fields(self):
            if each.name not in ("neighbours", "schedule"):
                setattr(self, each.name, settings.get(each.name, each.default))
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        self.neighbours = self.neighbours.clone(**{name: getattr(self, name) for name in OF_FEATURES})
        if self.folds < 2:
            raise RequestError(f"'folds' must be at least 2; got {self.folds}; for one net set 'cross_fit=false'.")
        if self.net_weight <= 0 or self.distance_weight < 0:
            raise RequestError(
                "'net_weight' must be above 0 and 'distance_weight' 0 or more; for distances alone use nearest_images."
            )
        if self.output == "sigmoid" and self.distance_weight:
            raise RequestError(
                f"'output' sigmoid needs 'distance_weight' 0; got {self.distance_weight}. Leave 'output' out otherwise."
            )
        if self.pool_patches < 0:
            raise RequestError(f"'pool_patches' must be 0, for all, or more; got {self.pool_patches}.")

    @classmethod
    def setting_names(cls) -> set[str]:
        """The names of all settings, also of `neighbours` and `schedule`."""
        return (super().setting_names() - {"neighbours", "schedule"}) | {*OF_NEIGHBOURS, *OF_SCHEDULE}

    def settings(self) -> dict[str, Any]:
        """The settings by name, also of `neighbours` and `schedule`, as `config.json` has them."""
        own = {name: value for name, value in super().settings().items() if name not in ("neighbours", "schedule")}
        return {**own, **{name: getattr(self.neighbours, name) for name in OF_NEIGHBOURS}, **vars(self.schedule)}

    def budget(self) -> Detector:
        """The distances without the nets: nearly the same ranking in a fraction of the time."""
        return self.neighbours.budget()

    def _fit_views(self, features: list[ViewFeatures]) -> Sequence[tuple[PatchScorer, Tensor]]:
        images, schedule = features[0].images, self.schedule
        if images.features_alone and schedule.synthetic:
            raise RequestError("Synthetic defects need images, and these are features alone; leave 'synthetic' out.")
        synthetic = None
        if schedule.synthetic:
            count = max(1, int(schedule.synthetic * len(images)))
            synthetic = with_synthetic_defects(images, count, self.random_state)
        distances: Sequence[FittedNeighbours | None] = [None] * len(features)
        scores = None
        if schedule.warm_up or self.distance_weight:
            self.neighbours_ = self.neighbours.clone()
            distances = fitted = self.neighbours_.compare(features)
            self.neighbours_.assemble(features, [(each.scorer, each.maps) for each in fitted])
            scores = torch.from_numpy(self.neighbours_.training_scores_.image)
        sets = [
            self._training_set(number, view, near, scores, synthetic)
            if view.view.ranks or self.net_views == "all" or not self.distance_weight
            else None
            for number, (view, near) in enumerate(zip(features, distances, strict=True))
        ]
        settings = {**self.settings(), "views": [asdict(view) for view in self.views]}
        nets = iter(train_nets([each for each in sets if each], schedule, self.random_state, settings))
        weights = self._weights(scores)
        self.trained_views_ = [
            TrainedView(
                view, each.fold, each.embeddings, next(nets), each.wholes_scale, near, scores, weights, self.output
            )
            if each
            else TrainedView.without_nets(view, near)
            for each, view, near in zip(sets, features, distances, strict=True)
        ]
        return [view.assembled(schedule.stop) for view in self.trained_views_]

    def at(self, stop: Stop | int) -> Self:
        """A copy of this detector, just fitted, with its weights "average" or "last", or of a snapshot, 0..9."""
        views = [view.features for view in self.trained_views_]
        with torch.no_grad():
            return copy(self).assemble(views, [view.assembled(stop) for view in self.trained_views_])

    @property
    def findings(self) -> tuple[str, ...]:
        """Sentences on what the distances found out about the folder; none of a detector that was loaded."""
        neighbours: NearestImages | None = self.__dict__.get("neighbours_")
        return neighbours.findings if neighbours else ()

    def _weights(self, scores: Tensor | None) -> tuple[float, float]:
        """Of distance and net; `scores` (N,) are the image scores by distances alone, in deviations."""
        if scores is None or not self.distance_weight or self.trust == "full":
            return self.distance_weight, self.net_weight
        return self.distance_weight, self.net_weight * min(1.0, unexplained(scores.numpy()) / ENOUGH)

    def _training_set(
        self,
        number: int,
        features: ViewFeatures,
        neighbours: FittedNeighbours | None,
        scores: Tensor | None,
        synthetic: SyntheticImages | None,
    ) -> TrainingSet:
        """What the nets of one view are to learn from."""
        pool, scale = self._pool(features, neighbours, scores, synthetic)
        count = len(features.images)
        fold = torch.zeros(count, dtype=torch.long)
        if self.cross_fit:
            split = split_in_folds(features.images, self.folds, self.random_state)
            fold = torch.tensor([split[name] for name in features.images.ids])
        sources = torch.cat([torch.arange(count), synthetic.sources]) if synthetic else torch.arange(count)
        folds = range(self.folds) if self.cross_fit else range(1)
        inside = [fold[sources] != at if self.cross_fit else torch.ones(len(sources), dtype=torch.bool) for at in folds]
        embeddings = [self._embedding(features.view, pool, neighbours, inside[at]) for at in folds]
        return TrainingSet(number, features, pool, fold, inside, embeddings, scale)

    def _pool(
        self,
        features: ViewFeatures,
        neighbours: FittedNeighbours | None,
        scores: Tensor | None,
        synthetic: SyntheticImages | None,
    ) -> tuple[Pool, Tensor]:
        """Patches to learn from, and mean and deviation of the global vectors, (2, G)."""
        maps = neighbours.maps if neighbours else None
        pool = pool_of(features, self.pool_patches, self.random_state, maps, scores)
        wholes = pool.wholes[:, : None if self.use_globals else 0]
        scale = scale_of(wholes)
        if self.embedding == "none":
            scale = torch.stack([torch.zeros_like(scale[0]), torch.ones_like(scale[1])])
        pool = _standardised(pool, scale)
        if synthetic is None:
            return pool, scale
        spec, share = features.features.spec, len(synthetic.sources) / len(features.images)
        patches = self.pool_patches and max(1, round(self.pool_patches * share))  # as many of each as of the folder's
        more = synthetic.pool(features, spec, patches, self.random_state, self.schedule.synthetic_labels)
        more = _standardised(more, scale)
        if neighbours is not None and scores is not None:
            maps = self._distances_of_synthetic(features, neighbours.scorer, synthetic)
            far = maps.flatten(1)[more.owners, more.positions]
            # whether they look normal is for the net to find; until then they set no scale
            more = replace(more, distances=far, image_scores=torch.full((len(synthetic.sources),), torch.inf))
        return joined(pool, more), scale

    def _distances_of_synthetic(
        self, features: ViewFeatures, scorer: ImageNeighbours, synthetic: SyntheticImages
    ) -> Tensor:
        """Maps (M, h, w) of synthetic images, each compared with all but the group of the image it was made from."""
        groups = group_numbers(features.images)
        barred = groups[synthetic.sources][:, None] == groups[self.neighbours.compared_with(features)]
        seen = ViewFeatures(features.view, features_of(synthetic.images, features.features.spec))
        row_of = {name: row for row, name in enumerate(synthetic.images.ids)}

        def one(batch: PatchBatch, row: int) -> Tensor:
            return scorer.distances(batch.patches[row][None], barred[row_of[batch.ids[row]]][None])[0]

        return seen.maps(one, f"comparing synthetic {features.view.pixels}")

    def _embedding(self, view: View, pool: Pool, neighbours: FittedNeighbours | None, inside: Tensor) -> Standardised:
        """That of the distances, or one learned from the images that the net will see."""
        channels = pool.patches.shape[1]
        if self.embedding == "none":
            return Standardised(channels)
        if neighbours is not None:
            return neighbours.scorer.embedding
        return view.embedding(channels).learn(pool.patches[inside[pool.owners]])

    def leave_training(self, folder: Path) -> None:
        """Write the nets' curves and score histograms, as CSV and plots, and what their banks held, into `folder`."""
        from blemish.detectors.funad.curve import write_curves

        curves = {
            f"view{view}-net{at}": net.curve
            for view, trained in enumerate(self.trained_views_)
            for at, net in enumerate(trained.nets)
        }
        write_curves(folder, curves, self.trained_views_[0].features.images.ids)

    def _empty_scorer(self, view: View, state: State) -> PatchScorer:
        if "net.of_patch.weight" not in state:
            return empty_neighbours(view, state)
        parts = {key.removeprefix("neighbours."): t for key, t in state.items() if key.startswith("neighbours.")}
        width, channels = state["net.of_patch.weight"].shape
        of_global = state.get("net.of_global.weight")
        hidden = (len(state["net.head.0.bias"]), len(state["net.head.2.bias"]))
        net = LocalNet(channels, of_global.shape[1] if of_global is not None else 0, width, hidden)
        embedding = Standardised(channels) if self.embedding == "none" else view.embedding(channels)
        neighbours = empty_neighbours(view, parts) if parts else None
        return DistanceAndNet(neighbours, embedding, net, (self.distance_weight, self.net_weight), self.output)


def _standardised(pool: Pool, scale: Tensor) -> Pool:
    """The pool with global vectors as the nets take them."""
    return replace(pool, wholes=(pool.wholes[:, : scale.shape[1]] - scale[0]) / scale[1])
