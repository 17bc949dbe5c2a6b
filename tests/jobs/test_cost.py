"""What a job will cost is said before it starts, by its own images, and nothing is done twice for that."""

import numpy as np
from PIL import Image

import blemish
from blemish.features import FeatureSpec, features_of
from blemish.images import ImageSet
from blemish.jobs import cost
from blemish.machine.runtime import use_runtime
from conftest import picture, small_detector


def test_a_long_job_tells_its_cost_once_and_makes_no_feature_twice(photos, own_cache, backbone_passes, monkeypatch):
    monkeypatch.setattr(cost, "FEWEST", 5)
    monkeypatch.setattr(cost, "WORTH_TELLING", 0.0)
    notes = []
    blemish.fit(photos, detector=small_detector(), threads=1, cache=own_cache, tell=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith("10 images will take about ")
    assert sum(backbone_passes) == 10 * len(small_detector().feature_specs())
    blemish.fit(photos, detector=small_detector(), threads=1, cache=own_cache, tell=notes.append)
    assert len(notes) == 1  # the features are here


def test_a_short_job_says_nothing(photos, own_cache, monkeypatch):
    notes = []
    blemish.fit(photos, detector=small_detector(), threads=1, cache=own_cache, tell=notes.append)
    assert notes == []


def test_the_estimate_of_disk_is_what_the_features_take(photos, cached):
    images = ImageSet.of(photos)
    found = cost.estimated(small_detector(), images, 10, 10, made=10)
    features_of(images, FeatureSpec(**vars(small_detector().feature_specs()[0]))).make()
    kept = sum(path.stat().st_size for path in (cached.cache / "features").rglob("*.safetensors"))
    assert 1 / 1.5 < found.disk * 2**30 / kept < 1.5


def test_a_few_images_of_very_many_tiles_are_told_as_well(tmp_path, own_cache, monkeypatch):
    monkeypatch.setattr(cost, "WORTH_TELLING", 0.0)
    for index in range(8):
        strip = np.tile(picture(index), (1, 40, 1))  # 64 x 2,560 pixels
        Image.fromarray(strip).save(tmp_path / f"{index}.png")
    images, notes = ImageSet.of(tmp_path), []
    tiled = small_detector().clone(tile=64, overlap=0)
    cost.tell_cost(small_detector(), images, 0, notes.append)
    assert notes == []
    assert tiled.feature_specs()[0].resolved(images).size == (256, 10240)  # a tile is seen at 256 pixels
    with use_runtime(cache=own_cache, threads=1):
        cost.tell_cost(tiled, images, 0, notes.append)
    assert notes[0].startswith("8 images will take about ")
