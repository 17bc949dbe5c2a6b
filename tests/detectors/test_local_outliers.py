"""Outlier factors of the patches of a place, against scikit-learn and numpy."""

import numpy as np
import torch
from sklearn.neighbors import LocalOutlierFactor

from blemish.detectors.parts.local_outliers import gaussian, local_outlier_factors, mahalanobis, nearest_distances


def points(count: int = 80, channels: int = 20) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    spread = 0.3 + 2 * torch.rand(count, 1, generator=random)
    return torch.randn(count, channels, generator=random) * spread + 5


def test_local_outlier_factors_are_those_of_scikit_learn() -> None:
    some = points()
    expected = -LocalOutlierFactor(n_neighbors=6).fit(some.numpy()).negative_outlier_factor_
    found = local_outlier_factors(some, torch.arange(len(some)), 6, close=1e-10)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_fewer_points_than_neighbours_are_all_neighbours_of_each_other() -> None:
    some = points(4)
    expected = -LocalOutlierFactor(n_neighbors=3).fit(some.numpy()).negative_outlier_factor_
    found = local_outlier_factors(some, torch.arange(4), 6, close=1e-10)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_copies_of_an_outlier_do_not_vouch_for_it() -> None:
    some = points()
    some[0] += 40
    copied = torch.cat([some, some[:1], some[:1]])
    owners = torch.cat([torch.arange(len(some)), torch.zeros(2, dtype=torch.int64)])
    factors = local_outlier_factors(copied, owners, 6)
    assert (factors[[0, -1, -2]] > 2 * factors[1 : len(some)].max()).all()


def test_equal_and_lone_points_are_ordinary() -> None:
    assert local_outlier_factors(torch.ones(9, 5), torch.arange(9), 6).tolist() == [1.0] * 9
    assert local_outlier_factors(torch.ones(1, 5), torch.zeros(1), 6).tolist() == [1.0]
    assert local_outlier_factors(points(3), torch.zeros(3), 6).tolist() == [1.0] * 3
    assert nearest_distances(points(3), torch.zeros(3)).tolist() == [0.0] * 3


def test_the_whitening_is_a_root_of_the_inverse_covariance() -> None:
    some = points(200, 6)
    mean, whitening = gaussian(some)
    covariance = np.cov(some.numpy(), rowvar=False) + 0.01 * np.eye(6)
    np.testing.assert_allclose(mean, some.numpy().mean(0), rtol=1e-5)
    np.testing.assert_allclose((whitening.T @ whitening).numpy(), np.linalg.inv(covariance), atol=1e-4)


def test_distances_stay_finite_with_fewer_points_than_channels_and_with_constant_ones() -> None:
    assert mahalanobis(points(5, 30)).isfinite().all()
    assert mahalanobis(torch.ones(7, 4)).tolist() == [0.0] * 7
