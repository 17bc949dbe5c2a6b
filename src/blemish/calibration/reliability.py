"""Whether the chances keep what they promise, on images that a person reviewed."""

from dataclasses import dataclass

import numpy as np

from blemish.calibration.deciding import folder_chances
from blemish.calibration.decision import Array, Labels
from blemish.calibration.posterior import two_groups
from blemish.images import ANOMALOUS, NORMAL, UNKNOWN

FOLDS = 5
FEWEST_REVIEWED = 10  # to say anything


@dataclass(frozen=True)
class ReliabilityBin:
    """Reviewed images of about one chance: the mean that was promised, the share that was bad, how many."""

    promised: float
    bad: float
    count: int


def reliability(scores: Array, labels: Labels, bins: int = 5) -> list[ReliabilityBin]:
    """Promised chances against what was found; empty with fewer than 10 reviewed images or equal scores.

    The reviewed images among `scores` (N,) are split in five parts; each is judged by the labels (N,) of the others.
    """
    known = np.flatnonzero(np.isin(labels, (NORMAL, ANOMALOUS)))
    if len(known) < FEWEST_REVIEWED or not np.ptp(scores):
        return []
    model = two_groups(scores)
    promised = np.empty(len(known))
    parts = np.random.default_rng(0).permutation(len(known)) % FOLDS
    for part in range(FOLDS):
        others = np.array(labels)
        others[known[parts == part]] = UNKNOWN
        promised[parts == part] = folder_chances(model.knowing(scores, others), scores).of(scores[known[parts == part]])
    bad = labels[known] == ANOMALOUS
    order = np.argsort(promised, kind="stable")
    return [
        ReliabilityBin(float(promised[rows].mean()), float(bad[rows].mean()), len(rows))
        for rows in np.array_split(order, min(bins, len(known) // 2))
    ]
