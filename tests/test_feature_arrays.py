"""Features from a file or an array: where the class token is has to be named; what is wrong is one sentence."""

import numpy as np
import pytest

from blemish import ImageSet
from blemish.features import FeatureSpec, features_of
from blemish.features.backbones import GIVEN
from blemish.images.feature_arrays import parsed_grid, read_ids
from blemish.machine.errors import RequestError, UnreadableImageError

SPEC = FeatureSpec(GIVEN, 1, ("1",))


def features(count=6, patches=9, width=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, patches, width)).astype(np.float32)


def whole(count=6, width=4, seed=1):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def only_batch(images):
    (batch,) = features_of(images, SPEC).batches()
    return batch


def test_the_three_layouts_of_one_set_are_the_same_features():
    patches, class_token = features(), whole()
    repeated = np.concatenate([np.repeat(class_token[:, None], 9, axis=1), patches], axis=2)
    first = np.concatenate([class_token[:, None], patches], axis=1)
    for array, place in ((repeated, "repeated"), (first, "first")):
        batch = only_batch(ImageSet.of_features(array, class_token=place))
        np.testing.assert_array_equal(batch.stages["1"].numpy(), patches.reshape(6, 3, 3, 4))
        np.testing.assert_array_equal(batch.globals.numpy(), class_token)
    batch = only_batch(ImageSet.of_features(patches))
    np.testing.assert_array_equal(batch.stages["1"].numpy(), patches.reshape(6, 3, 3, 4))
    np.testing.assert_allclose(batch.globals.numpy(), patches.mean(axis=1), rtol=1e-5)


def test_one_feature_an_image_is_a_grid_of_one_patch():
    for array in (whole(), whole()[:, None]):
        batch = only_batch(ImageSet.of_features(array))
        assert batch.stages["1"].shape == (6, 1, 1, 4)
        np.testing.assert_array_equal(batch.globals.numpy(), whole())


def test_a_grid_that_is_no_square_is_told():
    batch = only_batch(ImageSet.of_features(features(patches=8), grid=(2, 4)))
    assert batch.stages["1"].shape == (6, 2, 4, 4)
    batch = only_batch(ImageSet.of_features(features(patches=9), grid=(2, 4), class_token="first"))
    np.testing.assert_array_equal(batch.globals.numpy(), features(patches=9)[:, 0])


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_files_stay_on_disk_and_give_what_arrays_give(tmp_path, kind):
    array = features().astype(kind)
    np.save(tmp_path / "f.npy", array)
    images = ImageSet.of_features(tmp_path / "f.npy", ids=[f"{n}.png" for n in range(6)])
    assert isinstance(images.sources["3.png"].tokens, np.memmap)
    np.testing.assert_array_equal(only_batch(images).stages["1"].numpy().reshape(6, 9, 4), array.astype(np.float32))


def test_ids_keep_their_rows_whatever_their_order():
    images = ImageSet.of_features(whole(3), ids=["c", "a", "b"])
    assert images.ids == ("a", "b", "c")
    np.testing.assert_array_equal(only_batch(images).globals.numpy(), whole(3)[[1, 2, 0]])
    np.testing.assert_array_equal(only_batch(images.subset(["c"])).globals.numpy(), whole(3)[:1])


def test_without_ids_images_have_numbers_and_equal_features_are_one_group():
    array = features()
    array[4] = array[1]
    images = ImageSet.of_features(array)
    assert images.ids[4] == "image-000004"
    assert images.groups["image-000004"] == images.groups["image-000001"]
    assert len(set(images.groups.values())) == 5


def test_asked_for_pixels_it_says_that_there_are_features_alone():
    images = ImageSet.of_features(features())
    with pytest.raises(RequestError, match="give the images"):
        next(images.images())
    with pytest.raises(UnreadableImageError, match="features"):
        images.read("image-000000")
    with pytest.raises(RequestError, match=r"'efficientnet_lite2'.*'given'"):
        features_of(images, FeatureSpec())


