"""Every detector on features takes those that were given, one a patch or one an image."""

import numpy as np
import pytest
import safetensors.torch

import blemish
from blemish.detectors import BUILT_IN, FeatureDetector, detector_class
from blemish.detectors.one_class import OneClass
from blemish.features.backbones import GIVEN
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime

QUICK = {"steps": 20, "batch": 64, "noise_batch": 16, "bank_entries": 100}
ON_FEATURES = [name for name in BUILT_IN if issubclass(detector_class(name), FeatureDetector)]
BAD = ("image-000003", "image-000011")
every_detector = pytest.mark.parametrize("name", ON_FEATURES)


@pytest.fixture(autouse=True)
def one_thread(own_cache):
    with use_runtime(cache=own_cache, threads=1):
        yield


def make(name: str) -> FeatureDetector:
    kind = detector_class(name)
    known = kind().settings()
    quick = {**QUICK, "steps": 300} if name == "simplenet" else QUICK  # it starts from nothing
    return kind(backbone=GIVEN, **{key: value for key, value in quick.items() if key in known})


def array(count: int = 30, patches: int = 16, bad: bool = True, seed: int = 0) -> np.ndarray:
    """(N, P, 8) about 0; of the bad images the last patch lies elsewhere."""
    found = np.random.default_rng(seed).normal(size=(count, patches, 8)).astype(np.float32)
    if bad:
        found[[3, 11], -1] += 9
    return found


@every_detector
@pytest.mark.parametrize("patches", [16, 1], ids=["patches", "one an image"])
def test_the_images_that_differ_rank_highest_and_a_restored_detector_agrees(name: str, patches: int) -> None:
    # a detector for clean images learns from those, and new ones have the bad among them
    one_class = issubclass(detector_class(name), OneClass)
    images = ImageSet.of_features(array(patches=patches))
    fitted = make(name).fit(ImageSet.of_features(array(patches=patches, bad=False, seed=2)) if one_class else images)
    scores = fitted.score(images) if one_class else fitted.training_scores_
    assert set(scores.ranking()[:2]) == set(BAD)
    assert scores.maps.shape == (30, *images.feature_arrays()[BAD[0]].grid)
    fresh = ImageSet.of_features(array(5, patches, bad=False, seed=1))
    before = fitted.score(fresh)
    assert before.image.max() < scores[BAD[0]]
    restored = make(name).restore(safetensors.torch.load(safetensors.torch.save(fitted.state())))
    np.testing.assert_array_equal(restored.score(fresh).image, before.image)
    with pytest.raises(RequestError, match="are 2x2 patches of width 8"):
        restored.score(ImageSet.of_features(array(5, 4, bad=False)))


@every_detector
def test_features_that_are_all_equal_give_scores_that_are_all_equal(name: str) -> None:
    equal = np.full((12, 16, 8), 0.5, np.float32)
    with pytest.raises(RequestError, match="1 of different content, 12 files"):
        make(name).fit(ImageSet.of_features(equal))
    equal[:, :, 0] = np.arange(12)[:, None]  # each image of one feature throughout
    scores = make(name).fit(ImageSet.of_features(equal)).training_scores_
    assert np.isfinite(scores.image).all()
    assert np.isfinite(scores.maps).all()


def test_the_published_preset_takes_features_from_a_file(tmp_path) -> None:
    small = {"epochs": 1, "batch": 8, "width": 8, "hidden": 8, "narrow": 4}
    images = ImageSet.of_features(array(12))
    run = blemish.fit(images, tmp_path / "run", detector="funad", preset="paper", settings=small)
    assert np.isfinite(run.scores.image).all()
    with pytest.raises(RequestError, match="leave out the backbone 'dino_vits8'"):
        blemish.fit(images, tmp_path / "other", detector="funad", settings={"backbone": "dino_vits8"})


def test_defects_cannot_be_drawn_on_features() -> None:
    with pytest.raises(RequestError, match="leave 'synthetic' out"):
        detector_class("funad")(backbone=GIVEN, synthetic=0.1).fit(ImageSet.of_features(array(12)))
