"""Whether one detector is better than others on the same sets and seeds: paired tests, and ranks.

The tests are those of Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets" (JMLR 2006).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

LEVEL = 0.05  # a difference counts below this p


@dataclass(frozen=True)
class PairedTest:
    """The best variant against another one.

    Attributes
    ----------
    pairs : sets and seeds that both have a figure for.
    difference : the median of best minus other.
    p : two-sided, of Wilcoxon's signed-rank test. p_holm : after Holm's correction for all comparisons of the best.
    """

    best: str
    other: str
    pairs: int
    difference: float
    p: float
    p_holm: float


def compare_with_best(values: pd.DataFrame) -> list[PairedTest]:
    """The column with the highest mean against each other column of `values` (N pairs, K variants), none missing.

    Rows are pairs: one set and seed each. Seeds of one set are not independent of each other, so p is too small
    rather than too large. Empty for fewer than two columns.

    >>> import pandas as pd
    >>> better = pd.DataFrame({"a": [0.9, 0.8, 0.7, 0.9, 0.8, 0.9], "b": [0.8, 0.6, 0.6, 0.7, 0.7, 0.6]})
    >>> [(each.best, each.other, each.pairs, round(each.p, 3)) for each in compare_with_best(better)]
    [('a', 'b', 6, 0.031)]
    """
    if values.shape[1] < 2 or values.empty:
        return []
    best = str(values.mean().idxmax())
    others = [str(name) for name in values.columns if name != best]
    ps = [wilcoxon((values[best] - values[name]).to_numpy()) for name in others]
    return [
        PairedTest(best, name, len(values), float((values[best] - values[name]).median()), p, corrected)
        for name, p, corrected in zip(others, ps, holm(ps), strict=True)
    ]


def holm(ps: Sequence[float]) -> list[float]:
    """The p values after Holm's step-down correction, in their order, at most 1.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    corrected = [0.0] * len(ps)
    highest = 0.0
    for rank, at in enumerate(sorted(range(len(ps)), key=lambda at: ps[at])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[at]))
        corrected[at] = highest
    return corrected


@dataclass(frozen=True)
class Ranks:
    """Mean ranks over blocks, 1 the best.

    Attributes
    ----------
    means : by variant, the best first.
    blocks : how many sets (and ratios) were ranked.
    critical : mean ranks that differ by more differ at `LEVEL`, after Nemenyi.
    p : of Friedman's test that all are alike.
    """

    means: pd.Series
    blocks: int
    critical: float
    p: float


def ranks(values: pd.DataFrame) -> Ranks | None:
    """The ranks of the columns of `values` (N blocks, K variants), none missing; None below 3 variants or 2 blocks."""
    from scipy.stats import friedmanchisquare, studentized_range

    count, variants = values.shape
    if variants < 3 or count < 2:
        return None
    means = values.rank(axis=1, ascending=False).mean().sort_values(kind="stable")
    reach = float(studentized_range.ppf(1 - LEVEL, variants, np.inf)) / np.sqrt(2)
    alike = bool((values.nunique(axis=1) == 1).all())
    p = 1.0 if alike else float(friedmanchisquare(*(values[name] for name in values)).pvalue)
    return Ranks(means, count, reach * float(np.sqrt(variants * (variants + 1) / (6 * count))), p)


def wilcoxon(differences: np.ndarray) -> float:
    """The two-sided p of Wilcoxon's signed-rank test; 1 where nothing differs, which scipy has no figure for."""
    from scipy import stats

    return float(stats.wilcoxon(differences).pvalue) if np.any(differences != 0) else 1.0
