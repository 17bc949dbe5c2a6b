"""Which images are alike, and which the page proposes."""

import numpy as np

from blemish.images import NORMAL, UNKNOWN
from blemish.review.ranking import describe, propose
from blemish.review.thumbnails import SIDE, alike
from blemish.scores import Scores


def prints(count=30):
    """Parts of one product: alike but for what is their own, and the light of the moment."""
    rng = np.random.default_rng(0)
    product = 120 + 60 * np.sin(np.arange(SIDE) / 3)
    own = rng.normal(0, 8, (count, SIDE, SIDE))
    return (product + own + rng.normal(0, 3, (count, 1, 1))).clip(0, 255)


def test_parts_of_one_product_are_not_alike_but_two_shots_of_a_part_are():
    seen = prints()
    rng = np.random.default_rng(1)
    seen[7] = (seen[3] + 10 + rng.normal(0, 0.5, (SIDE, SIDE))).clip(0, 255)  # brighter, other noise
    groups = alike(seen.astype(np.uint8), [str(row) for row in range(30)])
    assert groups[7] == groups[3] == 3
    assert len(set(groups.tolist())) == 29


def test_equal_content_is_one_group_whatever_the_picture():
    groups = alike(np.zeros((3, SIDE, SIDE), np.uint8), ["a", "b", "a"])
    assert groups.tolist() == [0, 1, 0]


def proposals(count, labels=None, groups=None, described=None):
    scores = np.linspace(5, -2, 40).astype(np.float32)
    chance = 1 / (1 + np.exp(-2 * (scores - 2)))
    described = np.eye(40) if described is None else described
    labels = np.full(40, UNKNOWN) if labels is None else labels
    return propose(scores, chance, 2.0, labels, described, np.arange(40) if groups is None else groups, count), scores


def test_what_is_open_is_proposed_before_what_scores_highest():
    rows, scores = proposals(5)
    assert all(abs(scores[row] - 2) < 1 for row in rows)
    assert 0 not in rows
    assert len(set(rows)) == 5


def test_ten_pictures_of_one_thing_are_not_proposed_and_reviewed_ones_never():
    described = np.eye(40)
    described[10:25] = described[10]  # all that is open looks the same
    rows, _ = proposals(4, described=described)
    assert sum(10 <= row < 25 for row in rows) < 3
    labels = np.full(40, UNKNOWN)
    labels[rows] = NORMAL
    again, _ = proposals(4, labels=labels, described=described)
    assert not set(again) & set(rows)


def test_one_of_a_group_is_enough_and_an_end_is_an_end():
    rows, _ = proposals(10, groups=np.arange(40) // 10)
    assert len(rows) == 4
    assert proposals(5, labels=np.full(40, NORMAL))[0] == []


def test_maps_are_described_by_where_they_stand_out():
    maps = np.zeros((4, 16, 16), np.float32)
    maps[0, :4, :4] = maps[1, :4, :3] = maps[2, 12:, 12:] = 5
    scores = Scores(("a", "b", "c", "d"), np.zeros(4, np.float32), maps, np.tile([0, 0, 1, 1], (4, 1)), np.ones((4, 2)))
    found = describe(scores)
    assert found[0] @ found[1] > 0.8
    assert found[0] @ found[2] < 0.1
    assert np.isfinite(found).all()
