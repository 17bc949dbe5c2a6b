"""A moved camera is noticed; single defects and few images are not taken for one."""

import numpy as np
import pytest

from blemish.machine.errors import RequestError
from blemish.scores import Scores
from blemish.scores.drift import Usual
from blemish.scores.regions import pixel_threshold, regions_of, write_regions


def scores_of(maps):
    count = len(maps)
    maps = np.asarray(maps, dtype=np.float32)
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1))
    ids = tuple(f"{row:03d}.png" for row in range(count))
    return Scores(ids, maps.max((1, 2)), maps, boxes, np.full((count, 2), 64))


def usual_maps(count, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (count, 8, 8)) + rng.normal(0, 0.3, (count, 1, 1))


def test_images_that_are_unlike_as_a_whole_are_noticed():
    usual = Usual.of(scores_of(usual_maps(100, 0)))
    assert usual.warning(scores_of(usual_maps(30, 1))) is None
    assert "unlike those learned from as a whole" in usual.warning(scores_of(usual_maps(30, 1) + 2))
    assert Usual.from_json(usual.to_json()) == usual


def test_defects_in_all_images_are_no_drift_and_few_images_say_nothing():
    usual = Usual.of(scores_of(usual_maps(100, 0)))
    defects = usual_maps(30, 1)
    defects[:, :3, :3] += 30
    assert usual.warning(scores_of(defects)) is None
    assert usual.warning(scores_of(usual_maps(4, 1) + 5)) is None
    with pytest.raises(RequestError):
        Usual((1.0, 0.0), 3)


def test_regions_are_boxes_areas_and_peaks_of_what_lies_above_the_level(tmp_path):
    maps = usual_maps(20, 0) * 0.1
    maps[0, 1:3, 1:3] = 9
    maps[0, 6, 5] = 5
    scores = scores_of(maps)
    level = pixel_threshold(scores, 3.0)
    assert maps[1:].max() * 0.5 < level < 5
    write_regions(scores, ["000.png"], level, tmp_path, masks=True)
    lines = (tmp_path / "regions.csv").read_text().splitlines()
    assert lines[0] == "path,region,left,top,right,bottom,area,peak"
    rows = [line.split(",") for line in lines[1:]]
    assert [row[1] for row in rows] == ["1", "2"]
    left, top, right, bottom = map(int, rows[0][2:6])
    assert left <= 12 <= 20 <= right
    assert top <= 12 <= 20 <= bottom
    assert float(rows[0][7]) == pytest.approx(9, rel=0.05)
    assert (tmp_path / "masks" / "000.png.png").is_file()


def test_touching_corners_are_one_region():
    mask = np.eye(4, dtype=bool)
    (found,) = regions_of(mask, np.arange(16, dtype=np.float32).reshape(4, 4))
    assert (found.left, found.top, found.right, found.bottom, found.area, found.peak) == (0, 0, 4, 4, 4, 15)
