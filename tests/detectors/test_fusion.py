"""Maps of several views to one score and one map."""

import torch

from blemish.detectors.parts.fusion import SHARE, SIGMA, Fusion, gaussian, highest_mean, smoothed


def maps(count: int = 12, grid: tuple[int, int] = (10, 10)) -> torch.Tensor:
    return torch.rand((count, *grid), generator=torch.Generator().manual_seed(0))


def everywhere(of: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(of, dtype=torch.bool)


def test_extents_are_the_mean_of_the_highest_share_and_of_all() -> None:
    grid = maps(3)
    top = highest(grid, everywhere(grid))
    for row in range(3):
        ordered = grid[row].flatten().sort(descending=True).values
        assert torch.isclose(top[row], ordered[: int(SHARE * 100)].mean())


def highest(grid: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return highest_mean(grid.flatten(1), valid.flatten(1))


def test_padding_counts_for_nothing() -> None:
    grid = maps(4)
    valid = everywhere(grid)
    valid[:, :, 6:] = False
    spoilt = grid.clone()
    spoilt[:, :, 6:] = 1e6
    first, second = (smoothed(each, valid, gaussian(SIGMA)) for each in (grid, spoilt))
    torch.testing.assert_close(highest(first, valid), highest(second, valid))


def test_one_patch_too_few_to_be_a_share_still_counts_as_one() -> None:
    grid = maps(2, (2, 3))
    top = highest(grid, everywhere(grid))
    torch.testing.assert_close(top, grid.flatten(1).amax(dim=1))


def test_units_of_a_view_do_not_matter() -> None:
    first, second = maps(20), maps(20, (5, 5)).flip(0)
    valid = [everywhere(first), everywhere(second)]
    plain, _ = Fusion((True, True), (True, True)).learn([first, second], valid)([first, second], valid)
    scaled = [first * 50 + 3, second]
    other, _ = Fusion((True, True), (True, True)).learn(scaled, valid)(scaled, valid)
    torch.testing.assert_close(plain, other, rtol=1e-3, atol=1e-3)


def test_a_view_that_only_draws_does_not_change_the_score() -> None:
    first, second = maps(20), maps(20).flip(0)
    valid = [everywhere(first)] * 2
    alone, _ = Fusion((True,), (True,)).learn([first], valid[:1])([first], valid[:1])
    both, _ = Fusion((True, False), (True, True)).learn([first, second], valid)([first, second], valid)
    torch.testing.assert_close(alone, both)


def test_the_ordinary_image_scores_about_nothing() -> None:
    grid = maps(50)
    score, _ = Fusion((True,), (True,)).learn([grid], [everywhere(grid)])([grid], [everywhere(grid)])
    assert abs(float(score.median())) < 1
