"""One model decides: what it says agrees with itself, finds what is there, and has an answer for anything."""

import json

import numpy as np
import pytest

from blemish.calibration import (
    CLEAN,
    DEFECTS,
    UNCLEAR,
    Chance,
    Decision,
    at_contamination,
    at_sensitivity,
    at_threshold,
    check,
    decide,
    reliability,
    two_groups,
)
from blemish.calibration.posterior import Stretch
from blemish.images import ANOMALOUS, NORMAL, UNKNOWN
from blemish.machine.errors import RequestError


def folder(good, bad, seed=0, distance=8.0):
    """Scores as those of a high number among many, `bad` of them further out, and the truth."""
    rng = np.random.default_rng(seed)
    scores = np.concatenate([-np.log(rng.gamma(3, size=good) / 3), rng.lognormal(np.log(distance), 0.4, bad)])
    return scores.astype(np.float32), np.repeat([NORMAL, ANOMALOUS], [good, bad])


def f1(scores, truth, threshold):
    flags, bad = scores > threshold, truth == ANOMALOUS
    return 2 * (flags & bad).sum() / (flags.sum() + bad.sum())


CASES = {
    "clear": folder(180, 20)[0],
    "overlapping": folder(320, 80, 1, 3.0)[0],
    "clean": folder(200, 0, 2)[0],
    "small": folder(11, 1, 3)[0],
    "eight": np.arange(8, dtype=np.float32),
    "two clusters of equal size": np.repeat([0, 10], 20).astype(np.float32) + folder(40, 0)[0] / 20,
    "two values": np.repeat([1, 2], 20).astype(np.float32),
    "half bad": folder(50, 50, 4, 12.0)[0],
    "one extreme": np.append(folder(60, 0, 5)[0], np.float32(1e6)),
    "large": folder(5000, 300, 6)[0],
}


