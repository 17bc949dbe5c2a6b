"""SimpleNet: a small network that tells adapted patches from the same with a little noise added."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from blemish.detectors.one_class import Learned, OneClass
from blemish.detectors.parts.embedding import Standardised
from blemish.detectors.parts.sampling import TrainingPart, even_plan, seeded_weights
from blemish.detectors.parts.scoring_head import PatchScorer, State
from blemish.detectors.parts.views import View, ViewFeatures
from blemish.detectors.settings import check_least, documented
from blemish.machine.runtime import runtime, side_by_side

MARGIN = 0.5  # th+ and -th-, SimpleNet Sec. 3.4
SLOPE = 0.2  # of the leaky rectifier, spec/detectors.md
ADAPTOR_RATE, HEAD_RATE, DECAY = 1e-4, 2e-4, 1e-5  # of Adam, SimpleNet Sec. 4.1


class Net(PatchScorer):
    """A linear adaptor and a discriminator of two layers; the score is the discriminator's output, negated."""

    def __init__(self, embedding: Standardised, channels: int, width: int) -> None:
        super().__init__()
        self.embedding: Standardised = embedding
        self.adaptor = nn.Linear(channels, channels)
        self.head = nn.Sequential(
            nn.Linear(channels, width), nn.BatchNorm1d(width), nn.LeakyReLU(SLOPE), nn.Linear(width, 1, bias=False)
        )

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002, ARG002
        """Patches (B, h, w, D) and global vectors (B, G) to patch scores (B, h, w)."""
        return self.scores(self.embedding(patches.flatten(0, 2))).view(patches.shape[:3])

    def scores(self, embedded: Tensor) -> Tensor:
        """Of embedded patches (n, D), (n,)."""
        scores: Tensor = -self.head(self.adaptor(embedded))[:, 0]
        return scores


@documented
@dataclass(kw_only=True)
class SimpleNet(OneClass):
    """A small network that learns to tell patches from the same patches with a little noise.

    All images count as good. What looks to the network more like noise than like them is anomalous. The network of
    the last step is what scores; the published runs keep the epoch that does best on the test set, which no one has who
    needs a detector.

    Parameters
    ----------
    patches : int, default 100,000
        Patches that are learned from, drawn evenly from the images; 10 or more.
    width : int, default 256
        Neurons of the discriminator's hidden layer, 1 or more.
    steps : int, default 1000
        Steps of the training, 1 or more.
    batch : int, default 512
        Patches of a step, 2 or more, to which as many noisy ones come.
    noise : float, default 0.1
        Deviation of the noise, where channels have a deviation of 1; 0 or more.

    Source: SimpleNet (Liu et al., CVPR 2023, arXiv 2303.15140).

    Examples
    --------
    >>> import numpy as np
    >>> from blemish.images import ImageSet
    >>> features = np.random.default_rng(0).normal(size=(24, 16, 8)).astype("float32")  # 24 images of 4 x 4 patches
    >>> features[22, 5] += 9  # a defect in a new image
    >>> detector = SimpleNet(backbone="given", steps=200).fit(ImageSet.of_features(features[:20]))
    >>> detector.score(ImageSet.of_features(features[20:])).ranking()[0]
    'image-000002'
    """

    patches: int = 100_000
    width: int = 256
    steps: int = 1000
    batch: int = 512
    noise: float = 0.1

    name: ClassVar[str] = "simplenet"
    summary: ClassVar[str] = "a small network that tells patches from the same with a little noise"
    source: ClassVar[str] = "SimpleNet (CVPR 2023, arXiv 2303.15140)"

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        check_least(self, patches=10, width=1, steps=1, batch=2, noise=0.0)

    def _plan(self, ids: Sequence[str]) -> Mapping[str, int]:
        return even_plan(ids, self.patches, self.random_state)

    def _learn(self, parts: Sequence[TrainingPart], features: ViewFeatures) -> Sequence[Learned]:
        stage, done, progress = parts[0].stage, [0] * len(parts), runtime().progress
        nets = []
        for part in parts:
            values = part.sample.values
            embedding = features.view.embedding(values.shape[1]).learn(values)
            nets.append(seeded_weights(Net(embedding, values.shape[1], self.width), self.random_state))

        def teach(number: int) -> Learned:
            def tell(step: int) -> None:
                done[number] = step
                progress(stage, sum(done), len(done) * self.steps)

            net, embedded = nets[number], nets[number].embedding(parts[number].sample.values)
            with torch.enable_grad():
                self._train(net, embedded, tell)
            return Learned(net.requires_grad_(False), lambda: net.scores(embedded), unseen=False)

        return side_by_side(teach, range(len(parts)))

    def _train(self, net: Net, embedded: Tensor, tell: Callable[[int], None]) -> None:
        """Teach the net to tell patches (n, D) from noisy ones."""
        random = torch.Generator().manual_seed(self.random_state)
        optimiser = torch.optim.Adam(
            [
                {"params": net.adaptor.parameters(), "lr": ADAPTOR_RATE},
                {"params": net.head.parameters(), "lr": HEAD_RATE},
            ],
            weight_decay=DECAY,
        )
        for step in range(self.steps):
            rows = torch.randint(len(embedded), (self.batch,), generator=random)
            adapted = net.adaptor(embedded[rows])
            noisy = adapted + self.noise * torch.randn(adapted.shape, generator=random)
            normal, pseudo = net.head(torch.cat([adapted, noisy]))[:, 0].split(self.batch)
            loss = (MARGIN - normal).clamp_min(0).mean() + (MARGIN + pseudo).clamp_min(0).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            tell(step + 1)
        net.eval()

    def _empty(self, view: View, state: State) -> PatchScorer:
        width, channels = state["head.0.weight"].shape
        return Net(view.embedding(channels), channels, width)
