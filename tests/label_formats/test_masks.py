"""Run lengths are COCO's to the letter, and polygons cover their regions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blemish.images.defect_boxes import as_text, mask_of, of_text, run_lengths
from blemish.label_formats.annotated import outline, whole
from blemish.scores.regions import Region

MASKS = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda size: arrays(bool, size))


@settings(deadline=None)  # the machine may be busy
@given(MASKS)
def test_a_mask_comes_back_from_its_run_lengths_and_their_text(mask):
    lengths = run_lengths(mask)
    assert of_text(as_text(lengths)) == lengths
    assert (mask_of(lengths, mask.shape) == mask).all()


@settings(deadline=None)  # the machine may be busy
@given(MASKS)
def test_the_text_is_what_pycocotools_writes(mask):
    coco = pytest.importorskip("pycocotools.mask")
    assert as_text(run_lengths(mask)) == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_a_small_mask_by_hand():
    mask = np.array([[0, 1], [1, 1]], dtype=bool)
    assert run_lengths(mask) == [1, 3]
    assert as_text([1, 3]) == "13"
    assert run_lengths(np.ones((2, 2), bool)) == [0, 4]
    assert run_lengths(np.zeros((2, 2), bool)) == [4]


def region_of(mask, left=3, top=5):
    height, width = mask.shape
    return Region(left, top, left + width, top + height, int(mask.sum()), 1.0, mask)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (4, 4), (30, 20)])
def test_the_polygon_of_a_rectangle_is_the_rectangle(size):
    from matplotlib.path import Path

    path = Path(outline(region_of(np.ones(size, bool))))
    ys, xs = np.mgrid[0:50, 0:50] + 0.5
    inside = path.contains_points(np.stack([xs.ravel(), ys.ravel()], 1), radius=1e-9).reshape(50, 50)
    wanted = whole(region_of(np.ones(size, bool)), (50, 50))
    assert (inside == wanted).mean() > 0.999


def test_the_polygon_of_a_disc_with_a_hole_is_the_disc_without():
    coco = pytest.importorskip("pycocotools.mask")
    ys, xs = np.mgrid[-20:21, -20:21]
    disc, ring = xs**2 + ys**2 <= 400, (xs**2 + ys**2 <= 400) & (xs**2 + ys**2 > 49)
    points = [value for point in outline(region_of(ring)) for value in point]
    drawn = coco.decode(coco.merge(coco.frPyObjects([points], 60, 60))).astype(bool)
    wanted = whole(region_of(disc), (60, 60))
    assert (drawn & wanted).sum() / (drawn | wanted).sum() > 0.97
