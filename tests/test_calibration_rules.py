"""Every rule finds clear defects, says what it assumes and how sure it is, or that there is no threshold."""

import numpy as np
import pytest

from blemish.calibration import NAMES, Decision, Probability, at_threshold, check, decide, probability, reliability
from blemish.calibration.anchoring import boundary
from blemish.calibration.tail import low_tail
from blemish.images import ANOMALOUS, NORMAL, UNKNOWN
from blemish.machine.errors import RequestError

RNG = np.random.default_rng(0)
GOOD = RNG.gumbel(0, 0.7, 180).astype(np.float32)
BAD = RNG.normal(12, 2, 20).astype(np.float32)
SCORES = np.concatenate([GOOD, BAD])
TRUTH = np.repeat([NORMAL, ANOMALOUS], [180, 20])


def overlapping(count=400, share=0.2):
    rng = np.random.default_rng(1)
    bad = round(share * count)
    scores = np.concatenate([rng.gumbel(0, 0.7, count - bad), rng.normal(2.5, 1.2, bad)]).astype(np.float32)
    return scores, np.repeat([NORMAL, ANOMALOUS], [count - bad, bad])


def f1(scores, truth, threshold):
    flags, bad = scores > threshold, truth == ANOMALOUS
    return 2 * (flags & bad).sum() / (flags.sum() + bad.sum())


@pytest.mark.parametrize("rule", NAMES)
def test_every_rule_separates_clear_defects_and_states_its_assumption(rule):
    decision = decide(SCORES, rule=rule)
    assert decision.supported
    assert f1(SCORES, TRUTH, decision.threshold) > 0.85
    assert decision.name == rule
    assert decision.assumption.endswith(".")
    low, high = decision.threshold_interval
    assert low <= decision.threshold <= high or rule == "mixture"
    low, high = decision.contamination_interval
    assert low - 0.02 <= 0.1 <= high + 0.03


@pytest.mark.parametrize("rule", NAMES)
@pytest.mark.parametrize("scores", [np.zeros(50), np.repeat([1.0, 2.0], 20), np.arange(5.0)])
def test_scores_that_say_nothing_support_no_threshold_and_flag_nothing(rule, scores):
    decision = decide(scores.astype(np.float32), rule=rule)
    assert not decision.supported
    assert decision.rule.startswith("No threshold is supported by these scores")
    assert not (scores > decision.threshold).any()
    assert decision.contamination == 0


def test_one_kind_of_image_is_no_mixture():
    assert not decide(np.random.default_rng(3).lognormal(0, 0.5, 300), rule="mixture").supported


def test_the_tail_keeps_the_rate_of_false_alarms_whatever_the_defects():
    for share in (0.0, 0.05, 0.2):
        scores, truth = overlapping(2000, share)
        threshold = decide(scores, false_alarms=0.02, interval=False).threshold
        assert 0.005 < (scores[truth == NORMAL] > threshold).mean() < 0.05
    assert decide(SCORES, false_alarms=0.01).threshold > decide(SCORES, false_alarms=0.05).threshold


def test_the_tail_is_that_of_the_good_images():
    tail = low_tail(SCORES)
    assert tail.scale == pytest.approx(0.7, rel=0.25)
    assert tail.good == pytest.approx(180, rel=0.08)
    assert low_tail(SCORES[:10]) is None
    assert low_tail(np.ones(50)) is None


def test_unknown_rules_are_named_with_near_ones():
    with pytest.raises(RequestError, match="did you mean adaptive"):
        decide(SCORES, rule="adaptiv")
    with pytest.raises(RequestError, match="aim of the rule 'tail'"):
        decide(SCORES, rule="mad", false_alarms=0.1)
    with pytest.raises(RequestError, match="exclude each other"):
        check(None, 0.1, 0.1)
    with pytest.raises(RequestError, match="below 50%"):
        check(None, None, 0.7)


