"""The work of a job in tasks: the same numbers as on one machine, on a cluster of which a node is killed."""

import os
import time
from dataclasses import replace

import numpy as np
import pytest

import blemish
from blemish.detectors.nearest_images import NearestImages
from blemish.detectors.parts.views import View
from blemish.features import features_of
from blemish.features import store as store_module
from blemish.features.extract import FeatureSpec
from blemish.features.store import FeatureStore, PackedFeatures
from blemish.images import ImageSet
from blemish.machine import ray_tasks
from blemish.machine import runtime as runtime_module
from blemish.machine.errors import RequestError
from blemish.machine.runtime import runtime, use_runtime
from blemish.purification import PurifySettings, sub_models
from blemish.runs import cluster
from command_line import call, refused
from conftest import fill, picture


def detector():
    views = (View(64, ("16",), rooted=False),)
    return NearestImages(backbone="efficientnet_lite0", views=views)


@pytest.fixture
def inline(monkeypatch):
    """Tasks run here, one by one, in a runtime without a cluster; counts them."""
    ran = []

    def in_tasks(function, shared, items):
        for item in items:
            ran.append(function.__name__)
            token = runtime_module._CURRENT.set(replace(runtime(), ray=None, threads=1))
            try:
                yield function(shared, item)
            finally:
                runtime_module._CURRENT.reset(token)

    for module in (store_module, cluster, sub_models):
        monkeypatch.setattr(module, "in_tasks", in_tasks)
    monkeypatch.setattr("blemish.jobs.fitting.connected", lambda _: None)
    return ran


def test_features_and_scores_from_tasks_are_those_of_one_machine(tmp_path, inline):
    fill(tmp_path / "photos", 12)
    (tmp_path / "photos" / "broken.png").write_bytes((tmp_path / "photos" / "part-03.png").read_bytes()[:2000])
    here = blemish.fit(tmp_path / "photos", tmp_path / "a", detector=detector(), threads=1, cache=tmp_path / "ca")
    there = blemish.fit(
        tmp_path / "photos", tmp_path / "b", detector=detector(), threads=1, cache=tmp_path / "cb", ray="x"
    )
    assert inline[:2] == ["_made_of", "_made_of"]
    assert set(inline) == {"_made_of"}
    assert here.scores.ids == there.scores.ids
    assert np.array_equal(here.scores.image, there.scores.image)
    assert np.array_equal(here.scores.maps, there.scores.maps)
    assert here.skipped == there.skipped != {}
    expected = blemish.score(tmp_path / "photos", tmp_path / "a", threads=1)
    scores = blemish.score(tmp_path / "photos", tmp_path / "b", threads=1, ray="x")
    assert "_scored_part" in inline
    assert scores.ids == expected.ids
    assert np.array_equal(scores.image, expected.image)
    assert scores.skipped == expected.skipped


def test_kept_features_travel_only_where_they_are_missing(tmp_path, photos):
    images = ImageSet.of(photos).settled()
    spec = FeatureSpec("efficientnet_lite0", 64, ("16",)).resolved(images)
    with use_runtime(cache=tmp_path / "driver", threads=1):
        features_of(images, spec).make()
        packed = PackedFeatures.of(images, [spec], lambda part: [part])
        store = FeatureStore.at(runtime().cache, spec, images)
        expected = store.read(images.content.values())
    asked = []

    def get(part):
        asked.append(part)
        return part[0]

    with use_runtime(cache=tmp_path / "worker"):
        packed.unpack(images, get)
        found = FeatureStore.at(runtime().cache, spec, images).read(images.content.values())
        packed.unpack(images, get)
    assert len(asked) == 1
    assert all(np.array_equal(found[content]["16"], expected[content]["16"]) for content in expected)


def test_an_image_that_is_packed_is_read_where_its_file_is_not(tmp_path, photos):
    images = ImageSet.of(photos)
    packed = images.packed(images.ids[:2])
    (photos / "part-00.png").unlink()
    assert np.array_equal(packed.read("part-00.png"), picture(0))
    assert images.packed(["part-00.png"]).sources["part-00.png"] == b""
    assert set(packed.content) == {"part-00.png", "part-01.png"}


# Nothing listens at port 1. Ray by itself would try for a minute, and print each try.
@pytest.mark.parametrize(
    "address", ["no-such-scheme://x:1", "127.0.0.1:1", "ray://127.0.0.1:1", "no-such-host.invalid:6379"]
)
def test_a_cluster_that_is_not_there_is_refused_in_one_sentence(tmp_path, photos, address):
    pytest.importorskip("ray")
    start = time.monotonic()
    words = ("fit", photos, "--out", tmp_path / "out", "--detector", "nearest_images", "--ray", address)
    refused(call(*words), f"'{address}'", "ray start --head")
    assert time.monotonic() - start < 15


@pytest.mark.ray
def test_a_node_that_is_killed_costs_nothing_but_time(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    fill(tmp_path / "photos", 48)
    words = {"detector": detector(), "threads": 1}
    how = PurifySettings(subsets=2, repeats=2)
    here = blemish.fit(tmp_path / "photos", tmp_path / "a", cache=tmp_path / "ca", **words)
    pure = blemish.purify(tmp_path / "photos", how=how, cache=tmp_path / "ca", **words)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        results, killed = ray_tasks.in_tasks, []

        def killing(function, shared, items):
            for result in results(function, shared, items):
                if not killed:  # there is one result, others are under way on both nodes
                    cluster.remove_node(second, allow_graceful=False)
                    killed.append(second)
                yield result

        monkeypatch.setattr(store_module, "in_tasks", killing)
        there = blemish.fit(tmp_path / "photos", tmp_path / "b", cache=tmp_path / "cb", ray=cluster.address, **words)
        monkeypatch.setattr(store_module, "in_tasks", results)
        assert killed
        assert np.array_equal(here.scores.image, there.scores.image)
        assert np.array_equal(here.scores.maps, there.scores.maps)
        cluster.add_node(num_cpus=1)
        found = blemish.purify(tmp_path / "photos", how=how, cache=tmp_path / "cc", ray=cluster.address, **words)
        assert found.kept_ids == pure.kept_ids
        assert np.array_equal(found.scores, pure.scores)
        expected = blemish.score(tmp_path / "photos", tmp_path / "a", threads=1)
        scores = blemish.score(tmp_path / "photos", tmp_path / "b", ray=cluster.address)
        assert np.array_equal(scores.image, expected.image)
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_an_exported_model_stays_on_its_machine():
    from blemish.runs.exported import ExportedModel

    with pytest.raises(RequestError, match="leave out `ray`"):
        cluster.scored_in_tasks(ExportedModel(graph=lambda _: ()), ImageSet.of([picture(0)]))
