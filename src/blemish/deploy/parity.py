"""How far an exported model may be from torch, and how far it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.deploy.graph import ExportedScoring
from blemish.machine.errors import JobError
from blemish.machine.runtime import intra_op_threads
from blemish.runs.exported import Arrays

Precision = Literal["float32", "int8"]
LARGEST_GAP = 1e-3  # of the interquartile range of the training scores, of all but a few images
# Two patches may be the nearest but for the last bit of a feature, and how common each is divides the distance.
FEWEST_CLOSE, FARTHEST = 0.9, 0.1  # share of the images within that gap; of the same range, any image
NOISE = 1.0  # levels of 255, a standard deviation: that of a camera in good light
FEWEST_EQUAL = 0.95  # share of equal decisions
LEAST_CORRELATION = 0.95  # of an int8 model: rank correlation


@dataclass(frozen=True)
class Parity:
    """How far an exported model is from torch on images like the images of the Run.

    Attributes
    ----------
    images : how many were compared, none of which was learned from as it is; see `as_new`.
    score : the largest difference of a score, in interquartile ranges of the training scores.
    close : share of the images whose score differs by no more than `LARGEST_GAP` of them, 0..1.
    map : the largest difference of a patch, in the levels from ordinary to clearly anomalous.
    equal_decisions : share of the images on which both decide alike, 0..1.
    rank_correlation : Spearman's, of the scores.
    """

    images: int
    score: float
    close: float
    map: float
    equal_decisions: float
    rank_correlation: float


def as_new(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images as a camera would take them once more: uint8 RGB (N, H, W, 3) with a noise of `NOISE` levels.

    An image that was learned from has a distance near 0 to itself, where the rounding of float32 is all there is. New
    images lie about the threshold, and that is where models are to agree.
    """
    rng = np.random.default_rng(0)
    noisy = np.empty_like(pixels)
    for row, image in enumerate(pixels):  # one by one: not all in float at once
        noise = rng.normal(0, NOISE, image.shape).astype(np.float32)
        noisy[row] = (image + noise).round().clip(0, 255).astype(np.uint8)
    return noisy


def compared(
    scoring: ExportedScoring,
    images: Arrays,
    found: Sequence[Arrays],
    training: NDArray[np.float32],
    threshold: float,
) -> Parity:
    """What the exported model `found` of `images` against torch, each by itself.

    They are uint8 RGB (N, H, W, 3), and masks (N, R, R) bool if it takes some. `training` are the training
    scores, whose spread a difference is measured by.
    """
    from scipy.stats import spearmanr

    with torch.inference_mode(), intra_op_threads(1):
        expected = [
            [each.numpy() for each in scoring(*(torch.from_numpy(part[at : at + 1]) for part in images))]
            for at in range(len(images[0]))
        ]
    score, flagged, level = (np.concatenate(each) for each in zip(*found, strict=True))
    wanted, decided, wanted_level = (np.concatenate(each) for each in zip(*expected, strict=True))
    spread = float(np.subtract(*np.percentile(training, (75, 25)))) or max(1.0, abs(threshold))
    constant = len(set(wanted.tolist())) < 2 or len(set(score.tolist())) < 2
    gaps = np.abs(score - wanted) / spread
    return Parity(
        len(score),
        float(gaps.max()),
        float((gaps <= LARGEST_GAP).mean()),
        float(np.abs(level - wanted_level).max()),
        float((flagged == decided).mean()),
        1.0 if constant else float(spearmanr(score, wanted).statistic),
    )


def check(parity: Parity, precision: Precision) -> None:
    """Raise `JobError` where a model is further from torch than its precision allows."""
    if precision == "int8":
        if parity.equal_decisions < FEWEST_EQUAL or parity.rank_correlation < LEAST_CORRELATION:
            raise JobError(
                f"In int8 the model decides like torch on {parity.equal_decisions:.1%} of {parity.images} images, and "
                f"the ranks of its scores correlate by {parity.rank_correlation:.3f}; at least {FEWEST_EQUAL:.0%} and "
                f"{LEAST_CORRELATION} are asked for: leave out `precision`."
            )
    elif not (parity.score <= FARTHEST and parity.close >= FEWEST_CLOSE and parity.equal_decisions >= FEWEST_EQUAL):
        raise JobError(
            f"The exported model differs from torch: {parity.close:.1%} of {parity.images} images are within "
            f"{LARGEST_GAP} of the spread of the training scores, the farthest is off by {parity.score:.1e}, and "
            f"{parity.equal_decisions:.1%} are decided alike; at least {FEWEST_CLOSE:.0%}, at most {FARTHEST} and at "
            f"least {FEWEST_EQUAL:.0%} are asked for. This is a fault: report it, and score with the Run itself."
        )
