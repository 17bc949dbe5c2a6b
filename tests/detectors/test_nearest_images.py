"""Images compared with the images most like them: what counts as near, what is left out, what a repeat does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from blemish.detectors.nearest_images import ImageNeighbours, NearestImages
from blemish.detectors.nearest_images.repeats import TRACED, names_share
from blemish.detectors.nearest_images.scorer import COUNTED
from blemish.detectors.parts.views import View
from blemish.features.backbones import GIVEN
from blemish.images import ANOMALOUS, NORMAL, ImageSet
from blemish.images.roi import SIDE as MASK
from blemish.machine.errors import JobError, RequestError
from blemish.machine.runtime import use_runtime

SIDE = 4  # of the grid


@pytest.fixture(autouse=True)
def one_thread(own_cache):
    with use_runtime(cache=own_cache, threads=1):
        yield


def patches(count: int = 40, width: int = 8, seed: int = 0) -> np.ndarray:
    """(N, 16, width): each place of the grid looks alike in all images, but for noise."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, 3, (1, SIDE**2, width)) + rng.normal(0, 0.3, (count, SIDE**2, width))).astype(np.float32)


def with_defect(features: np.ndarray, images: list[int], place: int = 5, kind: int = 0, noise: float = 0.05) -> None:
    """The same defect at a place of some images, but for a little noise."""
    rng = np.random.default_rng([kind, 1])
    look = rng.normal(0, 4, features.shape[2])
    for image in images:
        features[image, place] += look + rng.normal(0, noise, features.shape[2])


def fit(features: np.ndarray, groups: dict[int, str] | None = None, **settings: object) -> NearestImages:
    return NearestImages(backbone=GIVEN, **settings).fit(image_set(features, groups))


def image_set(features: np.ndarray, groups: dict[int, str] | None = None) -> ImageSet:
    images = ImageSet.of_features(features)
    named = {images.ids[at]: group for at, group in (groups or {}).items()}
    return replace(images, groups={**images.groups, **named})


def place_of(detector: NearestImages, image: int) -> float:
    """The highest place of an image's map, relative to those of images without a defect."""
    maps = detector.training_scores_.maps
    return float(maps[image].max() - np.median(maps[10:].max(axis=(1, 2))))


def neighbours(detector: NearestImages) -> ImageNeighbours:
    (found,) = detector.neighbours()
    return found


def test_a_defect_in_fewer_than_k_other_images_is_far_and_in_more_it_is_near() -> None:
    features = patches()
    with_defect(features, list(range(6)), noise=0.2)
    near, far = fit(features, k=1), fit(features, k=5)
    assert set(far.training_scores_.ranking()[:6]) == {f"image-{number:06d}" for number in range(6)}
    assert place_of(far, 0) > 3 * abs(place_of(near, 0))