def test_rules_of_pythresh_are_there_through_their_extra():
    pytest.importorskip("pythresh")
    decision = decide(SCORES, rule="pythresh:IQR")
    assert decision.supported
    assert f1(SCORES, TRUTH, decision.threshold) > 0.5
    with pytest.raises(RequestError, match="PyThresh has no rule 'NOSUCH'"):
        decide(SCORES, rule="pythresh:nosuch")


def test_more_than_half_flagged_is_no_answer():
    scores = np.concatenate([np.random.default_rng(0).normal(0, 0.01, 60), np.arange(1, 41) * 3.0]).astype(np.float32)
    scores = np.concatenate([scores, scores[60:] + 1])
    assert not decide(scores, rule="mad").supported or (scores > decide(scores, rule="mad").threshold).mean() <= 0.5


def test_reviewed_images_move_the_line_to_where_they_say():
    scores, truth = overlapping()
    order = np.argsort(-scores)
    reviewed = np.full(len(scores), UNKNOWN)
    rows = order[20:110:3]  # thirty images around the line
    reviewed[rows] = truth[rows]
    free, anchored = decide(scores, interval=False), decide(scores, labels=reviewed)
    best = max(f1(scores, truth, each) for each in scores)
    assert f1(scores, truth, anchored.threshold) > 0.95 * best
    assert f1(scores, truth, anchored.threshold) >= f1(scores, truth, free.threshold)
    assert anchored.reviewed == 30
    assert anchored.contamination == pytest.approx(0.2, rel=0.4)
    assert "reviewed" in anchored.rule


def test_one_label_moves_the_line_a_little():
    scores, _ = overlapping()
    free = decide(scores, interval=False)
    one = np.full(len(scores), UNKNOWN)
    one[np.argsort(-scores)[60]] = NORMAL
    two = np.full(len(scores), UNKNOWN)
    two[np.argsort(-scores)[60]] = ANOMALOUS
    good, bad = (decide(scores, labels=each, interval=False).threshold for each in (one, two))
    assert good > bad
    assert abs(good - free.threshold) < 2
    assert abs(bad - free.threshold) < 2


def test_a_decision_of_an_earlier_version_is_read():
    stored = {"threshold": 1.0, "contamination": 0.1, "rule": "r", "assumption": "a"}
    decision = Decision.from_json(stored)
    assert decision.supported
    assert decision.threshold_interval is None
    again = Decision.from_json(decide(SCORES).to_json())
    assert again == decide(SCORES)


def test_probabilities_never_fall_and_add_up_to_about_the_bad_ones():
    found = probability(SCORES, decide(SCORES))
    assert found.of(SCORES).sum() == pytest.approx(20, abs=8)
    assert (np.diff(found.of(np.linspace(-5, 30, 500))) >= 0).all()
    assert found.of(BAD).min() > 0.9
    assert np.median(found.of(GOOD)) == 0
    assert Probability.from_json(found.to_json()) == found
    assert probability(np.arange(5.0), at_threshold(np.arange(5.0), 2)) is None


def test_probabilities_hold_on_images_that_had_no_part_in_them():
    scores, truth = overlapping(800)
    reviewed = np.full(len(scores), UNKNOWN)
    rows = np.random.default_rng(0).permutation(np.argsort(-scores)[:300])[:150]
    reviewed[rows] = truth[rows]
    bins = reliability(scores, reviewed, decide(scores, interval=False))
    assert sum(each.count for each in bins) == 150
    assert all(abs(each.promised - each.bad) < 0.2 for each in bins)
    assert reliability(scores, np.full(len(scores), UNKNOWN), decide(scores, interval=False)) == []


def test_labels_that_overlap_do_not_make_a_third_of_the_folder_bad():
    scores, _ = overlapping()
    line = float(np.sort(scores)[-40])
    around = np.argsort(-scores)[10:110:10]  # ten around the line, in turn bad and good: no score parts them
    labels = np.full(len(scores), UNKNOWN)
    labels[around[0::2]], labels[around[1::2]] = NORMAL, ANOMALOUS
    share = float((scores > line).mean())
    expected = boundary(scores, labels, line, 1.0, 1.0).probability(scores).mean()
    assert share / 2 < expected < 2 * share
