"""Purification around any object with fit and score: keyed by id, resumable, honest about what it could not do."""

from dataclasses import replace

import numpy as np
import pytest

from blemish.images import ANOMALOUS, NORMAL
from blemish.machine.errors import JobError, RequestError
from blemish.machine.runtime import use_runtime
from blemish.purification import BEFORE_FIT, PurifySettings, aggregated, purify, score_by_sub_models
from blemish.purification.keeping import chosen, cut
from blemish.purification.sub_models import map_scores
from blemish.scores import Scores
from oracles import BAD, Gambler, Memoriser, Oracle, Recorder, noise, tiny_detector


@pytest.fixture(autouse=True)
def from_zero():
    Oracle.fits = Memoriser.fits = Gambler.fits = 0
    Recorder.seen = []


def contamination(ids, bad=BAD):
    return sum(name in bad for name in ids) / len(ids)


def test_a_perfect_scorer_leaves_no_anomaly():
    result = purify(noise(60), Oracle())
    assert contamination(result.kept_ids) == 0
    assert set(result.set_aside_ids) == BAD


@pytest.mark.parametrize(
    ("aggregate", "own_subset"),
    # Sub-models that agree have no variance, so that max_variance tells nothing unless they see their own images.
    [
        ("mean", "cross_fit"),
        ("mean", "include"),
        ("mean", "exclude"),
        ("max", "include"),
        ("max", "exclude"),
        ("max_variance", "include"),
    ],
)
def test_a_perfect_scorer_leaves_no_anomaly_whatever_the_settings(aggregate, own_subset):
    for scale in ("raw", "deviations"):
        result = purify(
            noise(60), Memoriser(), aggregate=aggregate, own_subset=own_subset, scale=scale, keep=1 - len(BAD) / 60
        )
        assert contamination(result.kept_ids) == 0


def test_a_random_scorer_leaves_the_contamination_as_it_was():
    images = noise(300)
    bad = set(images.ids[::5])  # 20 %
    left = [contamination(purify(images, Gambler(), seed=seed, repeats=1).kept_ids, bad) for seed in range(20)]
    # Some 225 of 300 are kept at random: a standard deviation of .013 each, .003 for the mean of twenty
    assert abs(np.mean(left) - 0.2) < 0.008
    assert max(abs(np.array(left) - 0.2)) < 0.05


def test_scores_belong_to_their_images_whatever_the_order_of_the_answer():
    images = noise(60)
    truth = {name: float(number) for number, name in enumerate(images.ids)}

    class Backwards(Oracle):
        def score(self, asked):
            return {name: truth[name] for name in reversed(asked.ids)}

    class InOrder(Oracle):
        def score(self, asked):
            return np.array([truth[name] for name in asked.ids], dtype=np.float32)

    class AsScores(Oracle):
        def score(self, asked):
            ids = tuple(reversed(asked.ids))
            count = len(ids)
            image = np.array([truth[name] for name in ids], dtype=np.float32)
            maps, boxes = np.zeros((count, 2, 2), np.float32), np.tile([0, 0, 1, 1], (count, 1)).astype(np.float32)
            return Scores(ids, image, maps, boxes, np.full((count, 2), 8))

    for kind in (Backwards, InOrder, AsScores):
        result = purify(images, kind(), keep=0.5, repeats=3, scale="raw")
        assert result.kept_ids == images.ids[:30]
        assert list(result.set_aside_ids) == list(reversed(images.ids[30:]))
        frame = result.to_frame()
        assert list(frame.columns) == ["path", "score", "spread", "kept"]
        assert list(frame.path) == list(reversed(images.ids))
        assert list(frame.kept) == [0] * 30 + [1] * 30


def test_every_image_is_learned_from_once_a_repeat_and_copies_stay_together():
    images = noise(30, copies=4)
    same = {name for name in images.ids if images.content[name] == images.content[images.ids[0]]}
    assert len(same) == 5
    purify(images, Recorder(), subsets=3, repeats=2)
    assert len(Recorder.seen) == 6
    for repeat in (Recorder.seen[:3], Recorder.seen[3:]):
        assert sorted(name for subset in repeat for name in subset) == list(images.ids)
        assert all(same <= subset or not same & subset for subset in repeat)
        assert max(map(len, repeat)) - min(map(len, repeat)) <= 5
    assert Recorder.seen[:3] != Recorder.seen[3:]


def test_groups_are_kept_whole_in_the_subsets():
    images = noise(40)
    images = replace(images, groups={name: name[-1] for name in images.ids})
    purify(images, Recorder())
    for subset in Recorder.seen:
        ends = {name[-1] for name in subset}
        assert subset == {name for name in images.ids if name[-1] in ends}


