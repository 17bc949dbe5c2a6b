"""What a person said reaches the Local-Net: the defect of an image called bad, all of one called good."""

import numpy as np
import pytest
import torch

from blemish.detectors.funad.pool import KNOWN_BAD, OfPatches, Pool
from blemish.detectors.funad.schedule import Schedule
from blemish.features import features_of
from blemish.images import ANOMALOUS, NORMAL, UNKNOWN


def pool(given):
    count = len(given)
    return Pool(
        torch.zeros(count, 2), torch.arange(count) // 10, torch.arange(count) % 10, torch.tensor(given),
        torch.zeros(count // 10, 0), torch.arange(count // 10), torch.zeros(count // 10, dtype=torch.bool),
        distances=torch.linspace(0, 1, count), image_scores=torch.zeros(count // 10),
    )  # fmt: skip


def share_of_known(given, schedule):
    batches = OfPatches(pool(given), schedule)
    rng = torch.Generator().manual_seed(0)
    rows = torch.cat([batches.rows(rng) for _ in range(50)])
    return float((torch.tensor(given)[rows] == ANOMALOUS).float().mean())


def test_a_handful_of_known_defects_is_drawn_often_among_thousands_of_patches():
    given = np.full(5000, UNKNOWN)
    given[:4] = ANOMALOUS  # near the banks: nothing else would draw them
    schedule = Schedule()
    assert schedule.hard_share > 0
    assert share_of_known(given.tolist(), schedule) > 7 * 4 / 5000  # all four in each minibatch, nearly
    assert share_of_known(np.full(5000, NORMAL).tolist(), schedule) == 0


@pytest.mark.parametrize("said", [ANOMALOUS, NORMAL])
def test_the_farthest_patches_of_a_bad_image_and_all_of_a_good_one_are_labelled(said, photos, cached):
    from dataclasses import replace

    from blemish.detectors import detector_class
    from blemish.detectors.funad.pool import pool_of
    from blemish.detectors.parts.views import ViewFeatures
    from blemish.images import ImageSet

    kind = detector_class("nearest_images")
    detector = kind()
    images = detector.prepare(replace(ImageSet.of(photos), labels={"part-02.png": said}))
    features = ViewFeatures(detector.views[0], features_of(images, detector.feature_specs()[0].resolved(images)))
    height, width = features.grid
    distances = torch.rand(len(images), height, width, generator=torch.Generator().manual_seed(0))
    found = pool_of(features, 0, 0, distances, distances.amax((1, 2)))
    mine = found.owners == 2
    if said == NORMAL:
        assert (found.known_labels[mine] == NORMAL).all()
    else:
        assert int((found.known_labels[mine] == ANOMALOUS).sum()) == KNOWN_BAD
        least = found.distances[mine & (found.known_labels == ANOMALOUS)].min()
        assert (found.distances[mine & (found.known_labels == UNKNOWN)] <= least).all()
    assert (found.known_labels[~mine] == UNKNOWN).all()
    assert bool(found.barred[2]) == (said == ANOMALOUS)
