"""Heatmaps: one scale for all images, and never a file outside the folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from blemish.scores import Scores
from blemish.scores.heatmaps import MapScale, heatmap_path, layer, overlay, panel, write_heatmaps


def scores_of(maps, ids=None, boxes=None, side=64):
    maps = np.asarray(maps, dtype=np.float32)
    count = len(maps)
    ids = tuple(ids or (f"{i}.png" for i in range(count)))
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1)) if boxes is None else boxes
    return Scores(ids, maps.max((1, 2)), maps, boxes, np.full((count, 2), side))


def ordinary_maps(count=60, seed=0, unit=1.0):
    return np.random.default_rng(seed).gamma(9, 0.03 * unit, (count, 14, 14)).astype(np.float32)


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e5])
def test_good_images_stay_calm_where_no_defect_is_there(unit):
    scores = scores_of(ordinary_maps(unit=unit))
    scale = MapScale.of(scores)
    assert np.quantile(scale.levels(scores.maps).max((1, 2)), 0.9) < 0.5 * 255
    assert scale.low == pytest.approx(np.median(scores.maps))


def test_good_images_stay_plain_beside_defects():
    maps = ordinary_maps(100)
    maps[:8, 4:6, 4:6] = maps.max() * 2
    scale = MapScale.of(scores_of(maps), threshold=maps.max() * 0.9)
    opacity = [np.asarray(layer(each, scale, (14, 14)).convert("RGBA"))[:, :, 3].max() for each in maps]
    assert np.mean(np.array(opacity[8:]) < 0.1 * 255) > 0.9
    assert min(opacity[:8]) > 0.5 * 255


@pytest.mark.parametrize("strength", [1.4, 2, 5, 50])
def test_defects_show_strongly_and_good_images_do_not(strength):
    maps = ordinary_maps(100)
    top = maps.max()
    maps[:8, 4:6, 4:6] = top * strength
    scores = scores_of(maps)
    scale = MapScale.of(scores, threshold=top * 1.1)
    peaks = scale.levels(scores.maps).max((1, 2)) / 255
    assert np.median(peaks[:8]) > 0.8
    assert np.median(peaks[8:]) < 0.7 * np.median(peaks[:8])


def test_the_scale_ignores_padding_and_what_is_not_a_number():
    maps = ordinary_maps()
    expected = MapScale.of(scores_of(maps))
    padded = np.full((60, 28, 14), 99, np.float32)
    padded[:, :14] = maps
    boxes = np.tile(np.array([0, 0, 1, 0.5], np.float32), (60, 1))
    assert MapScale.of(scores_of(padded, boxes=boxes)) == expected
    broken = maps.copy()
    broken[0, 0, 0] = np.nan
    scores = scores_of(maps)
    assert MapScale.of(Scores(scores.ids, scores.image, broken, scores.boxes, scores.sizes)).high < 10


@pytest.mark.parametrize("value", [0.0, 3.0, -2e9])
def test_maps_without_variation_are_all_ordinary(value):
    scores = scores_of(np.full((5, 4, 4), value))
    assert MapScale.of(scores).levels(scores.maps).max() == 0


def test_a_scale_that_does_not_rise_is_refused():
    with pytest.raises(RequestError, match=r"low 1\.0 and high 1\.0"):
        MapScale(1.0, 1.0)


def test_colours_do_not_depend_on_the_other_values_of_a_map():
    rgb = np.full((64, 64, 3), 120, np.uint8)
    scale = MapScale(0.0, 1.0)
    calm, wild = np.full((64, 64), 0.5, np.float32), np.full((64, 64), 0.5, np.float32)
    wild[:8, :8] = 100
    a, b = (np.asarray(overlay(rgb, m, scale)) for m in (calm, wild))
    assert (a[200, 200] == b[200, 200]).all()
    assert (np.asarray(overlay(rgb, np.zeros((2, 2), np.float32), scale)) == 120).all()


@pytest.mark.parametrize("shape", [(64, 64), (1000, 400), (200, 1000), (1000, 200), (8, 8), (8, 3000), (641, 640)])
def test_panels_fit_the_limit_whatever_the_shape(shape):
    rgb = np.zeros((*shape, 3), np.uint8)
    image = panel(rgb, np.ones((5, 3), np.float32), MapScale(0, 1))
    assert max(image.size) <= 2 * 640 + 100
    assert overlay(rgb, np.ones((5, 3), np.float32), MapScale(0, 1), 100).size <= (100, 100)


NAMES = [
    "a/b.jpg",
    "x,y.png",
    "q\"u'o.png",
    "sp ace/ü ñ 漢.png",
    "caf\\xe9.jpg",
    "<img src=x>.png",
    "a/b.jpg.png",
]


def test_heatmaps_are_named_after_the_path_with_its_extension(tmp_path):
    pixels = [np.full((16, 16, 3), i, np.uint8) for i in range(len(NAMES))]
    base = ImageSet.of(pixels)
    images = ImageSet(
        tuple(NAMES),
        dict(zip(NAMES, pixels, strict=True)),
        dict.fromkeys(NAMES, ""),
        {},
        {},
        decoding=base.decoding,
    )
    seen = []
    scores = scores_of(np.zeros((len(NAMES), 2, 2)), NAMES, side=16)
    with use_runtime(progress=lambda *done: seen.append(done)):
        written = write_heatmaps(images, scores, NAMES, MapScale(0, 1), tmp_path / "h")
    assert written == {name: tmp_path / "h" / f"{name}.png" for name in NAMES}
    assert all(Image.open(path).format == "PNG" for path in written.values())
    assert seen[-1] == ("heatmaps", len(NAMES), len(NAMES))


ODD = [
    "../x.png",
    "/etc/x.png",
    "a/../../x.png",
    "a//b",
    "",
    ".",
    "..",
    "a/",
    "x" * 254,
    "_other/a.png",
    "a.PNG/b",
    "\0",
]


def test_no_id_leads_out_of_the_folder_and_no_two_share_a_file(tmp_path):
    paths = [heatmap_path(tmp_path, name) for name in ODD + NAMES + ["a.PNG"]]
    assert all(path.resolve().is_relative_to(tmp_path) for path in paths)
    assert len(set(paths)) == len(paths)
    assert not any(path in other.parents for path in paths for other in paths)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "heatmaps"
    folder.mkdir()
    (folder / "a").symlink_to(outside)
    rgb = np.zeros((16, 16, 3), np.uint8)
    images = ImageSet(("a/b.png",), {"a/b.png": rgb}, {"a/b.png": ""}, {}, {})
    with pytest.raises(RequestError, match="remove the link"):
        write_heatmaps(images, scores_of(np.zeros((1, 2, 2)), ["a/b.png"]), ["a/b.png"], MapScale(0, 1), folder)
    assert not list(outside.iterdir())


def test_unreadable_images_are_left_out_and_unknown_ones_are_errors(tmp_path):
    Path(tmp_path / "bad.png").write_bytes(b"no image")
    images = ImageSet(("bad.png",), {"bad.png": tmp_path / "bad.png"}, {"bad.png": ""}, {}, {})
    scores = scores_of(np.zeros((1, 2, 2)), ["bad.png"])
    assert write_heatmaps(images, scores, ["bad.png"], MapScale(0, 1), tmp_path / "h") == {}
    with pytest.raises(RequestError, match="'other'"):
        write_heatmaps(images, scores, ["other"], MapScale(0, 1), tmp_path / "h")