@pytest.fixture(scope="module")
def decisions():
    return {name: decide(scores) for name, scores in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_all_that_is_said_of_a_folder_agrees(decisions, name):
    agrees_with_itself(CASES[name], decisions[name])


def agrees_with_itself(scores, found):
    low, high = (share * len(scores) for share in found.contamination_interval)
    expected = found.contamination * len(scores)
    assert low - 1e-6 <= expected <= high + 1e-6
    flagged = scores > found.threshold
    wanted = 0 if found.answer == CLEAN else round(expected)
    ties = np.unique(scores, return_counts=True)[1].max()
    assert wanted - ties < flagged.sum() <= wanted
    bands = np.array(found.bands(scores))
    assert not (flagged & (bands == "pass")).any()
    assert not (~flagged & (bands == "reject")).any()
    order = np.argsort(scores, kind="stable")
    assert (np.diff([{"pass": 0, "look": 1, "reject": 2}[each] for each in bands[order]]) >= 0).all()
    chance = found.chances(scores)
    if chance is not None:
        assert chance.sum() == pytest.approx(expected)
        assert (np.diff(chance[order]) >= 0).all()
        assert chance.min() > 0
        assert chance.max() < 1


def test_defects_that_hide_in_one_view_are_counted_by_the_stricter_one():
    scores, truth = folder(300, 60, 1, 1.6)
    stricter = folder(300, 60, 1, 12.0)[0][::-1]
    alone, both = decide(scores), decide(scores, stricter=stricter)
    agrees_with_itself(scores, both)
    assert alone.contamination * 360 < 30
    assert both.contamination * 360 == pytest.approx(60, abs=6)
    assert f1(scores, truth, both.threshold) > f1(scores, truth, alone.threshold)
    (low, high), (lower, higher) = alone.contamination_interval, both.contamination_interval
    assert lower <= low
    assert higher >= high
    assert Decision.from_json(json.loads(json.dumps(both.to_json()))) == both
    model = two_groups(scores, stretch=both.stretch)
    assert model.knowing(scores, truth).each_chance(scores).mean(0)[300:].mean() > 0.5
    known = decide(scores, labels=np.where(np.arange(360) % 3, UNKNOWN, truth), stricter=stricter)
    assert known.contamination * 360 == pytest.approx(60, abs=15)


def test_a_stricter_view_that_finds_fewer_changes_no_flag():
    scores, calm = folder(300, 30, 1)[0], folder(330, 0, 2)[0]
    alone, both = decide(scores), decide(scores, stricter=calm)
    assert (both.threshold, both.contamination, both.chance, both.stretch) == (
        alone.threshold, alone.contamination, alone.chance, None,
    )  # fmt: skip


def test_a_stricter_view_that_parts_nothing_changes_nothing():
    scores = folder(60, 6, 1)[0]
    for nothing in ([], [1.0], np.ones(66)):
        assert decide(scores, stricter=np.array(nothing)) == decide(scores)


def test_an_estimate_of_false_alarms_comes_from_the_view_that_counted():
    scores, stricter = folder(300, 60, 1, 1.6)[0], folder(300, 60, 1, 12.0)[0]
    found = decide(scores, stricter=stricter, false_alarms=0.05)
    model = two_groups(scores, stretch=found.stretch)
    assert found.stretch is not None
    assert model.good_beyond([found.threshold])[0] == pytest.approx(0.05, abs=0.005)


def test_a_damaged_stretch_is_refused():
    for scores, seen in (((0.0, 1.0), (0.0,)), ((1.0, 0.0), (0.0, 1.0)), ((0.0, 1.0), (1.0, 0.0)), ((), ())):
        with pytest.raises(RequestError, match="fit again with `force`"):
            Stretch(scores, seen)


def test_many_scores_are_stretched_by_few_knots():
    scores, stricter = folder(5000, 300, 1)[0], folder(3000, 900, 2)[0]
    stretch = Stretch.between(scores, stricter)
    assert len(stretch.scores) < 500
    for share in (0.01, 0.3, 0.9, 0.999):
        seen = stretch.of([np.quantile(scores, share)])[0]
        assert seen == pytest.approx(np.quantile(stricter, share), rel=0.01, abs=0.02)


def test_clear_defects_are_found_and_counted():
    scores, truth = folder(180, 20, distance=15.0)
    found = decide(scores)
    assert found.answer == DEFECTS
    assert f1(scores, truth, found.threshold) > 0.9
    assert 200 * found.contamination == pytest.approx(20, abs=3)
    assert not found.advice


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.45])
def test_the_count_is_right_to_a_fifth_and_the_interval_is_near_it_at_any_share(share):
    bad = round(300 * share)
    for seed in range(3):
        found = decide(folder(300 - bad, bad, seed, 15.0)[0])
        low, high = (each * 300 for each in found.contamination_interval)
        assert found.contamination * 300 == pytest.approx(bad, rel=0.2, abs=2.5)
        assert 0.9 * low - 1 <= bad <= 1.1 * high + 1


def test_a_clean_folder_shows_no_sign_of_defects_and_nothing_is_flagged(decisions):
    found = decisions["clean"]
    assert found.answer == CLEAN
    assert not (CASES["clean"] > found.threshold).any()
    assert "known good" in found.advice or "know to be good" in found.advice
    assert found.threshold >= CASES["clean"].max()
    assert found.bands([found.threshold + 5]) == ["reject"]  # a defect that comes later


def test_where_good_and_bad_overlap_it_cannot_be_told():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.gumbel(0, 0.7, 150), rng.gumbel(1.0, 0.9, 50)]).astype(np.float32)
    found = decide(scores)
    assert found.answer in (UNCLEAR, CLEAN)
    assert found.advice
    low, high = found.contamination_interval
    assert high - low > 0.05


def test_the_thinner_the_evidence_the_wider_is_the_band_to_look_at():
    few, many = (decide(folder(round(9 * n), n, 1, 4.0)[0]) for n in (6, 120))
    shares = [np.mean([band == "look" for band in each.bands(folder(900, 100, 1, 4.0)[0])]) for each in (few, many)]
    assert shares[0] > shares[1]


