"""Deep images: levels that are no measurements, and one range for a folder."""

import numpy as np
import pytest
import tifffile

from blemish.images import ImageSet
from blemish.images.levels import CELLS
from files_of_parts import (
    BAD,
    GOOD,
    LOST,
    OLD_WAYS,
    SIDE,
    check_levels,
    depth,
    folder,
    height,
    hole,
    in_a_hole,
    lost_at,
    part,
    rng,
    scattered,
    truth,
    u16,
    with_lost,
)

pytestmark = OLD_WAYS


@pytest.mark.parametrize("kind", LOST)
def test_lost_pixels_are_named_filled_and_do_not_set_the_range(kind, tmp_path):
    write, named = LOST[kind]
    images = ImageSet.of(folder(tmp_path / "in", write, ".tif"))
    assert len(images) == GOOD + BAD
    assert any("without a measurement" in note and named in note for note in images.notes)
    inside = hole()

    def measured_only(shown):
        return np.where(inside, np.nan, shown) if "hole" in kind or "65535" in kind else shown

    want = np.stack([measured_only(part(int(name[-6:-4]))) for name in images.ids])
    found = np.stack([images.read(name)[:, :, 0].astype(float) for name in images.ids])
    there = np.isfinite(want)
    slope, offset = np.polyfit(want[there], found[there], 1)
    assert slope > 150
    assert np.percentile(np.abs(found - (slope * want + offset))[there], 98) <= 4


def test_a_hole_is_not_scored_and_scattered_pixels_are(tmp_path):
    images = ImageSet.of(folder(tmp_path / "in", with_lost(height, np.nan, in_a_hole), ".tif"))
    cells = np.unpackbits(np.frombuffer(images.lost[images.ids[0]], np.uint8)).reshape(CELLS, CELLS)
    assert cells[5:15, 41:59].all()
    assert cells.mean() < 0.12
    assert not ImageSet.of(folder(tmp_path / "dots", with_lost(height, np.nan, scattered), ".tif")).lost


def test_a_far_level_of_a_few_images_is_a_defect_and_not_lost(tmp_path):
    def write(path, shown, index):
        values = depth(shown)
        if index >= GOOD:  # a hot spot that saturates
            values[20:30, 20:30] = 65535
        tifffile.imwrite(path, values)

    images = ImageSet.of(folder(tmp_path / "in", write, ".tif", GOOD + 2))
    assert not images.lost
    assert images.read("bad-12.tif")[20:30, 20:30].min() == 255
    assert any("levels far outside" in note and "bad-12.tif, bad-13.tif" in note for note in images.notes)
    check_levels(images, ids=[name for name in images.ids if name.startswith("part")])


@pytest.mark.parametrize("what", ["image", "strip", "line"])
def test_one_image_does_not_set_the_range_of_all(what, tmp_path):
    def write(path, shown, index):
        values = u16(shown).astype(np.float32)
        if index == 3:
            rows = {"image": slice(None), "strip": slice(0, 8), "line": slice(5, 6)}[what]
            values[rows] = values[rows] * 50 + rng(1).normal(0, 500, values[rows].shape)
        tifffile.imwrite(path, values)

    images = ImageSet.of(folder(tmp_path / "in", write, ".tif"))
    assert any("1 image has levels far outside" in note and "part-03.tif" in note for note in images.notes)
    check_levels(images, ids=[name for name in images.ids if name != "part-03.tif"])


def test_images_without_any_measurement_are_skipped_by_name(tmp_path):
    root = folder(tmp_path / "in", with_lost(height, -9999, scattered), ".tif")
    tifffile.imwrite(root / "empty.tif", np.full((SIDE, SIDE), np.nan, np.float32))
    tifffile.imwrite(root / "nearly.tif", np.where(lost_at(0.95, 0), -9999, height(part(0))).astype(np.float32))
    images = ImageSet.of(root)
    assert "nearly.tif" in images.skipped
    assert "9" in images.skipped["nearly.tif"]
    with pytest.raises(Exception, match="no finite number"):
        images.read("empty.tif")


def test_new_images_are_read_with_the_range_and_the_lost_levels_of_the_fit(tmp_path):
    before = ImageSet.of(folder(tmp_path / "in", with_lost(height, -9999, scattered), ".tif"))
    new = folder(tmp_path / "new", with_lost(height, -9999, in_a_hole), ".tif", 3)
    tifffile.imwrite(new / "hot-03.tif", height(part(3)) * 100)
    images = ImageSet.of(new, decoding=before.decoding, find_range=False)
    assert images.decoding == before.decoding
    assert set(images.lost) == {"part-00.tif", "part-01.tif", "part-02.tif"}
    assert any("hot-03.tif" in note for note in images.notes)


@pytest.mark.parametrize(("share", "measured"), [(0.005, 99), (0.02, 97)])
def test_few_grey_levels_are_named(share, measured, tmp_path):
    def write(path, shown, index):
        values = height(shown)
        some = lost_at(share, index)
        values[some] = rng(index).uniform(-9000, -5000, some.sum())
        tifffile.imwrite(path, values)

    notes = ImageSet.of(folder(tmp_path / "in", write, ".tif")).notes
    assert any(f"1 grey level is left for {measured} %" in note and "`levels`" in note for note in notes)


@pytest.mark.parametrize("other", [truth, lambda shown: u16(shown) // 16], ids=["floats", "12 bits"])
def test_images_of_another_depth_in_the_folder_are_named(other, tmp_path):
    def write(path, shown, index):
        tifffile.imwrite(path, (other(shown) if index % 5 == 0 else u16(shown)).astype(np.float32))

    notes = ImageSet.of(folder(tmp_path / "in", write, ".tif")).notes
    assert any(
        "3 images have fewer than 32 grey levels" in note and "part-00.tif, part-05.tif" in note for note in notes
    )
