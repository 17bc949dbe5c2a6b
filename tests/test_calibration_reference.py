"""Known good images bound the false alarms, whatever their scores are like."""

import numpy as np
import pytest

from blemish.calibration import decide, false_share, images_for, p_values, promised, smallest_rate


def test_a_rate_that_so_few_images_support_is_promised_and_no_smaller_one():
    assert smallest_rate(30) == pytest.approx(0.116, abs=1e-3)
    assert images_for(smallest_rate(30)) == 30
    threshold, promise = promised(np.arange(30.0), 0.01)
    assert threshold == 29
    assert not promise.kept
    assert promise.rate == pytest.approx(smallest_rate(30))
    assert promise.expected == pytest.approx(1 / 31)
    threshold, promise = promised(np.arange(400.0), 0.05)
    assert promise.kept
    assert promise.expected < 0.05


@pytest.mark.parametrize("count", [30, 100])
def test_the_promise_holds_for_nearly_all_references(count):
    rng = np.random.default_rng(count)
    kept = []
    for _ in range(400):
        threshold, promise = promised(rng.gumbel(size=count), 0.1)
        kept.append(1 - np.exp(-np.exp(-threshold)) <= promise.rate)  # the true share above the threshold
    assert np.mean(kept) > 0.975 - 0.025


def test_the_p_value_of_a_good_image_is_even():
    rng = np.random.default_rng(0)
    found = p_values(rng.normal(size=999), rng.normal(size=5000))
    assert np.quantile(found, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.05)
    assert p_values([1.0, 2.0], np.array([9.0, 0.0])).tolist() == [1 / 3, 1.0]


def test_the_share_of_false_flags_is_bounded():
    rng = np.random.default_rng(0)
    shares, bounds = [], []
    for _ in range(100):
        reference, good, bad = rng.normal(size=200), rng.normal(size=90), rng.normal(5, 1, 10)
        new = np.concatenate([good, bad])
        bounds.append(false_share(reference, new, 2.0))
        shares.append((good > 2).sum() / (new > 2).sum())
    assert np.mean(shares) <= np.mean(bounds)
    assert np.mean(bounds) < 0.6
    assert false_share([0.0], np.zeros(5), 1.0) is None


def test_a_decision_with_known_good_images_promises_and_says_what_more_would_take():
    scores = np.random.default_rng(1).gumbel(size=80)
    normals = np.random.default_rng(2).gumbel(size=40)
    found = decide(scores, normals=normals, false_alarms=0.01)
    assert found.threshold == pytest.approx(normals.max())
    assert "368" in found.rule
    assert found.promise.images == 40
    assert len(found.reference) == 40


def test_bad_images_among_the_reference_make_it_only_more_cautious():
    good = np.random.default_rng(0).normal(size=100)
    clean, dirty = (promised(each, 0.05)[0] for each in (good, np.append(good, [8.0, 9.0])))
    assert dirty >= clean


def test_copies_of_the_folder_as_normals_have_an_answer():
    scores = np.random.default_rng(0).gumbel(size=60)
    found = decide(scores, normals=scores, false_alarms=0.05)
    assert np.isfinite(found.threshold)
    assert 0 <= found.contamination < 0.5
