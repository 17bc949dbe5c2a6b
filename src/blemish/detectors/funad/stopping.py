"""When to stop, without labels: which weights of a training are kept.

The authors keep the epoch with the best test AUROC. That needs labels; benchmarks print it as the oracle.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from blemish.detectors.funad.local_net import LocalNet
from blemish.detectors.funad.schedule import Stop
from blemish.detectors.funad.training import Trained

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


def told_apart(drawn: NDArray[np.float64], plain: NDArray[np.float64]) -> float:
    """AUROC of images with a drawn defect against images that look normal, 0..1."""
    from sklearn.metrics import roc_auc_score  # here: it takes half a second to load

    truth = np.repeat([1, 0], [len(drawn), len(plain)])
    return float(roc_auc_score(truth, np.concatenate([drawn, plain])))


def best_snapshot(
    rule: Stop, trained: Trained, scores: ScoresOf, *, twin: Trained | None = None, drawn: ScoresOf | None = None
) -> int:
    """The snapshot that a rule finds best; of equals the last.

    "entropy" needs the scores alone; "agreement" the `twin`, trained from another seed; "synthetic" the scores of
    `drawn` images with a synthetic defect, which are set against the lower half of the folder's.
    """
    values = []
    for number in range(len(trained.snapshots)):
        net = trained.at(number)
        of_folder = scores(net)
        if rule == "entropy":
            values.append(-entropy(of_folder))
        elif rule == "agreement" and twin is not None:
            values.append(agreement(of_folder, scores(twin.at(number))))
        elif rule == "synthetic" and drawn is not None:
            values.append(told_apart(drawn(net), np.sort(of_folder)[: max(1, len(of_folder) // 2)]))
        else:
            raise ValueError(f"the rule '{rule}' chooses no snapshot, or lacks what it needs")
    return _last_of_best(values)


def _last_of_best(values: Sequence[float]) -> int:
    return len(values) - 1 - int(np.argmax(values[::-1]))
