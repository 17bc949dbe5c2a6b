"""PaDiM: a Gaussian for each place of the image, for products that are always in the same position."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from blemish.detectors.one_class import Learned, OneClass
from blemish.detectors.parts.embedding import Standardised
from blemish.detectors.parts.local_outliers import gaussian
from blemish.detectors.parts.sampling import TrainingPart, whole_images
from blemish.detectors.parts.scoring_head import PatchScorer, State
from blemish.detectors.parts.views import View, ViewFeatures
from blemish.detectors.settings import check_least, documented
from blemish.machine.runtime import runtime, side_by_side

AT_ONCE = 32  # places worked on together
PLACES, HELD_OUT = 16, 64  # places, and images held out at each, which give the scores of unseen patches


class PlaceGaussians(PatchScorer):
    """The Mahalanobis distance of some channels of each patch from the training patches at its place."""

    def __init__(self, embedding: Standardised, channels: Tensor, mean: Tensor, whitening: Tensor) -> None:
        super().__init__()
        self.embedding: Standardised = embedding
        self.channels: Tensor = nn.Buffer(channels)  # (C,) int64
        self.mean: Tensor = nn.Buffer(mean)  # (P, C)
        self.whitening: Tensor = nn.Buffer(whitening)  # (P, C, C)

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002, ARG002
        """Patches (B, h, w, D) and global vectors (B, G) to patch scores (B, h, w)."""
        some = self.embedding(patches.flatten(1, 2)).index_select(2, self.channels)  # (B, P, C)
        away = (some - self.mean).permute(1, 2, 0)  # (P, C, B)
        squared: Tensor = torch.bmm(self.whitening, away).square().sum(1)  # (P, B)
        return squared.T.sqrt().view(patches.shape[:3])


@documented
@dataclass(kw_only=True)
class PaDiM(OneClass):
    """A Gaussian over the images at each place of the grid, for products that are always in the same position.

    All images count as good. A patch is anomalous if it is far from the mean of the patches at its place, in
    deviations of those (the Mahalanobis distance).

    Parameters
    ----------
    channels : int, default 100
        Channels of the features that are looked at, drawn at random, 1 or more.
    most_images : int, default 500
        Images that are learned from, at random where there are more; 8 or more.

    Source: PaDiM (Defard et al., ICPR 2020, arXiv 2011.08785).

    Examples
    --------
    >>> import numpy as np
    >>> from blemish.images import ImageSet
    >>> features = np.random.default_rng(0).normal(size=(24, 16, 8)).astype("float32")  # 24 images of 4 x 4 patches
    >>> features[22, 5] += 9  # a defect in a new image
    >>> detector = PaDiM(backbone="given").fit(ImageSet.of_features(features[:20]))
    >>> detector.score(ImageSet.of_features(features[20:])).ranking()[0]
    'image-000002'
    """

    channels: int = 100
    most_images: int = 500

    name: ClassVar[str] = "padim"
    summary: ClassVar[str] = "a Gaussian at each place of the image; for products that are always in the same position"
    source: ClassVar[str] = "PaDiM (ICPR 2020, arXiv 2011.08785)"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, channels=1, most_images=self.min_images)

    def _plan(self, ids: Sequence[str]) -> Mapping[str, int]:
        return whole_images(ids, self.most_images, self.random_state)

    def _learn(self, parts: Sequence[TrainingPart], features: ViewFeatures) -> Sequence[Learned]:
        return [self._learn_one(part, features) for part in parts]

    def _learn_one(self, part: TrainingPart, features: ViewFeatures) -> Learned:
        sample = part.sample
        width = sample.values.shape[1]
        embedding = features.view.embedding(width).learn(sample.values)
        chosen = np.random.default_rng(self.random_state).permutation(width)[: self.channels]
        channels = torch.from_numpy(np.sort(chosen))
        values = embedding(sample.values)[:, channels]
        counts = torch.bincount(sample.places, minlength=features.grid[0] * features.grid[1])
        rows = torch.split(sample.places.argsort(stable=True), counts.tolist())
        mean, whitening = torch.empty(len(rows), len(channels)), torch.empty(len(rows), len(channels), len(channels))
        # Where padding left less than two patches, the patches of all places are taken.
        anywhere = gaussian(values) if min(map(len, rows)) < 2 else None

        def one(start: int) -> None:
            for place, here in enumerate(rows[start : start + AT_ONCE], start):
                found = gaussian(values[here]) if len(here) > 1 or anywhere is None else anywhere
                mean[place], whitening[place] = found
            runtime().progress(part.stage, min(start + AT_ONCE, len(rows)), len(rows))

        side_by_side(one, range(0, len(rows), AT_ONCE))
        full = [here for here in rows if len(here) > 1]
        scorer = PlaceGaussians(embedding, channels, mean, whitening)
        return Learned(scorer, lambda: _held_out_distances(values, part.groups, full, self.random_state), unseen=True)

    def _empty(self, view: View, state: State) -> PatchScorer:
        embedding = view.embedding(len(state["embedding.mean"]))
        return PlaceGaussians(embedding, *(torch.zeros_like(state[name]) for name in ("channels", "mean", "whitening")))


def _held_out_distances(values: Tensor, groups: Tensor, rows: Sequence[Tensor], seed: int) -> Tensor:
    """Distances (m,) of some patches from what is learned at their place without their group."""
    rng = np.random.default_rng(seed)
    some = [rows[at] for at in rng.permutation(len(rows))[:PLACES]]
    chosen = [torch.from_numpy(rng.permutation(len(here))[:HELD_OUT]) for here in some]

    def one(at: int) -> Tensor:
        here, distances = some[at], []
        for patch in here[chosen[at]]:
            others = here[groups[here] != groups[patch]]
            if len(others) > 1:
                mean, whitening = gaussian(values[others])
                distances.append((whitening @ (values[patch] - mean)).square().sum().sqrt())
        return torch.stack(distances) if distances else torch.zeros(0)

    return torch.cat(side_by_side(one, range(len(some))))
