"""Coresets: the exact one equals the textbook's, the cheap ones cover less well but better than chance."""

import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.detectors import patchcore as module
from blemish.detectors.patchcore import coreset, farthest_points


def cloud(count: int, channels: int = 12) -> Tensor:
    """A few dense clusters and some points far out."""
    random = torch.Generator().manual_seed(0)
    centres = 6 * torch.randn(8, channels, generator=random)
    points = centres[torch.randint(8, (count,), generator=random)] + torch.randn(count, channels, generator=random)
    points[:10] *= 3
    return points


def covering_radius(points: Tensor, rows: Tensor) -> float:
    """The largest distance of any of the points (n, D) to the nearest of those in `rows`."""
    return float(torch.cdist(points, points[rows]).amin(1).max())


def textbook(points: Tensor, count: int, start: int) -> list[int]:
    picks, nearest = [start], (points - points[start]).square().sum(1)
    while len(picks) < count:
        picks.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (points - points[picks[-1]]).square().sum(1))
    return picks


def test_farthest_points_are_those_of_the_textbook_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FARTHEST", 64)  # many passes
    monkeypatch.setattr(module, "ROWS", 300)
    points = cloud(2000)
    assert farthest_points(points, 120, start=5).tolist() == textbook(points, 120, start=5)


def test_greedy_covers_better_than_approximate_and_that_better_than_random() -> None:
    points = cloud(4000)
    greedy, approximate, anyhow = (
        covering_radius(points, coreset(points, 60, kind, seed=0)) for kind in ("greedy", "approximate", "random")
    )
    assert greedy < approximate < anyhow


def test_the_greedy_radius_is_at_most_twice_the_best() -> None:
    points = torch.arange(100.0)[:, None]  # 5 points cover a line of 99 with radius 10
    assert covering_radius(points, farthest_points(points, 5, start=0)) <= 20


def test_copies_are_taken_once_and_progress_is_told() -> None:
    points = torch.cat([cloud(50), cloud(50)])
    steps: list[tuple[int, int]] = []
    rows = farthest_points(points, 80, 0, lambda done, total: steps.append((done, total)))
    assert len(rows) == 50
    assert len(np.unique(points[rows].numpy(), axis=0)) == 50
    assert steps[-1] == (50, 80)


def test_all_equal_points_give_one() -> None:
    assert len(coreset(torch.ones(500, 3), 20, "greedy", seed=0)) == 1


@pytest.mark.parametrize("kind", ["greedy", "approximate", "random"])
def test_the_same_seed_gives_the_same_rows_and_never_more_than_there_are(kind: module.Coreset) -> None:
    points = cloud(300)
    assert coreset(points, 30, kind, seed=3).tolist() == coreset(points, 30, kind, seed=3).tolist()
    assert sorted(coreset(points, 999, kind, seed=0).tolist()) == list(range(300))
