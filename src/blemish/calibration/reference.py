"""Images known to be good, as a reference: how often good images are flagged is then a promise, not a guess.

Conformal prediction (Bates et al., arXiv 2104.08279): a good image is as likely to have any rank among the scores of
known good ones, each of which was scored without itself. Nothing else is assumed. Bad images among the reference make
it only more cautious (Bashari, Sesia, Romano, arXiv 2502.04807), so only confirmed ones are taken out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from blemish.scores import above

CONFIDENCE = 0.975  # of all references of a size; on a hundred new images it then holds for 95 % of them
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Promise:
    """How many good images are flagged.

    Attributes
    ----------
    rate : at most this share of the good images, 0..1, with a confidence of 97.5 %: the share that was wanted, or the
        smallest that so many images support.
    expected : the share on average.
    images : known good images that it rests on.
    wanted : the share that was wanted.
    """

    rate: float
    expected: float
    images: int
    wanted: float

    @property
    def kept(self) -> bool:
        """Whether the wanted share is promised."""
        return self.rate <= self.wanted


def smallest_rate(images: int) -> float:
    """The smallest share of false alarms that can be promised with so many known good images.

    Examples
    --------
    >>> [round(smallest_rate(n), 3) for n in (30, 100, 368)]
    [0.116, 0.036, 0.01]
    """
    return 1.0 if images < 1 else float(1 - (1 - CONFIDENCE) ** (1 / images))


def images_for(rate: float) -> int:
    """How many known good images a promise of `rate` needs.

    Examples
    --------
    >>> images_for(0.01)
    368
    """
    return ceil(round(log(1 - CONFIDENCE) / log(1 - rate), 9))


def promised(reference: Array, wanted: float) -> tuple[float, Promise]:
    """The threshold that keeps the false alarms at or below `wanted`, and what can be promised of it.

    The share of the good images above the j-th highest of n known good scores follows a Beta distribution,
    Beta(j, n + 1 - j). j is the largest that keeps it below `wanted` with confidence, at least 1.
    """
    from scipy.stats import beta

    ordered = np.sort(np.asarray(reference, dtype=np.float64))[::-1]
    count = len(ordered)
    ranks = np.arange(1, count + 1)
    rates = beta.ppf(CONFIDENCE, ranks, count + 1 - ranks)
    rank = max(1, int((rates <= wanted + 1e-12).sum()))
    return float(ordered[rank - 1]), Promise(max(wanted, float(rates[rank - 1])), rank / (count + 1), count, wanted)


def p_values(reference: Sequence[float] | Array, scores: Array) -> NDArray[np.float64]:
    """(N,) how often a good image would score as high or higher; never below 1 / (reference + 1)."""
    ordered = np.sort(np.asarray(reference, dtype=np.float64))
    above = len(ordered) - np.searchsorted(ordered, np.asarray(scores, dtype=np.float64), side="left")
    found: NDArray[np.float64] = (1 + above) / (len(ordered) + 1)
    return found


def false_share(reference: Sequence[float] | Array, scores: Array, threshold: float) -> float | None:
    """A bound on the share of good images among the images of `scores` (N,) above the threshold; None without flags.

    As Benjamini and Hochberg have it: as many of all images as a good one exceeds the threshold, over those flagged. It
    holds on average, whatever the bad images score.
    """
    flagged = int(above(scores, threshold).sum())
    if not flagged:
        return None
    beyond = (1 + int(above(reference, threshold).sum())) / (len(reference) + 1)
    return min(1.0, beyond * len(scores) / flagged)