def test_words_stand_for_chances_where_the_count_may_be_almost_anything():
    rng = np.random.default_rng(0)
    open_ = np.concatenate([rng.gumbel(0, 0.7, 150), rng.gumbel(1.0, 0.9, 50)]).astype(np.float32)
    clear = np.append(np.linspace(-1, 1, 39), 30).astype(np.float32)
    assert decide(open_).chance is None
    assert "look" in decide(open_).bands(open_)
    assert decide(clear).chance is not None


@pytest.mark.parametrize("scores", [np.zeros(50), np.ones(2), np.array([3.0])])
def test_equal_scores_part_nothing_and_that_is_said(scores):
    found = decide(scores.astype(np.float32))
    assert found.answer == UNCLEAR
    assert "All images score the same" in found.rule
    assert not (scores > found.threshold).any()
    assert found.contamination == 0
    assert found.advice


def test_an_extreme_image_is_the_one_that_is_flagged(decisions):
    assert np.flatnonzero(CASES["one extreme"] > decisions["one extreme"].threshold).tolist() == [60]


def test_scale_and_shift_of_the_scores_change_nothing():
    scores = folder(90, 10)[0].astype(np.float64)
    one, other = decide(scores), decide(7 + 0.01 * scores)
    assert other.contamination == pytest.approx(one.contamination, rel=0.02)
    assert (scores > one.threshold).sum() == (7 + 0.01 * scores > other.threshold).sum()


def test_the_same_scores_give_the_same_decision():
    assert decide(CASES["clear"]) == decide(CASES["clear"].copy())