def test_what_a_sub_model_learned_from_counts_only_if_asked_for():
    images = noise(60)
    without = purify(images, Memoriser(), scale="raw", own_subset="exclude", repeats=2)
    assert set(without.scores.tolist()) == {0.0, 1.0}
    within = purify(images, Memoriser(), scale="raw", own_subset="include", subsets=3)
    good = next(row for row, name in enumerate(within.ids) if name not in BAD)
    assert within.scores[good] == pytest.approx((0 + 0 - 5) / 3)


def test_a_detector_with_training_scores_is_asked_for_them_where_it_learned(own_cache):
    images = noise(30)
    settings = PurifySettings(scale="raw")
    with use_runtime(cache=own_cache, threads=1):
        found = {
            own: score_by_sub_models(images, tiny_detector(), replace(settings, own_subset=own))
            for own in ("cross_fit", "include")
        }
    own = found["include"].own
    assert (found["cross_fit"].matrix[~own] == found["include"].matrix[~own]).all()
    gaps = found["cross_fit"].matrix[own] - found["include"].matrix[own]
    assert np.abs(gaps).max() < 0.1, "an image that it learned from is left out in both"
    without = score_by_sub_models(images, Oracle(), settings)
    assert (np.isnan(without.matrix) == without.own).all(), "an object without them is not asked"


def test_aggregates_are_what_they_say():
    matrix = np.array([[1.0, 4.0, 0.0], [3.0, 0.0, 0.0], [5.0, 5.0, 9.0]])
    own = np.eye(3, dtype=bool)
    raw = PurifySettings(scale="raw", own_subset="exclude")
    mean, spread = aggregated(matrix, own, raw)
    np.testing.assert_allclose(mean, [4.0, 4.5, 0.0])
    np.testing.assert_allclose(spread, [1.0, 0.5, 0.0])
    np.testing.assert_allclose(aggregated(matrix, own, replace(raw, own_subset="include"))[0], [3.0, 3.0, 3.0])
    np.testing.assert_allclose(aggregated(matrix, own, replace(raw, aggregate="max"))[0], [5.0, 5.0, 0.0])
    np.testing.assert_allclose(aggregated(matrix, own, replace(raw, aggregate="max_variance"))[0], [5.0, 1.25, 0.0])


def test_sub_models_of_other_units_count_alike_in_deviations():
    rng = np.random.default_rng(0)
    matrix, own = rng.normal(size=(3, 50)), np.zeros((3, 50), dtype=bool)
    other = matrix * np.array([[1.0], [100.0], [0.01]]) + np.array([[0.0], [7.0], [-3.0]])
    settings = PurifySettings(scale="deviations", own_subset="exclude")
    np.testing.assert_allclose(aggregated(matrix, own, settings)[0], aggregated(other, own, settings)[0])


def test_the_image_score_of_a_map_is_the_mean_of_its_top_one_percent():
    maps = np.zeros((2, 32, 32), np.float32)
    maps[1, 8:16, 8:16] = 1.0  # a plateau of 6 %: its middle survives the Gaussian
    boxes = np.tile([0, 0, 1, 1], (2, 1)).astype(np.float32)
    scores = Scores(("a", "b"), np.zeros(2, np.float32), maps, boxes, np.full((2, 2), 64))
    low, high = map_scores(scores)
    assert low == 0
    assert 0.97 < high <= 1


def test_the_same_seed_gives_the_same_and_repeats_begin_with_the_same_splits():
    images = noise(60)
    purify(images, Recorder(), repeats=1, seed=3)
    purify(images, Recorder(), repeats=2, seed=3)
    assert Recorder.seen[:2] == Recorder.seen[2:4]
    assert (purify(images, Gambler(), seed=1).scores == purify(images, Gambler(), seed=1).scores).all()
    assert (purify(images, Gambler(), seed=1).scores != purify(images, Gambler(), seed=2).scores).any()


def test_labels_overrule_scores():
    images = noise(60)
    bad, good = min(BAD), next(name for name in images.ids if name not in BAD)
    images = replace(images, labels={bad: NORMAL, good: ANOMALOUS})
    result = purify(images, Recorder())
    assert bad in result.kept_ids
    assert good in result.set_aside_ids
    assert not any(good in seen for seen in Recorder.seen), "a known anomaly teaches nothing"


def test_another_detector_may_purify(monkeypatch):
    monkeypatch.setattr("blemish.purification.detector_class", lambda name: {"nearest_images": Oracle}[name])
    result = purify(noise(60), Gambler(), by="nearest_images")
    assert set(result.set_aside_ids) == BAD
    assert (Oracle.fits, Gambler.fits) == (2, 0)
    assert (result.settings["by"], result.settings["detector"]) == ("nearest_images", "Gambler")


