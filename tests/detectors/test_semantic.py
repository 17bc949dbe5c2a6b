"""A semantic view takes an image as one patch: for classes instead of defects."""

import numpy as np
import pytest
import torch

from blemish.detectors import detector_class
from blemish.detectors.parts.views import SEMANTIC_VIEWS, View
from blemish.features.store import GLOBALS
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from blemish.scores import Scores
from conftest import picture


def strangers() -> ImageSet:
    """Twelve pictures, and one that is nothing like them."""
    chess = np.kron(np.indices((8, 8)).sum(0) % 2, np.ones((8, 8)))[:, :, None].repeat(3, axis=2)
    return ImageSet.of([*(picture(index) for index in range(1, 13)), (255 * chess).astype(np.uint8)])


@pytest.mark.parametrize("name", ["nearest_images", "funad"])
def test_a_whole_image_of_another_kind_stands_out_and_its_map_is_one_patch(name: str, cached: object) -> None:
    settings = {"steps": 20} if name == "funad" else {}
    detector = detector_class(name)(views=SEMANTIC_VIEWS, **settings).fit(strangers())
    scores = detector.training_scores_
    assert scores.ranking()[0] == "image-000012"
    assert scores.maps.shape == (13, 1, 1)
    again: Scores = detector_class(name)(views=SEMANTIC_VIEWS, **settings).restore(detector.state()).score(strangers())
    torch.testing.assert_close(again.image, detector.score(strangers()).image)


def test_the_whole_image_is_joined_with_no_other_stage() -> None:
    with pytest.raises(RequestError, match="'globals'"):
        View(128, (GLOBALS, "16"))