def test_features_of_another_byte_order_are_the_same_and_ids_are_texts():
    array = features()
    ours, other = (only_batch(ImageSet.of_features(each)).stages["1"] for each in (array, array.astype(">f4")))
    np.testing.assert_array_equal(ours.numpy(), other.numpy())
    with pytest.raises(RequestError, match="got 0, of type int"):
        ImageSet.of_features(array, ids=list(range(6)))


def test_images_are_no_feature_arrays():
    images = ImageSet.of([np.zeros((20, 20, 3), np.uint8)])
    with pytest.raises(RequestError, match="of_features"):
        features_of(images, SPEC)


def test_features_of_another_shape_than_those_learned_from_are_refused():
    learned = SPEC.resolved(ImageSet.of_features(features()))
    with pytest.raises(RequestError, match=r"are 3x3 patches of width 5 .*before them 3x3 patches of width 4"):
        features_of(ImageSet.of_features(features(width=5)), learned)
    with pytest.raises(RequestError, match=r"are 2x2 patches of width 4 with a global vector of 4"):
        features_of(ImageSet.of_features(features(patches=4)), learned)


def with_value(value):
    array = features()
    array[3, 2, 1] = value
    return array


@pytest.mark.parametrize(
    ("array", "settings", "message"),
    [
        (with_value(np.nan), {}, "holds a value that is no finite number, at 'image-000003'"),
        (with_value(-np.inf), {}, "no finite number, at 'image-000003'"),
        (with_value(2e9), {}, r"2e\+09 in size, at 'image-000003'; .* at most 1e\+06"),
        (features(), {"ids": ["a", "b"]}, "2 ids for the 6 images"),
        (features(), {"ids": ["a", "b", "a", "c", "d", "e"]}, "id 'a' occurs twice"),
        (features(), {"ids": ["a", "b", "", "c", "d", "e"]}, "id '' occurs twice or is empty"),
        (features(patches=14), {}, r"has 14 patches an image, which is no square; .*`grid`"),
        (features(patches=14), {"grid": (3, 4)}, "has 14 patches an image, and `grid` is 3x4"),
        (features(), {"class_token": "first"}, "8 patches an image beside the class token, which is no square"),
        (features(), {"class_token": "repeated"}, "first halves of the patches of 'image-000000' .* not equal"),
        (features(), {"class_token": "last"}, "`class_token` is none, first, repeated; got 'last'"),
        (features().astype(np.int64), {}, r"is int64 of shape \(6, 9, 4\); features are floats"),
        (np.zeros(5), {}, r"float64 of shape \(5,\)"),
        (np.zeros((2, 0, 3)), {}, r"of shape \(2, 0, 3\)"),
        (np.array([["a"]], dtype=object), {}, "is object"),
    ],
)
def test_what_is_wrong_is_one_sentence(array, settings, message):
    with pytest.raises(RequestError, match=message) as caught:
        ImageSet.of_features(array, **settings)
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_features_are_named(tmp_path):
    (tmp_path / "text.npy").write_text("no array")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "several.npz", a=features())
    for name, message in (
        ("none.npy", "do not exist"),
        ("text.npy", "cannot be read"),
        ("pickled.npy", "cannot be read"),
        ("several.npz", "several arrays"),
    ):
        with pytest.raises(RequestError, match=message):
            ImageSet.of_features(tmp_path / name)


def test_ids_are_read_from_lines_or_a_column(tmp_path):
    (tmp_path / "ids.txt").write_text("b.png\na.png\n\n")
    (tmp_path / "ids.csv").write_text("label,id\n0,b.png\n1,a.png\n")
    (tmp_path / "plain.csv").write_text("b.png\na.png\n")
    for name in ("ids.txt", "ids.csv", "plain.csv"):
        assert read_ids(tmp_path / name) == ["b.png", "a.png"]
    with pytest.raises(RequestError, match=r"ids '.*none.txt' cannot be read"):
        read_ids(tmp_path / "none.txt")


def test_a_grid_is_rows_by_columns():
    assert parsed_grid("28x30") == (28, 30)
    for text in ("28", "0x3", "axb", "2x3x4", "-1x2"):
        with pytest.raises(RequestError, match="ROWSxCOLUMNS"):
            parsed_grid(text)
