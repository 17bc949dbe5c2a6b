"""Why an image scores high: the places of the images that it was compared with."""

import numpy as np
import pytest

from blemish.review.reasons import upright


@pytest.mark.parametrize("quarters", range(4))
def test_a_place_of_a_turned_grid_is_found_in_the_upright_one(quarters: int) -> None:
    grid = np.arange(25).reshape(5, 5)
    turned = np.rot90(grid, quarters)
    for y, x in np.ndindex(5, 5):
        assert grid[upright(y, x, 5, 5, quarters)] == turned[y, x]


def test_a_grid_that_is_not_square_is_turned_by_a_half() -> None:
    grid = np.arange(12).reshape(3, 4)
    for y, x in np.ndindex(3, 4):
        assert grid[upright(y, x, 3, 4, 2)] == np.rot90(grid, 2)[y, x]
