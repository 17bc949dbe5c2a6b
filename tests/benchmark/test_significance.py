"""Tests over sets and seeds agree with the literature and with scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from blemish.benchmark.significance import compare_with_best, holm, ranks


def test_holm_is_the_step_down_correction() -> None:
    assert holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_best_is_compared_pair_by_pair() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(12)
    values = pd.DataFrame({"a": base, "b": base - 0.01 - 0.01 * rng.random(12), "c": base - 0.02 * rng.random(12)})
    found = {each.other: each for each in compare_with_best(values)}
    assert set(found) == {"b", "c"}
    assert found["b"].p == pytest.approx(wilcoxon(values["a"], values["b"]).pvalue)
    assert found["b"].p_holm == pytest.approx(2 * found["b"].p)
    assert found["b"].difference == pytest.approx((values["a"] - values["b"]).median())


def test_equal_columns_do_not_differ() -> None:
    (found,) = compare_with_best(pd.DataFrame({"a": [0.5, 0.6], "b": [0.5, 0.6]}))
    assert (found.p, found.p_holm) == (1.0, 1.0)
    assert compare_with_best(pd.DataFrame({"a": [0.5]})) == []


def test_the_critical_difference_is_that_of_demsar() -> None:
    # Demsar 2006, Sec. 3.2.2: four classifiers on 14 data sets; CD = 2.569 sqrt(4 * 5 / (6 * 14)) = 1.25.
    values = pd.DataFrame(np.random.default_rng(0).random((14, 4)), columns=list("abcd"))
    values["d"] += 2
    found = ranks(values)
    assert found is not None
    assert found.critical == pytest.approx(1.25, abs=0.005)
    assert found.means.index[0] == "d"
    assert found.means["d"] == 1
    assert found.means.sum() == pytest.approx(10)
    assert found.p < 0.05
    assert ranks(values[["a", "b"]]) is None
    same = ranks(pd.DataFrame(np.ones((3, 3))))
    assert same is not None
    assert same.p == 1
