"""Many images: a sample is learned from, the rest is scored as new, and memory does not follow their number."""

import math

import numpy as np
import pytest

import blemish
from blemish.images import NORMAL, ImageSet
from blemish.jobs.streaming import sample_size, split
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from command_line import QUICK, call, refused, table
from conftest import fill, picture, small_detector


def test_what_is_sample_size_grows_more_slowly_than_the_folder():
    counts = [1, 500, 1000, 1001, 4000, 100_000]
    assert [sample_size(each) for each in counts] == [1, 500, 1000, 1000, 2000, 10_000]
    assert sample_size(100_000, 5000) == 5000
    assert sample_size(100, 5000) == 100


def test_the_sample_is_sample_size_and_the_rest_scored_as_new_images(tmp_path, backbone_passes):
    fill(tmp_path / "photos", 16)
    run = blemish.fit(
        tmp_path / "photos", tmp_path / "run", detector=small_detector(), threads=1, sample=10, cache=tmp_path / "c"
    )
    assert len(run.scores) == 16
    assert isinstance(run.scores.maps, np.memmap)
    images = ImageSet.of(tmp_path / "photos")
    sample, rest = split(images, small_detector(), sample=10, disk=None, seed=0)
    assert (len(sample), len(rest)) == (10, 6)
    assert sum(backbone_passes) == 16  # none twice
    alone = blemish.fit(sample, detector=small_detector(), threads=1, cache=tmp_path / "c")
    with use_runtime(threads=1):  # as the fit had it: sums over threads round differently
        expected = alone.detector.score(rest)
    assert all(run.scores[name] == expected[name] for name in rest.ids)
    assert all(run.scores[name] == alone.scores[name] for name in sample.ids)
    assert np.array_equal(run.scores.map(rest.ids[0]), expected.map(rest.ids[0]))
    assert len(blemish.load(tmp_path / "run").known) == 16
    assert "10 images were learned from" in (tmp_path / "run" / "report.html").read_text()


def test_every_image_is_listed_also_what_turns_out_unreadable(tmp_path):
    fill(tmp_path / "photos", 15)
    whole = (tmp_path / "photos" / "part-03.png").read_bytes()
    for index in range(3):
        (tmp_path / "photos" / f"broken-{index}.png").write_bytes(whole[: 2000 + index])
    words = ("fit", tmp_path / "photos", "--out", tmp_path / "run", "--sample", 9, *QUICK)
    assert call(*words).exit_code == 0
    listed, skipped = table(tmp_path / "run" / "scores.csv"), table(tmp_path / "run" / "skipped.csv")
    assert len(listed) == 15
    assert {row["path"] for row in skipped} == {f"broken-{index}.png" for index in range(3)}


def test_the_choice_depends_on_content_and_seed_alone_and_keeps_known_images():
    images = [picture(index) for index in range(40)]
    one = ImageSet.of(images)
    labelled = ImageSet(**{**vars(one), "labels": {"image-000039": NORMAL}})
    sample, _ = split(labelled, small_detector(), sample=12, disk=None, seed=0)
    assert "image-000039" in sample.ids
    assert len(sample) == 12
    backwards = ImageSet.of(images[::-1])
    a, _ = split(one, small_detector(), sample=12, disk=None, seed=0)
    b, _ = split(backwards, small_detector(), sample=12, disk=None, seed=0)
    c, _ = split(one, small_detector(), sample=12, disk=None, seed=1)
    contents = [{each.content[name] for name in each.ids} for each in (a, b, c)]
    assert contents[0] == contents[1] != contents[2]


def test_a_disk_budget_bounds_what_is_kept(tmp_path):
    fill(tmp_path / "photos", 16)
    detector = small_detector()
    images = ImageSet.of(tmp_path / "photos")
    each = detector.feature_bytes(images)
    blemish.fit(tmp_path / "photos", detector=detector, disk=10.5 * each / 2**30, threads=1, cache=tmp_path / "c")
    kept = sum(path.stat().st_size for path in (tmp_path / "c" / "features").rglob("*.safetensors"))
    assert kept == pytest.approx(10 * each, rel=0.02)
    with pytest.raises(RequestError, match=r"3 images.*`disk`"):
        split(images, detector, sample=None, disk=math.ceil(3.2 * each), seed=0)


def test_bad_requests_are_one_sentence(tmp_path, photos):
    words = ("fit", photos, "--out", tmp_path / "out", *QUICK)
    refused(call(*words, "--sample", 4), "4 images are too few", "at least 8", "--sample")
