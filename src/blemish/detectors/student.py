"""A small network whose reconstruction error is taught to be a score, then sharpened on what it finds normal."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blemish.cuts import median_mad
from blemish.detectors.embedding import Standardised
from blemish.detectors.fusion import SHARE
from blemish.detectors.scoring import PatchScorer

SMALLEST = 1e-6  # added under the root, whose slope at 0 is infinite


class Student(PatchScorer):
    """The distance of a patch from its image under a narrow autoencoder.

    A network that gave scores straight away would be free to call anything normal that it has not seen; what a
    narrow autoencoder cannot reconstruct is far from what it has learned.
    """

    def __init__(self, embedding: Standardised, channels: int, width: int, bottleneck: int) -> None:
        super().__init__()
        self.embedding: Standardised = embedding
        self.encoder = nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, bottleneck))
        self.decoder = nn.Sequential(nn.Linear(bottleneck, width), nn.GELU(), nn.Linear(width, channels))

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002, ARG002
        """See `PatchScorer`."""
        return self.errors(self.embedding(patches.flatten(0, 2))).view(patches.shape[:3])

    def errors(self, embedded: Tensor) -> Tensor:
        """Of embedded patches (n, D), (n,)."""
        away = embedded - self.decoder(self.encoder(embedded))
        errors: Tensor = (away.square().sum(1) + SMALLEST).sqrt()
        return errors


@dataclass(frozen=True)
class Schedule:
    """How a student is trained.

    Attributes
    ----------
    steps : of each of the two stages.
    batch : patches in one step.
    rate : of the optimiser, AdamW.
    rounds, cut : in the second stage, how often the images to learn from are chosen anew, and the deviations above
        the median that the last choice reaches.
    """

    steps: int
    batch: int
    rate: float
    rounds: int
    cut: float


def taught(
    student: Student, embedded: Tensor, scores: Tensor, images: Tensor, schedule: Schedule, seed: int,
    tell: Callable[[int, int], None],
) -> Student:  # fmt: skip
    """Train the student on patches (n, D) of `images` (n,) and their scores (n,), after MeDS (arXiv 2605.26676).

    First its errors learn the scores: frequent patterns first, so rare ones score higher than they were taught.
    Then the errors are made small on the images that the student itself ranks below median + k deviations, k
    growing from round to round: what is left out of all rounds is not learned.
    """
    random = torch.Generator().manual_seed(seed)
    unit = scores.median().clamp_min(SMALLEST)
    optimiser = torch.optim.AdamW(student.parameters(), lr=schedule.rate)
    rows = torch.arange(len(embedded))
    for step in range(2 * schedule.steps):
        fine = step - schedule.steps
        if fine >= 0 and fine * schedule.rounds % schedule.steps < schedule.rounds:
            reached = fine * schedule.rounds // schedule.steps + 1
            rows = normal_looking(student, embedded, images, schedule.cut * reached / schedule.rounds)
        some = rows[torch.randint(len(rows), (schedule.batch,), generator=random)]
        errors = student.errors(embedded[some])
        loss = errors.mean() / unit if fine >= 0 else ((errors - scores[some]) / unit).square().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        tell(step + 1, 2 * schedule.steps)
    return student.eval()


def normal_looking(student: Student, embedded: Tensor, images: Tensor, cut: float) -> Tensor:
    """Rows of the patches (n, D) whose image (n,) the student ranks at most `cut` deviations above the median.

    An image's score is the mean of the highest errors among its patches, as many as count in the image score.
    """
    with torch.no_grad():
        errors = student.errors(embedded)
    known, which = torch.unique(images, return_inverse=True)
    looks = torch.zeros(len(known))
    for number in range(len(known)):
        mine = errors[which == number]
        looks[number] = mine.topk(max(1, round(SHARE * len(mine)))).values.mean()
    return torch.nonzero((looks <= median_mad(looks.numpy(), cut))[which])[:, 0]