def test_wrong_settings_are_one_sentence():
    images = noise(20)
    for changes, said in (
        ({"subsets": 30}, "30 subsets cannot be made of 20 different images"),
        ({"subsets": 0}, "'subsets' must be at least 1; got 0"),
        ({"subsets": 1, "own_subset": "exclude"}, "every image is in the sub-model's own"),
        ({"aggregate": "median"}, "'aggregate' must be one of mean, max, max_variance; got 'median'"),
        ({"subsets": 2, "aggregate": "max_variance"}, "max_variance needs two scores of an image"),
        ({"keep": 0.0}, "above 0 up to 1; got 0, which leaves nothing to learn from"),
        ({"keep": 1.5}, "above 0 up to 1; got 1.5"),
        ({"k": -1.0}, "'k' is a number of deviations"),
        ({"keeep": 0.5}, "did you mean keep"),
        ({"by": "nearest_imagse"}, "did you mean nearest_images"),
        ({"cut": "far_out", "k": 3.0}, "'k' would change nothing: the cut 'far_out' has no 'k'"),
        ({"keep": 0.5, "k": 3.0}, "'k' would change nothing: 'keep' says"),
        ({"settings": {"k": 1}}, r"are PurifySettings\(...\); got {'k': 1}"),
        ({"seed": -1}, "seed must be 0 or more"),
    ):
        with pytest.raises(RequestError, match=said):
            purify(images, Oracle(), **changes)
    with pytest.raises(RequestError, match="str has no fit"):
        purify(images, "nearest_images")


def test_subsets_too_small_for_the_detector_are_refused_with_the_number_that_fits():
    class Large(Oracle):
        min_images = 10
        name = "large"

    with pytest.raises(RequestError, match=r"8.*10; take 2 subsets, or give at least 30"):
        purify(noise(25), Large(), subsets=3)
    with pytest.raises(RequestError, match=r"large needs 10; give at least 20"):
        purify(noise(12), Large(), subsets=2)
    labelled = noise(40)
    labelled = replace(labelled, labels=dict.fromkeys(labelled.ids[:30], ANOMALOUS))
    with pytest.raises(RequestError, match=r"10 different images .* needs 10; give at least"):
        purify(labelled, Large(), subsets=2)
    assert Oracle.fits == 0


def test_copies_of_one_image_do_not_say_how_far_scores_are_spread():
    scores = np.concatenate([np.zeros(40), np.linspace(0.1, 2, 20)])  # 40 copies, and ordinary images
    groups = np.concatenate([np.zeros(40, dtype=np.int64), np.arange(1, 21)])
    none = np.zeros(60, dtype=bool)
    assert chosen(scores, none, none, PurifySettings(k=6.0), 1, groups).kept.all()
    assert chosen(scores, none, none, BEFORE_FIT, 1, groups).kept.all()


def test_copies_count_as_one_where_the_least_is_kept():
    class Needy(Oracle):
        min_images = 10

    images = noise(60)
    ordinary = [name for name in images.ids if name not in BAD]
    alike = {**images.groups, **dict.fromkeys(ordinary[:12], "one part")}
    result = purify(replace(images, groups=alike), Needy(), keep=0.1)
    assert len({alike[name] for name in result.kept_ids}) == 10
    assert "would have kept 6 of 60" in result.notes[0]


def test_a_cut_that_keeps_everything_or_too_little_says_so():
    images = noise(60)
    result = purify(images, Oracle(), keep=1.0)
    assert result.kept.all()
    assert result.notes == ("No image scored above the cut: all 60 were kept, nothing was set aside.",)
    assert purify(images, Oracle(bad=())).notes == result.notes

    class Large(Oracle):
        min_images = 10

    result = purify(images, Large(), keep=0.05)
    assert len(result.kept_ids) == 10
    assert "would have kept 3 of 60 images; the 10 that score lowest were kept" in result.notes[0]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda _: np.zeros(3), r"array of shape \(3,\) for 60 images"),
        (lambda ids: dict.fromkeys(ids[:-1], 0.0), "1 images got no score, such as 'image-000059'"),
        (lambda ids: np.array([*np.zeros(len(ids) - 1), np.nan]), "score of 'image-000059' is not a finite number"),
    ],
)
def test_answers_that_are_no_scores_are_named(answer, said):
    class Odd(Oracle):
        def score(self, images):
            return answer(images.ids)

    with pytest.raises(JobError, match=rf"sub-model 1 of 2 \(Odd, 30 images\): .*{said}"):
        purify(noise(60), Odd())


def test_the_default_cut_says_that_it_is_strict_and_a_cautious_one_does_not():
    scores = np.arange(20.0)
    assert "strict on purpose" in cut(scores, PurifySettings())[1]
    for cautious in (PurifySettings(k=3.0), BEFORE_FIT, PurifySettings(cut="mixture")):
        assert "strict" not in cut(scores, cautious)[1]
