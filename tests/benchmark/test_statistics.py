"""Who is near to whom: against plain counting, against simulation, and the statements of the paper."""

import numpy as np
import pytest

from blemish.benchmark.statistics import (
    Gaussians,
    distance_histograms,
    matching_ratios,
    mutual_pairs,
    score_histograms,
)
from blemish.machine.errors import RequestError


def plain_mutual_pairs(features: np.ndarray) -> list[tuple[int, int]]:
    nearest = []
    for i, one in enumerate(features):
        distances = [np.inf if i == j else np.linalg.norm(one - other) for j, other in enumerate(features)]
        nearest.append(int(np.argmin(distances)))
    return [(i, j) for i, j in enumerate(nearest) if i < j and nearest[j] == i]


def test_mutual_pairs_equal_plain_counting() -> None:
    features = np.random.default_rng(0).normal(size=(60, 4))
    assert [tuple(pair) for pair in mutual_pairs(features)] == plain_mutual_pairs(features)


def test_copies_are_each_others_nearest_far_from_the_origin() -> None:
    features = np.random.default_rng(0).normal(size=(20, 4)) + 1000
    features[7] = features[3]
    assert [3, 7] in mutual_pairs(features).tolist()


def test_the_histograms_hold_each_pair_once() -> None:
    features, anomalous = Gaussians().sample(30, 12)
    found = distance_histograms(features, anomalous)
    assert {kind: count.sum() for kind, count in found.counts.items()} == {
        "normal": 30 * 29 / 2,
        "anomaly": 12 * 11 / 2,
        "mixed": 30 * 12,
    }
    plain = [np.linalg.norm(features[i] - features[j]) for i in range(30) for j in range(30, 42)]
    assert found.means["mixed"] == pytest.approx(np.mean(plain))


def test_normal_pairs_are_the_shortest_for_the_papers_gaussians() -> None:
    features, anomalous = Gaussians().sample(1000, 1000)
    means = distance_histograms(features, anomalous).means
    assert means["normal"] < means["mixed"] < means["anomaly"]


def test_nearly_all_mutual_pairs_are_homogeneous_for_the_papers_gaussians() -> None:
    features, anomalous = Gaussians().sample(1000, 1000)
    ratios = matching_ratios(features, anomalous)
    assert ratios["homogeneous"] > 0.95
    assert ratios["mixed"] < 0.05 < ratios["normal"]


def test_with_equal_spreads_and_means_nothing_is_homogeneous_but_by_chance() -> None:
    features, anomalous = Gaussians(spread_a=1.0).sample(1000, 1000)
    found = matching_ratios(features, anomalous)
    assert found["homogeneous"] == pytest.approx(found["chance"], abs=0.06)
    assert found["chance"] == pytest.approx(999 / 1999)


@pytest.mark.parametrize("case", [Gaussians(4, 1, 2, 0), Gaussians(4, 1, 1.5, 3), Gaussians(8, 0.5, 1, 1)])
def test_the_closed_forms_equal_simulation(case: Gaussians) -> None:
    distance = 1.4 * case.spread_n * np.sqrt(case.dimensions)
    for kind, share in case.simulated(distance, 200_000).items():
        assert case.closer_than(distance)[kind] == pytest.approx(share, abs=4e-3)


@pytest.mark.parametrize("gap", [0.0, 2.0])
@pytest.mark.parametrize("spread", [1.1, 2.0, 4.0])
def test_the_ratios_lie_above_1_and_tend_to_their_limits(spread: float, gap: float) -> None:
    case = Gaussians(16, 1.0, spread, gap)
    for distance in (0.1, 1.0, 3.0):
        assert all(ratio > 1 for ratio in case.ratios(distance).values())
    near, limits = case.ratios(0.02), case.limits()
    assert near["anomaly"] == pytest.approx(limits["anomaly"], rel=1e-2)
    assert near["mixed"] == pytest.approx(limits["mixed"], rel=1e-2)


def test_both_lower_bounds_hold() -> None:
    for distance in (0.2, 1.0, 4.0):
        same_mean = Gaussians(16, 1, 2, 0).ratios(distance)["mixed"]
        assert 1 < same_mean < Gaussians(16, 1, 2, 3).ratios(distance)["mixed"]
        same_spread = Gaussians(16, 1, 1, 3).ratios(distance)["mixed"]
        assert same_spread > 1
        assert Gaussians(16, 1, 1, 0).ratios(distance)["mixed"] == pytest.approx(1)


def test_scores_are_counted_by_class() -> None:
    found = score_histograms(np.array([0.0, 0.1, 0.9, 1.0]), np.array([0, 0, 1, 1], bool), bins=2)
    assert found.counts["normal"].tolist() == [2, 0]
    assert found.counts["anomaly"].tolist() == [0, 2]
    assert score_histograms(np.ones(4), np.array([0, 0, 1, 1], bool)).counts["normal"].sum() == 2


def test_features_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(RequestError, match=r"must be \(N, D\)"):
        matching_ratios(np.zeros((3, 2)), np.zeros(4, bool))
    with pytest.raises(RequestError, match="0 of 3 are anomalies"):
        matching_ratios(np.zeros((3, 2)), np.zeros(3, bool))
    with pytest.raises(RequestError, match="finite"):
        matching_ratios(np.full((3, 2), np.nan), np.array([1, 0, 0], bool))
