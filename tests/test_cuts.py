"""Cuts on vectors of scores."""

import numpy as np
import pytest

from blemish.scores.cuts import far_out, median_and_deviation, median_mad, mixture, unexplained


def test_the_deviation_of_a_gaussian_is_its_standard_deviation() -> None:
    scores = np.random.default_rng(0).normal(5, 2, 100_000)
    assert median_and_deviation(scores) == pytest.approx((5, 2), abs=0.05)


def test_a_cut_moves_with_the_scores() -> None:
    scores = np.random.default_rng(1).normal(size=200)
    assert median_mad(scores * 4 + 7, 3) == pytest.approx(median_mad(scores, 3) * 4 + 7)


@pytest.mark.parametrize(
    ("shape", "bad", "k"), [("normal", 0, 6), ("heavy-tailed", 0, 6), ("normal", 12, 6), ("normal", 40, 4)]
)
def test_what_is_far_out_is_cut_nearer_where_it_is_a_crowd_and_no_tail(shape: str, bad: int, k: int) -> None:
    rng = np.random.default_rng(6)
    good = rng.normal(size=400) if shape == "normal" else rng.standard_t(2, size=40_000)
    scores = np.concatenate([good, rng.uniform(5.4, 5.8, bad)])
    cut, found = far_out(scores)
    assert found == k
    assert cut == median_mad(scores, k)
    assert (scores[len(good) :] > cut).all() == (k == 4 or not bad)


def test_what_chance_explains_is_no_evidence_of_defects() -> None:
    good = np.random.default_rng(4).normal(size=100_000)
    assert unexplained(good) == pytest.approx(0, abs=2e-3)
    assert unexplained(np.concatenate([good, np.full(25_000, 5.0)])) == pytest.approx(0.2, abs=2e-3)
    assert unexplained(np.zeros(10)) == 0


def test_a_mixture_parts_two_kinds_of_scores_and_keeps_what_does_not_differ() -> None:
    rng = np.random.default_rng(0)
    low, high = rng.normal(0, 1, 700), rng.normal(8, 1, 300)
    limit = mixture(np.concatenate([low, high]))
    assert low.max() < limit < high.min()
    assert mixture(np.full(20, 3.0)) == 3.0