def test_sensitivity_flags_from_the_fewest_to_the_most_there_may_be():
    scores = CASES["overlapping"]
    found = decide(scores)
    low, high = (round(share * len(scores)) for share in found.contamination_interval)
    counts = [(scores > decide(scores, sensitivity=each).threshold).sum() for each in (0, 0.25, 0.5, 0.75, 1)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (low, high)
    again = at_sensitivity(scores, 1.0, found)
    assert again.sensitivity == 1
    assert (scores > again.threshold).sum() == high
    with pytest.raises(RequestError, match="without `contamination`"):
        at_sensitivity(scores, 1.0, at_contamination(scores, 0.1))


def test_reviewed_images_move_threshold_and_count_to_what_they_say():
    scores, truth = folder(320, 80, 1, 3.0)
    free = decide(scores)
    labels = np.full(len(scores), UNKNOWN)
    rows = np.argsort(-scores)[20:140:4]
    labels[rows] = truth[rows]
    found = decide(scores, labels=labels)
    assert found.reviewed == 30
    best = max(f1(scores, truth, each) for each in scores)
    assert f1(scores, truth, found.threshold) > 0.9 * best
    assert abs(found.contamination - 0.2) <= abs(free.contamination - 0.2) + 0.02
    assert found.chances(scores, labels)[labels == ANOMALOUS].min() > 0.99
    assert found.chances(scores, labels)[labels == NORMAL].max() < 0.01
    assert found.chances(scores, labels).sum() == pytest.approx(found.contamination * len(scores))


def test_labels_weigh_the_draws_as_a_new_sample_would():
    scores, truth = folder(160, 40, 1, 3.0)
    labels = np.full(len(scores), UNKNOWN)
    rows = np.argsort(-scores)[5:60:6]
    labels[rows] = truth[rows]
    quick = two_groups(scores).knowing(scores, labels)
    slow = two_groups(scores, labels)
    chance = [each.weights @ each.each_chance(scores) for each in (quick, slow)]
    assert np.abs(chance[0] - chance[1]).mean() < 0.05


def test_labels_that_contradict_the_scores_and_each_other_have_an_answer():
    scores = folder(60, 6)[0]
    labels = np.full(len(scores), UNKNOWN)
    order = np.argsort(-scores)
    labels[order[:10:2]], labels[order[1:10:2]], labels[order[-5:]] = NORMAL, ANOMALOUS, ANOMALOUS
    found = decide(scores, labels=labels)
    assert np.isfinite(found.threshold)
    assert 0 < found.contamination < 0.5


def test_a_folder_that_was_reviewed_whole_has_the_count_that_was_found():
    scores, truth = folder(30, 5)
    found = decide(scores, labels=truth)
    assert found.contamination * 35 == pytest.approx(5, abs=0.1)
    assert f1(scores, truth, found.threshold) > 0.7


def test_the_estimated_rate_of_false_alarms_is_about_kept_whatever_the_defects():
    for bad in (0, 100, 300):
        scores, truth = folder(1500, bad)
        found = decide(scores, false_alarms=0.03)
        assert 0.01 < (scores[truth == NORMAL] > found.threshold).mean() < 0.06
        assert "estimate" in found.rule
        assert found.promise is None


@pytest.mark.parametrize("share", [0.0, 0.03, 0.05, 0.4])
def test_a_chosen_contamination_flags_that_share(share):
    scores = CASES["clear"]
    assert (at_contamination(scores, share).threshold < scores).sum() == round(share * 200)


def test_a_threshold_set_by_hand_leaves_count_and_chances_as_they_were_found():
    scores = CASES["clear"]
    found, moved = decide(scores), decide(scores, threshold=1.0)
    assert moved.threshold == 1.0
    assert moved.contamination == found.contamination
    assert moved.chance == found.chance
    assert [band == "reject" for band in moved.bands(scores)] == (scores > 1.0).tolist()
    assert at_threshold(scores, 9.5).contamination == pytest.approx((scores > 9.5).mean())


def test_where_nothing_is_flagged_the_images_to_look_at_are_the_unusual_ones():
    quiet = Decision(9.0, 0.0, "r", "a", look_between=(2.0, 9.0))
    assert quiet.unusual_above(np.array([1.0, 3.0])) == 2.0
    assert quiet.unusual_above(np.array([1.0, 10.0])) == 9.0
    assert Decision(9.0, 0.0, "r", "a").unusual_above(np.array([1.0])) == 9.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"threshold": 1.0, "contamination": 0.1}, "exclude each other"),
        ({"threshold": float("nan"), "contamination": None}, "got nan"),
        ({"threshold": 1e18, "contamination": None}, "between"),
        ({"threshold": None, "contamination": 1.0}, "less than 1"),
        ({"threshold": None, "contamination": -0.1}, "got -0.1"),
        ({"threshold": None, "contamination": None, "false_alarms": 0.7}, "below 50%"),
        ({"threshold": None, "contamination": None, "sensitivity": 1.5}, "got 1.5"),
        ({"threshold": None, "contamination": 0.2, "sensitivity": 0.5}, "exclude each other"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong, said):
    with pytest.raises(RequestError, match=said):
        check(**wrong)


def test_a_decision_goes_through_json_and_one_of_an_earlier_version_is_read():
    found = decide(CASES["clear"], normals=np.arange(30.0), false_alarms=0.1)
    assert Decision.from_json(json.loads(json.dumps(found.to_json()))) == found
    old = Decision.from_json({"threshold": 1.0, "contamination": 0.1, "rule": "r", "assumption": "a", "reviewed": 3})
    assert old.bands([0.5, 1.5]) == ["pass", "reject"]
    assert old.chances(np.zeros(3)) is None
    with pytest.raises(RequestError, match="`force`"):
        Chance((1.0, 0.0), (0.1, 0.2))


def test_chances_hold_on_images_that_had_no_part_in_them():
    scores, truth = folder(640, 160, 1, 3.0)
    reviewed = np.full(len(scores), UNKNOWN)
    rows = np.random.default_rng(0).permutation(np.argsort(-scores)[:300])[:150]
    reviewed[rows] = truth[rows]
    bins = reliability(scores, reviewed)
    assert sum(each.count for each in bins) == 150
    assert all(abs(each.promised - each.bad) < 0.25 for each in bins)
    assert reliability(scores, np.full(len(scores), UNKNOWN)) == []
    assert reliability(np.zeros(20), np.full(20, NORMAL)) == []
