"""Which scores are above a threshold, the one rule for all that flags."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def above(scores: "Sequence[float] | NDArray[np.floating]", threshold: float) -> NDArray[np.bool_]:
    """(N,) which scores are above a threshold; both count as float32, and a score that equals it is not above.

    Examples
    --------
    >>> above([0.1, 0.2], 0.1).tolist()
    [False, True]
    """
    found: NDArray[np.bool_] = np.asarray(scores, np.float32) > np.float32(threshold)
    return found
