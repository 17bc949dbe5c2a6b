"""From pixels to features: aspect kept, the same numbers in any company, and a graph that can be exported."""

import numpy as np
import pytest
import torch

from blemish.features import features_of
from blemish.features.extract import FeatureSpec, box_in_grid, letterbox
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from conftest import picture

SPEC = FeatureSpec("efficientnet_lite0", 64, ("16", "32"), (64, 64))
pytestmark = pytest.mark.usefixtures("cached")


def test_a_disc_stays_round_and_lies_in_its_box():
    rows, columns = np.mgrid[:90, :180]
    disc = ((rows - 45) ** 2 + (columns - 90) ** 2 < 30**2).astype(np.uint8) * 255
    boxed = letterbox(torch.from_numpy(disc).expand(1, 3, -1, -1), (128, 128))[0, 0]
    high = boxed > 127
    height, width = int(high.any(1).sum()), int(high.any(0).sum())
    assert abs(height - width) <= 1
    left, top, right, bottom = box_in_grid((180, 90), (128, 128))
    assert (left, right) == (0, 1)
    assert (bottom - top) * 128 == pytest.approx(64, abs=1)
    middle = float(high.any(1).nonzero().float().mean() + 0.5) / 128
    assert middle == pytest.approx((top + bottom) / 2, abs=0.01)


@pytest.mark.parametrize("size", [(64, 64), (200, 100), (100, 200), (1000, 20), (20, 1000), (97, 33)])
def test_the_box_is_where_the_image_is(size):
    width, height = size
    image = torch.arange(3 * height * width).reshape(1, 3, height, width).remainder(251).to(torch.uint8)
    boxed = letterbox(image, (96, 160))
    assert boxed.shape == (1, 3, 96, 160)
    assert 0 <= float(boxed.min()) <= float(boxed.max()) <= 255
    left, top, right, bottom = (
        round(v * side) for v, side in zip(box_in_grid(size, (96, 160)), (160, 96) * 2, strict=True)
    )
    assert 0 <= left < right <= 160
    assert 0 <= top < bottom <= 96
    # the padding repeats the edge of the box
    assert torch.equal(boxed[..., :left], boxed[..., left : left + 1].expand(-1, -1, -1, left))
    assert torch.equal(boxed[..., :top, :], boxed[..., top : top + 1, :].expand(-1, -1, top, -1))


def test_the_working_size_follows_the_median_shape():
    images = ImageSet.of([np.zeros((50, 100, 3), np.uint8)] * 3 + [np.zeros((90, 30, 3), np.uint8)])
    height, width = FeatureSpec(pixels=128).resolved(images).size
    assert (height % 32, width % 32) == (0, 0)
    assert width == 2 * height
    assert height * width == pytest.approx(128**2, rel=0.3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pixels": 7}, "'pixels' of features must be between 64 and 2048; got 7"),
        ({"stages": ("5",)}, r"'stages' of efficientnet_lite2 are 4, 8, .*got \('5',\)"),
        ({"stages": ()}, "'stages'"),
        ({"backbone": "efficientnet_light2"}, "did you mean"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(RequestError, match=message):
        FeatureSpec(**settings)


def test_features_depend_on_nothing_but_the_image():
    arrays = [picture(index) for index in range(5)]

    def features(chosen, threads):
        with use_runtime(threads=threads, keep_features=False):
            batch = next(features_of(ImageSet.of(chosen), SPEC).batches())
        return batch.globals, batch.stages["16"], batch.stages["32"]

    alone = features(arrays[3:4], 1)
    for company, threads in ((arrays, 1), (arrays, 2), (arrays, 3)):
        assert all(torch.equal(part[3], own[0]) for part, own in zip(features(company, threads), alone, strict=True))
