"""The cache says what it holds, does not grow without end, and survives damage."""

import os
import time

import pytest

from blemish.features import FeatureSpec, features_of
from blemish.features.kept_features import feature_sets, prune
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime

pytestmark = pytest.mark.usefixtures("cached")


def make(photos, width):
    spec = FeatureSpec("efficientnet_lite0", 64, ("32",), (64, width))
    features = features_of(ImageSet.of(photos), spec)
    features.make()
    return features.store.folder


def age(folder, hours):
    then = time.time() - hours * 3600
    os.utime(folder / "about.json", (then, then))


def test_sets_are_listed_by_last_use(photos, own_cache):
    old, new = make(photos, 64), make(photos, 96)
    age(old, 50)
    first, second = feature_sets(own_cache)
    assert (first.folder, second.folder) == (new, old)
    assert first.settings == "efficientnet_lite0 96x64 stages 32"
    assert first.images == 10
    assert first.size == sum(path.stat().st_size for path in new.iterdir())


def test_use_makes_a_set_the_last_to_be_pruned(photos, own_cache):
    old, new = make(photos, 64), make(photos, 96)
    age(old, 50)
    age(new, 40)
    make(photos, 64)
    assert feature_sets(own_cache)[0].folder == old
    keep = feature_sets(own_cache)[0].size
    assert [each.folder for each in prune(own_cache, keep)] == [new]
    assert old.exists()


def test_above_the_cap_sets_not_used_lately_make_room_for_new_features(photos):
    old, recent = make(photos, 64), make(photos, 96)
    age(old, 50)
    age(recent, 1)
    with use_runtime(cache_bytes=1):
        make(photos, 128)
    assert not old.exists()
    assert recent.exists(), "a job may be using it"


def test_below_the_cap_everything_stays(photos):
    old = make(photos, 64)
    age(old, 5000)
    make(photos, 96)
    assert old.exists()


def test_damaged_sets_are_listed_and_pruned(photos, own_cache):
    folder = make(photos, 64)
    (folder / "about.json").write_text("{")
    (own_cache / "features" / "empty").mkdir()
    (own_cache / "features" / "stray.txt").touch()
    settings = {each.settings for each in feature_sets(own_cache)}
    assert settings == {f"damaged ({folder.name})", "damaged (empty)"}
    assert len(prune(own_cache, 0)) == 2
    assert feature_sets(own_cache) == []


def test_a_cache_that_is_not_there_is_empty_and_one_that_is_a_file_is_an_error(tmp_path):
    assert feature_sets(tmp_path / "none") == []
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"cannot be read .*`cache`"):
        feature_sets(tmp_path / "file")