def test_a_patch_has_the_mean_distance_to_the_kth_to_k_plus_third_nearest_image() -> None:
    features = patches(12)
    detector = fit(features, k=2, retrieved=11)
    scorer = neighbours(detector)
    embedded = scorer.embedding(torch.from_numpy(features))
    stored = scorer.patches[..., :8].float()
    nearest = torch.cdist(embedded[3], stored.flatten(0, 1)).view(SIDE**2, 12, SIDE**2).amin(2)
    nearest[:, 3] = torch.inf  # its own
    expected = nearest.sort(dim=1).values[:, 1:5].mean(1)
    torch.testing.assert_close(scorer.spacing[3], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("groups", [None, {0: "part", 1: "part", 2: "part"}])
def test_an_image_scored_again_has_its_training_score(groups: dict[int, str] | None) -> None:
    features = patches()
    with_defect(features, [0, 1, 2])
    detector = fit(features, groups)
    again = detector.score(image_set(features))
    np.testing.assert_allclose(again.image, detector.training_scores_.image, atol=1e-3)


def test_a_group_is_left_out_of_its_own_and_counts_once_for_others() -> None:
    features = patches(41)
    with_defect(features, [*range(6), 40], noise=0.2)
    features, new = features[:40], features[40:]
    shots = dict.fromkeys(range(6), "one part")
    apart, grouped = fit(features, k=2), fit(features, shots, k=2)
    assert place_of(grouped, 0) > 3 * abs(place_of(apart, 0))
    for detector, far in ((apart, False), (grouped, True)):  # six shots are one image for a new one, too
        score = detector.score(ImageSet.of_features(new)).image[0]
        assert (score > 3 * np.abs(detector.training_scores_.image[10:]).max()) == far


def test_copies_of_a_defect_are_one_image_for_a_new_one() -> None:
    features = patches(41)
    with_defect(features, [0, 40], noise=0.2)
    features, new = features[:40], features[40:]
    features[1:6] = features[0]
    detector = fit(features, k=2)
    assert len(neighbours(detector).patches) == 35
    score = detector.score(ImageSet.of_features(new)).image[0]
    assert score > 3 * np.abs(detector.training_scores_.image[10:]).max()


def test_defects_that_repeat_are_seen_and_found() -> None:
    features = patches(80)
    for kind in range(4):
        with_defect(features, list(range(4 * kind, 4 * kind + 4)), place=3 * kind, kind=kind)
    detector = fit(features)
    assert detector.k_ == 5
    assert "Defects seem to repeat in about 4 images each" in detector.findings[0]
    assert set(detector.training_scores_.ranking()[:16]) == {f"image-{number:06d}" for number in range(16)}
    assert fit(features, k=2).k_ == 2
    restored = NearestImages(backbone=GIVEN).restore(detector.state())
    assert (restored.k_, restored.repeats_) == (5, 4)


@pytest.mark.parametrize("times", [6, 8, 12])
def test_defects_that_repeat_often_take_as_many_images_as_are_traced(times: int) -> None:
    features = patches(120)
    for kind in range(3):
        with_defect(features, list(range(times * kind, times * (kind + 1))), place=3 * kind, kind=kind)
    detector = fit(features)
    assert 2 <= detector.k_ <= TRACED - COUNTED + 1
    assert np.isfinite(detector.training_scores_.image).all()
    if times < 8:  # the eighth image is far: they stand out, and are found
        assert detector.k_ == times + 1
        assert set(detector.training_scores_.ranking()[: 3 * times]) == {f"image-{n:06d}" for n in range(3 * times)}


def test_defects_that_do_not_repeat_leave_k_alone() -> None:
    features = patches(80)
    for image in range(16):
        with_defect(features, [image], place=image, kind=image)
    detector = fit(features)
    assert (detector.k_, detector.repeats_) == (2, 1)
    assert not any("repeat" in finding for finding in detector.findings)


def test_parts_that_lie_as_few_others_do_are_no_defects_that_repeat() -> None:
    features = patches(80)
    for pose in range(4):  # four images each, all of whose places are far from those of further images
        away = np.random.default_rng(pose).normal(size=features.shape[1:])
        features[4 * pose : 4 * pose + 4] += 4 * away / np.linalg.norm(away, axis=1, keepdims=True)
    assert fit(features).k_ == 2


def test_only_large_folders_are_decided_by_the_farthest_image_too() -> None:
    features = patches(220)
    with_defect(features, range(6))
    detector = fit(features)
    ids = detector.training_scores_.ids
    farther = detector.stricter_scores(ids)
    assert farther.shape == (220,)
    assert farther[:6].min() > farther[6:].max(), "it is in six images, and not in the eighth"
    assert (detector.stricter_scores(ids[3:5]) == farther[3:5]).all()
    assert fit(features[:190]).stricter_scores(ids).size == 0


@pytest.mark.parametrize("others", [10, 15])
def test_a_group_of_most_images_leaves_scores_that_are_numbers(others: int) -> None:
    """A decision by the farthest image takes as many others as are traced."""
    names = [f"{'burst' if number >= others else number}-{number}.png" for number in range(220)]
    images = ImageSet.of_features(patches(220), ids=names)
    detector = NearestImages(backbone=GIVEN).fit(images.grouped("burst"))
    assert np.isfinite(detector.training_scores_.image).all()
    farther = detector.stricter_scores(images.ids)
    assert farther.size == (220 if others >= TRACED else 0)
    assert np.isfinite(farther).all()


def test_one_known_good_image_is_enough_and_a_known_bad_one_gives_nothing() -> None:
    features = patches()
    with_defect(features, [0, 1])
    images = ImageSet.of_features(features)
    labels = {label: {images.ids[1]: label} for label in (NORMAL, ANOMALOUS)}
    free, good, bad = (
        NearestImages(backbone=GIVEN, k=1 if said == ANOMALOUS else 2).fit(replace(images, labels=labels.get(said, {})))
        for said in (None, NORMAL, ANOMALOUS)
    )
    assert place_of(free, 0) > 3
    assert place_of(good, 0) < place_of(free, 0) / 5
    assert place_of(bad, 0) > 3, "though one image is enough with k = 1"


def test_what_is_not_valid_is_compared_with_by_nobody(tmp_path) -> None:
    """Padding of a wide image among square ones: in its own image and in others."""
    rng = np.random.default_rng(0)
    square = [rng.integers(90, 110, (64, 64, 3), dtype=np.uint8) for _ in range(10)]
    wide = [rng.integers(90, 110, (32, 64, 3), dtype=np.uint8) for _ in range(2)]
    view = (View(64, ("8",), rooted=False),)
    detector = NearestImages(backbone="efficientnet_lite0", views=view, turned=0).fit(ImageSet.of([*square, *wide]))
    scorer = neighbours(detector)
    assert scorer.halves.isinf().sum(1).tolist() == [0] * 10 + [32] * 2
    assert np.isfinite(detector.training_scores_.image).all()


@pytest.mark.parametrize("count", [8, 9, 12])
def test_few_images_are_enough(count: int) -> None:
    features = patches(count)
    with_defect(features, [2])
    detector = fit(features)
    assert detector.training_scores_.ranking()[0] == "image-000002"
    assert neighbours(detector).retrieved == count - 1


def test_copies_of_two_originals_are_too_few_and_k_beyond_the_groups_takes_what_there_is() -> None:
    with pytest.raises(RequestError, match="2 of different content"):
        fit(np.repeat(patches(2), 10, axis=0))
    features = patches(12)
    with_defect(features, [0])
    assert fit(features, k=18).training_scores_.ranking()[0] == "image-000000"


def test_a_group_that_holds_most_images_is_compared_with_the_others_alone() -> None:
    features = patches(40)
    with_defect(features, [35])
    detector = fit(features, dict.fromkeys(range(30), "one part"))
    assert neighbours(detector).retrieved == 10
    assert np.isfinite(detector.training_scores_.image).all()
    assert detector.training_scores_.ranking()[0] == "image-000035"


def test_a_constant_background_does_not_drown_a_defect() -> None:
    """Turned parts on black: most patches have no distance at all."""
    rng = np.random.default_rng(0)
    features = np.zeros((60, SIDE**2, 8), np.float32)
    features[:, 5:9] = patches(60)[:, 5:9] + rng.normal(0, 1, (60, 4, 8))
    with_defect(features, [0, 1, 2], place=6, noise=2.0)
    scores = fit(features).training_scores_
    assert np.isfinite(scores.image).all()
    assert roc_auc_score(np.arange(60) < 3, scores.image) > 0.95


def test_features_that_are_no_numbers_are_named() -> None:
    features = patches(12)
    features[4, 3, 2] = np.nan
    with pytest.raises((JobError, RequestError), match=r"image-000004|finite"):
        fit(features)


def test_near_copies_are_named_with_the_way_out() -> None:
    features = patches(40)
    features[1:3] = features[0] + np.random.default_rng(1).normal(0, 0.02, (2, SIDE**2, 8))
    detector = fit(features)
    (found,) = [finding for finding in detector.findings if "nearly alike" in finding]
    assert found.startswith("3 images look nearly alike, such as 'image-000000', 'image-000001', 'image")
    assert "group_regex" not in found, "their names begin as those of other images do"
    grouped = fit(features, dict.fromkeys(range(3), "one part"))
    assert not any("nearly alike" in finding for finding in grouped.findings)


def test_a_pattern_for_names_is_advised_where_they_tell_near_copies_from_the_rest() -> None:
    shots = (("p-05-a.png", "p-05-b.png"), ("p-07-a.png", "p-07-b.png"))
    others = tuple(f"p-{part:02d}-a.png" for part in range(10, 40))
    assert names_share(shots, (*others, *shots[0], *shots[1])) == "p-05-"
    assert names_share(shots, (*others, *shots[0], *shots[1], "p-05-c.png")) == "p-05-"
    assert names_share((("p-07-a.png", "p-16-a.png"),), (*others, "p-07-a.png")) == ""
    assert names_share((("p-05-a.png", "p-05-b.png"), *zip(others[::2], others[1::2], strict=True)), others) == ""
    assert names_share((("000.png", "012.png"),), ("000.png", "012.png", "100.png")) == "", (
        "a number that only begins alike"
    )


def test_memory_is_bounded_by_images_and_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.detectors.nearest_images.detector.MOST_IMAGES", 20)
    for module in ("detector", "scorer"):
        monkeypatch.setattr(f"blemish.detectors.nearest_images.{module}.MOST_PATCHES", 10)
    features = np.random.default_rng(0).normal(0, 0.3, (50, SIDE**2, 8)).astype(np.float32)  # no place has its own look
    with_defect(features, [3])
    detector = fit(features)
    assert neighbours(detector).patches.shape == (20, 10, 8)
    scores = detector.training_scores_
    assert scores.ranking()[0] == "image-000003"
    again = detector.score(ImageSet.of_features(features))  # those not compared with are as new ones
    np.testing.assert_allclose(again.image, scores.image, rtol=1e-4)


@pytest.mark.parametrize(("settings", "said"), [
    ({"k": -1}, "'k' must be at least 0; got -1"),
    ({"retrieved": 0}, "'retrieved' must be at least 1; got 0"),
    ({"k": 40}, "'k' must be at most 'retrieved', which is 24; got 40"),
])  # fmt: skip
def test_wrong_settings_are_named(settings: dict[str, int], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        NearestImages(**settings)
    with pytest.raises(RequestError, match="between 64 and 2048; got 32"):
        NearestImages(pixels=32)


def drawn_on(images: ImageSet, image: int, *places: int) -> ImageSet:
    """The images, one of them labelled bad, with places of it drawn as the defect."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask.flat[list(places)] = True
    cells = np.packbits(mask.repeat(MASK // SIDE, 0).repeat(MASK // SIDE, 1)).tobytes()
    return replace(images, labels={images.ids[image]: ANOMALOUS}, defects={images.ids[image]: cells} if places else {})


def test_a_drawn_defect_raises_the_same_kind_elsewhere_and_nothing_else() -> None:
    features = patches(60)
    with_defect(features, [0], place=5)
    with_defect(features, [1, 2])  # of the same kind
    with_defect(features, [3], kind=1)
    images = image_set(features)
    plain = NearestImages(backbone=GIVEN).fit(drawn_on(images, 0))
    taught = NearestImages(backbone=GIVEN).fit(drawn_on(images, 0, 4, 5, 6))  # wider than the defect
    before, after = plain.training_scores_.maps, taught.training_scores_.maps
    row, column = divmod(5, SIDE)
    for image in (1, 2):
        assert after[image, row, column] > 1.5 * before[image, row, column]
    assert after[3, row, column] == pytest.approx(before[3, row, column], rel=0.1)
    change = np.abs(np.delete((after - before).reshape(60, -1), 5, axis=1))  # in deviations
    assert change.max() < 0.1 * (after - before)[1, row, column]
    assert np.median(change) < 0.1

    new = patches(63)[60:]
    with_defect(new, [0])
    found = [each.score(ImageSet.of_features(new)).maps for each in (plain, taught)]
    assert found[1][0, row, column] > 1.5 * found[0][0, row, column]
    again = NearestImages(backbone=GIVEN).restore(taught.state())
    assert again.score(ImageSet.of_features(new)).maps.tolist() == found[1].tolist()


def test_of_a_bad_image_only_what_was_drawn_is_left_out() -> None:
    features = patches(30)
    with_defect(features, [0])
    images = image_set(features)
    left_out = neighbours(NearestImages(backbone=GIVEN).fit(drawn_on(images, 0)))
    taught = neighbours(NearestImages(backbone=GIVEN).fit(drawn_on(images, 0, 5)))
    assert (len(left_out.patches), len(taught.patches)) == (29, 30)
    assert taught.halves[0].isneginf().nonzero().flatten().tolist() == [5]  # near nothing
    whole = neighbours(NearestImages(backbone=GIVEN).fit(drawn_on(images, 0, *range(SIDE**2))))
    assert len(whole.patches) == 29
    assert whole.defects is None


def test_a_drawn_place_that_looks_ordinary_teaches_nothing() -> None:
    features = patches(30)
    with_defect(features, [0])
    taught = neighbours(NearestImages(backbone=GIVEN).fit(drawn_on(image_set(features), 0, 5, 6, 7, 8)))
    assert taught.defects is not None
    assert taught.defects.shape == (1, 8)
    assert neighbours(NearestImages(backbone=GIVEN).fit(drawn_on(image_set(features), 0, 8))).defects is None


def bracket(index: int, quarters: int) -> np.ndarray:
    """An L of uint8 RGB (96, 96, 3) under a little noise; the first one has a dark spot."""
    rng = np.random.default_rng(index)
    pixels = np.full((96, 96, 3), 60.0)
    pixels[16:80, 16:32] = pixels[64:80, 16:72] = 200
    if index == 0:
        pixels[34:46, 18:30] = 20
    return (
        np.ascontiguousarray(np.rot90(pixels + rng.normal(0, 6, pixels.shape), quarters)).clip(0, 255).astype(np.uint8)
    )


def test_parts_that_lie_at_any_angle_are_compared_with_the_others_turned():
    any_angle = ImageSet.of([bracket(index, index % 4) for index in range(12)])
    as_they_are, found = NearestImages(turned=0).fit(any_angle), NearestImages().fit(any_angle)
    assert found.at_any_angle_
    assert not as_they_are.at_any_angle_
    assert found.training_scores_.ids == any_angle.ids
    assert found.training_scores_.ranking()[0] == "image-000000"
    assert "turned" in found.findings[0]
    turned = found.score(ImageSet.of([bracket(20, 1), bracket(0, 2)])).image
    assert turned[1] > 3 > turned[0]


def test_parts_that_lie_alike_are_not_turned_and_neither_are_those_of_large_folders():
    alike = [bracket(index, 0) for index in range(12)]
    assert not NearestImages().fit(ImageSet.of(alike)).at_any_angle_
    any_angle = ImageSet.of([bracket(index, index % 4) for index in range(12)])
    assert not NearestImages(turned=11).fit(any_angle).at_any_angle_


def test_images_known_to_be_good_do_not_shape_the_embedding():
    features = patches(count=70)
    images = image_set(features)
    good = replace(images, labels=dict.fromkeys(images.ids[:30], NORMAL))
    embedding = neighbours(NearestImages(backbone=GIVEN).fit(good)).embedding
    alone = neighbours(NearestImages(backbone=GIVEN).fit(images.subset(images.ids[30:]))).embedding
    assert torch.allclose(embedding.mean, alone.mean, atol=1e-5)
    few = replace(images, labels=dict.fromkeys(images.ids[:41], NORMAL))  # 29 others are too few
    whole = neighbours(NearestImages(backbone=GIVEN).fit(images)).embedding
    assert torch.allclose(neighbours(NearestImages(backbone=GIVEN).fit(few)).embedding.mean, whole.mean, atol=1e-5)
    assert not torch.allclose(embedding.mean, whole.mean, atol=1e-5)
    shots = replace(good, groups={name: str(at // 4) for at, name in enumerate(good.ids)})  # 10 groups of others
    assert not torch.allclose(
        neighbours(NearestImages(backbone=GIVEN).fit(shots)).embedding.mean, alone.mean, atol=1e-5
    )
