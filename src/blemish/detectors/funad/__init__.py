"""FUN-AD: a small network trained on pseudo-labels from a memory bank that is rebuilt as it learns."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from blemish.detectors.base import Detector, State
from blemish.detectors.embedding import Standardised
from blemish.detectors.funad.learning import Learned, learned
from blemish.detectors.funad.lesson import Lesson
from blemish.detectors.funad.local_net import LocalNet
from blemish.detectors.funad.pool import Pool, joined, pool_of
from blemish.detectors.funad.presets import PAPER
from blemish.detectors.funad.schedule import Schedule, Stop
from blemish.detectors.funad.scorer import DistanceAndNet, scale_of
from blemish.detectors.funad.synthetic import Drawn, drawn_on
from blemish.detectors.funad.teaching import Taught
from blemish.detectors.nearest_images import FittedNeighbours, ImageNeighbours, NearestImages, empty_neighbours
from blemish.detectors.sampling import group_numbers, split_in_folds
from blemish.detectors.scoring import PatchScorer
from blemish.detectors.views import PatchBatch, View, ViewFeatures
from blemish.features import features_of
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from blemish.scores.cuts import unexplained

VALIDATION_SHARE = 0.1  # images with a drawn defect that the stopping rule "synthetic" looks at, of the folder
ENOUGH = 0.1  # share of images beyond what chance explains from which the nets have their full weight


@dataclass(kw_only=True)
class FunAD(Schedule, NearestImages):
    """FUN-AD (Im, Son, Hong, WACV 2025) at a small fraction of its operations, taught by `NearestImages`.

    Small networks, Local-Nets, learn from pseudo-labels which patches are anomalous. The distances of `NearestImages`
    give the first pseudo-labels; from then on a memory bank is rebuilt from the images that the net finds normal. Each
    view gets a Local-Net for each fold, trained on the images of the others. Its scores of that fold, in deviations
    from the normal-looking patches there, are added to the distances; the first net scores new images. So every score
    comes from one net that never saw the image. `Schedule` has the settings of the training; the preset "paper" sets
    them, and these, as published.

    Attributes
    ----------
    net_weight, distance_weight : of the two in the patch score; a distance weight of 0 leaves FUN-AD alone, as
        published.
    trust : with "evidence" the net's weight is in proportion to the share of images that stand out by their distances
        more often than by chance (`cuts.unexplained`), and full from 10 % on: a folder with hardly any defects teaches
        little about them. "full" is the weight as it stands.
    net_views : "ranking" has nets for the views that count for the image score. "all" has nets for all; with a distance
        weight of 0 there is no other way.
    use_globals : whether a feature is [global ; patch] as published, or the patch alone.
    embedding : what the net's patches pass first: that of the "view", or "none", as published.
    pool_patches : patches drawn evenly from all images to learn from; 0 takes all, as published.
    cross_fit : whether there is a net for each fold. Without, as published, one net learns from all images, and
        the training scores are its scores of the images it learned from.
    folds : parts that the images are split into for that.
    """

    net_weight: float = 0.8
    distance_weight: float = 1.0
    trust: Literal["evidence", "full"] = "evidence"
    net_views: Literal["ranking", "all"] = "ranking"
    use_globals: bool = False
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

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        self.check_schedule()
        if self.folds < 2:
            raise RequestError(f"'folds' must be at least 2; got {self.folds}; for one net set 'cross_fit=false'.")
        if self.net_weight <= 0 or self.distance_weight < 0:
            raise RequestError(
                "'net_weight' must be above 0 and 'distance_weight' 0 or more; for distances alone use nearest_images."
            )
        if self.pool_patches < 0:
            raise RequestError(f"'pool_patches' must be 0, for all, or more; got {self.pool_patches}.")

    def budget(self) -> Detector:
        """Its distances alone, which rank about as well as the net that they teach at a fraction of its time."""
        return self._plain().budget()

    def _plain(self) -> NearestImages:
        return NearestImages(**{each.name: getattr(self, each.name) for each in fields(NearestImages)})

    def _fit_views(self, features: list[ViewFeatures]) -> Sequence[tuple[PatchScorer, Tensor]]:
        images = features[0].images
        if images.features_alone and (self.synthetic or self.stop == "synthetic"):
            raise RequestError("Defects are drawn on images, and these are features alone; leave 'synthetic' out.")
        drawn = drawn_on(images, _share(self.synthetic, images), self.random_state) if self.synthetic else None
        unseen = None
        if self.stop == "synthetic":
            unseen = drawn_on(images, _share(VALIDATION_SHARE, images), self.random_state + 1)
        neighbours: Sequence[FittedNeighbours | None] = [None] * len(features)
        looks = None
        if self.warm_up or self.distance_weight:
            fitted = self._fit_neighbours(features)
            maps, valid = [each.maps for each in fitted], [view.valid() for view in features]
            looks, _ = self._fusion().learn(maps, valid).of_many(maps, valid)
            neighbours = fitted
        lessons = [
            self._lesson(number, view, near, looks, drawn, unseen) if self._has_net(view.view) else None
            for number, (view, near) in enumerate(zip(features, neighbours, strict=True))
        ]
        nets = iter(learned([lesson for lesson in lessons if lesson], self, self.random_state, asdict(self)))
        self.taught_ = [
            self._taught(lesson, next(nets), near, looks) if lesson else _untaught(view, near)
            for lesson, view, near in zip(lessons, features, neighbours, strict=True)
        ]
        return [taught.assembled(self.stop) for taught in self.taught_]

    def at(self, stop: Stop | int) -> Self:
        """A copy of this detector, just fitted, with the weights that another rule or a snapshot (0..) stands for."""
        other = copy(self)
        with torch.no_grad():
            fitted = [taught.assembled(stop) for taught in self.taught_]
            other._take(self.taught_[0].features.images, self.features_, self._views_seen(), fitted)
        return other

    def nearest_images(self) -> NearestImages:
        """The detector `nearest_images` that this one, just fitted, stands on; as fitting it would give."""
        found = [each.neighbours for each in self.taught_]
        fitted = [(each.scorer, each.maps) for each in found if each is not None]
        if not fitted:
            raise RequestError("With 'warm_up' and 'distance_weight' of 0 there are no distances; fit nearest_images.")
        alone = self._plain()
        alone.near_copies_ = self.near_copies_
        with torch.no_grad():
            alone._take(self.taught_[0].features.images, self.features_, self._views_seen(), fitted)
        return alone

    def _has_net(self, view: View) -> bool:
        return view.ranks or self.net_views == "all" or not self.distance_weight

    def _weights(self, looks: Tensor | None) -> tuple[float, float]:
        """Of distance and net; `looks` (N,) are the image scores by distances alone, in deviations."""
        if looks is None or not self.distance_weight or self.trust == "full":
            return self.distance_weight, self.net_weight
        return self.distance_weight, self.net_weight * min(1.0, unexplained(looks.numpy()) / ENOUGH)

    def _views_seen(self) -> list[ViewFeatures]:
        return [taught.features for taught in self.taught_]

    def _lesson(
        self,
        number: int,
        features: ViewFeatures,
        neighbours: FittedNeighbours | None,
        looks: Tensor | None,
        drawn: Drawn | None,
        unseen: Drawn | None,
    ) -> Lesson:
        """What the nets of one view are to learn from."""
        pool, scale = self._pool(features, neighbours, looks, drawn)
        count = len(features.images)
        fold = torch.zeros(count, dtype=torch.long)
        if self.cross_fit:
            split = split_in_folds(features.images, self.folds, self.random_state)
            fold = torch.tensor([split[name] for name in features.images.ids])
        sources = torch.cat([torch.arange(count), drawn.sources]) if drawn else torch.arange(count)
        folds = range(self.folds) if self.cross_fit else range(1)
        inside = [fold[sources] != at if self.cross_fit else torch.ones(len(sources), dtype=torch.bool) for at in folds]
        embeddings = [self._embedding(features.view, pool, neighbours, inside[at]) for at in folds]
        validation = None
        if unseen is not None:
            spec, patches = features.features.spec, self._drawn_patches(features, len(unseen.sources))
            validation = _standardised(unseen.pool(features, spec, patches, self.random_state, "pseudo"), scale)
        return Lesson(number, features, pool, fold, inside, embeddings, scale, validation)

    def _taught(
        self, lesson: Lesson, nets: Sequence[Learned], neighbours: FittedNeighbours | None, looks: Tensor | None
    ) -> Taught:
        """What is kept of a view whose nets have learned."""
        trained, chosen = [net for net, _ in nets], [snapshot for _, snapshot in nets]
        return Taught(
            lesson.features, lesson.fold, lesson.embeddings, trained, chosen, lesson.wholes_scale, neighbours, looks,
            self._weights(looks),
        )  # fmt: skip

    def _pool(
        self, features: ViewFeatures, neighbours: FittedNeighbours | None, looks: Tensor | None, drawn: Drawn | None
    ) -> tuple[Pool, Tensor]:
        """Patches to learn from, and mean and deviation of the global vectors, (2, G)."""
        maps = neighbours.maps if neighbours else None
        pool = pool_of(features, self.pool_patches, self.random_state, maps, looks)
        wholes = pool.wholes[:, : None if self.use_globals else 0]
        scale = scale_of(wholes)
        if self.embedding == "none":
            scale = torch.stack([torch.zeros_like(scale[0]), torch.ones_like(scale[1])])
        pool = _standardised(pool, scale)
        if drawn is None:
            return pool, scale
        patches = self._drawn_patches(features, len(drawn.sources))
        more = drawn.pool(features, features.features.spec, patches, self.random_state, self.synthetic_labels)
        more = _standardised(more, scale)
        if neighbours is not None and looks is not None:
            maps = self._distances_of_drawn(features, neighbours.scorer, drawn)
            far = maps.flatten(1)[more.owners, more.positions]
            # whether they look normal is for the net to find; until then they set no scale
            more = replace(more, distances=far, looks=torch.full((len(drawn.sources),), torch.inf))
        return joined(pool, more), scale

    def _distances_of_drawn(self, features: ViewFeatures, scorer: ImageNeighbours, drawn: Drawn) -> Tensor:
        """Maps (M, h, w) of the drawn images, each compared with all but the group of the image it was made from."""
        groups = group_numbers(features.images)
        barred = groups[drawn.sources][:, None] == groups[self._compared_with(features.images)]
        seen = ViewFeatures(features.view, features_of(drawn.images, features.features.spec))
        row_of = {name: row for row, name in enumerate(drawn.images.ids)}

        def one(batch: PatchBatch, row: int) -> Tensor:
            return scorer.distances(batch.patches[row][None], barred[row_of[batch.ids[row]]][None])[0]

        return seen.maps(one, f"comparing drawn {features.view.pixels}")

    def _drawn_patches(self, features: ViewFeatures, count: int) -> int:
        """How many patches of `count` drawn images to take: as many of each as of the folder's."""
        return self.pool_patches and max(1, round(self.pool_patches * count / len(features.images)))

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
        from blemish.detectors.funad.curve_files import write_curves

        curves = {
            f"view{view}-net{at}": trained.curve
            for view, taught in enumerate(self.taught_)
            for at, trained in enumerate(taught.trained)
        }
        write_curves(folder, curves, self.taught_[0].features.images.ids)

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
        return DistanceAndNet(neighbours, embedding, net, (self.distance_weight, self.net_weight))


def _untaught(features: ViewFeatures, neighbours: FittedNeighbours | None) -> Taught:
    """A view that has distances and no net."""
    if neighbours is None:
        raise RuntimeError("a view without a net needs distances")
    fold = torch.zeros(len(features.images), dtype=torch.long)
    return Taught(features, fold, (), (), (), scale_of(torch.empty((0, 0))), neighbours, None, (1.0, 0.0))


def _share(share: float, images: ImageSet) -> int:
    return max(1, int(share * len(images)))


def _standardised(pool: Pool, scale: Tensor) -> Pool:
    """The pool with global vectors as the nets take them."""
    return replace(pool, wholes=(pool.wholes[:, : scale.shape[1]] - scale[0]) / scale[1])
