"""Large images in tiles: the same pixels as whole ones, one grid, no seams, memory of a tile."""

from itertools import pairwise

import numpy as np
import pytest
import torch

import blemish
from blemish.detectors.nearest_images import NearestImages
from blemish.detectors.parts.views import View
from blemish.features.extract import FeatureSpec, PatchExtractor, extractor, letterbox, placed
from blemish.features.tiles import Stitched, Window, resized_window, windows
from blemish.images import ImageSet
from blemish.machine.errors import RequestError

SPEC = FeatureSpec("efficientnet_lite0", 64, ("8", "16"), tile=64, overlap=32)


@pytest.mark.parametrize("size", [(200, 330), (64, 96), (700, 90), (96, 128)])
def test_windows_of_a_resized_image_are_parts_of_the_whole_one(size):
    images = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    whole = letterbox(images, (96, 128))
    left, top, width, height = placed((size[1], size[0]), (96, 128))
    for window in windows((96, 128), 64, 32, 32):
        part = resized_window(images, Window(top, left, height, width), window)
        here = whole[..., window.top : window.top + 64, window.left : window.left + 64]
        assert (part - here).abs().max() < 0.01  # of 255 levels


@pytest.mark.parametrize(("size", "side", "overlap"), [((64, 64), 64, 0), ((320, 96), 128, 20), ((480, 512), 256, 64)])
def test_windows_cover_all_and_overlap_as_asked(size, side, overlap):
    covered = np.zeros(size, int)
    found = windows(size, side, overlap, 32)
    for each in found:
        assert (each.top % 32, each.left % 32) == (0, 0)
        assert max(each.height, each.width) <= side
        covered[each.top : each.top + each.height, each.left : each.left + each.width] += 1
    assert covered.min() >= 1
    assert all(right - left <= side - overlap for left, right in pairwise(sorted({each.left for each in found})))


def test_what_agrees_in_the_overlaps_is_stitched_without_seams():
    grid = torch.rand(1, 12, 16, 3, generator=torch.Generator().manual_seed(0))
    stitched = Stitched((96, 128))
    for each in windows((96, 128), 64, 32, 32):
        rows, columns = slice(each.top // 8, each.top // 8 + 8), slice(each.left // 8, each.left // 8 + 8)
        stitched.add(grid[:, rows, columns], each)
    assert torch.allclose(stitched.grid(), grid, atol=1e-6)


def test_the_backbone_sees_one_tile_at_a_time_and_the_grid_is_that_of_all(monkeypatch):
    spec = SPEC.resolved(ImageSet.of([np.zeros((150, 200, 3), np.uint8)]))
    network, seen = extractor(spec, "cpu"), []
    inner = network.network.forward
    monkeypatch.setattr(network.network, "forward", lambda pixels: (seen.append(tuple(pixels.shape)), inner(pixels))[1])
    with torch.inference_mode():
        whole, stages = network(torch.randint(0, 256, (1, 3, 150, 200), dtype=torch.uint8))
    assert set(seen) == {(1, 3, 64, 64)}
    assert len(seen) == len(spec.windows) == 4 * 5
    assert spec.size == (160, 192)
    assert [tuple(each.shape[1:3]) for each in stages] == [(20, 24), (10, 12)]
    assert whole.isfinite().all()


def test_an_image_of_one_tile_is_seen_as_without_tiles():
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    plain = PatchExtractor(FeatureSpec("efficientnet_lite0", 64, ("8", "16"), size=(64, 64))).eval()
    tiled = PatchExtractor(
        FeatureSpec("efficientnet_lite0", 64, ("8", "16"), size=(64, 64), tile=64, overlap=32)
    ).eval()
    with torch.inference_mode():
        for one, other in zip(plain(image)[1], tiled(image)[1], strict=True):
            assert torch.allclose(one, other, rtol=2e-3, atol=1e-4)


def textured(index, bad=False):
    rng = np.random.default_rng(index)
    wave = 120 + 40 * np.sin(np.arange(128) / 5)[:, None] + 40 * np.sin(np.arange(160) / 7)[None, :]
    rgb = (wave[:, :, None] + rng.normal(0, 8, (128, 160, 3))).clip(0, 255).astype(np.uint8)
    if bad:
        rgb[90:100, 120:130] = (255, 0, 0)
    return rgb


def test_a_small_defect_in_a_large_image_is_found_and_drawn_where_it_is(tmp_path):
    images = [textured(index, bad=index == 4) for index in range(9)]
    views = (View(64, ("8",), rooted=False),)
    detector = NearestImages(backbone="efficientnet_lite0", views=views, tile=64, overlap=16)
    run = blemish.fit(images, tmp_path / "run", detector=detector, threads=1)
    assert run.scores.ranking()[0] == "image-000004"
    grid = run.scores.map("image-000004")
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    assert 75 <= row <= 115
    assert 105 <= column <= 145
    new = textured(50, bad=True)
    saved = blemish.load(tmp_path / "run")
    score = saved.score([new], threads=1).image[0]
    assert score > run.threshold_
    with torch.inference_mode():
        whole, _ = saved.detector.module()(torch.from_numpy(new).permute(2, 0, 1)[None])
    assert float(whole[0]) == pytest.approx(float(score), rel=1e-3)


def test_a_large_array_is_not_reduced_for_tiles():
    images = ImageSet.of([np.zeros((16, 5000, 3), np.uint8)])
    assert images.read("image-000000").shape == (8, 2500, 3)
    assert images.read("image-000000", full=True).shape == (16, 5000, 3)


def test_features_without_tiles_keep_their_place_in_the_cache():
    assert "tile" not in FeatureSpec("efficientnet_lite0", 64, ("8",)).key()
    assert SPEC.key()["tile"] == 64


@pytest.mark.parametrize(("tile", "overlap"), [(32, 0), (128, 65), (128, -1), (10_000, 0)])
def test_tiles_that_make_no_sense_are_refused(tile, overlap):
    with pytest.raises(RequestError, match=f"overlap at most half.* got {tile} and {overlap}"):
        NearestImages(tile=tile, overlap=overlap)


@pytest.mark.parametrize(("tile", "count"), [(128, 64), (256, 28), (512, 14)])
def test_small_tiles_are_not_mostly_overlap_by_default(tile, count):
    # A strip of 128 x 6,144 pixels; side by side it would be 48, 24 and 12 tiles.
    size = (256, 6144 * 256 // tile)
    assert len(FeatureSpec(pixels=256, tile=tile, size=size).windows) == count
