"""What a person finds in Python: names, short texts, pictures, one image or many, progress where they look."""

import asyncio
import contextlib
import doctest
import io
import pydoc
import shutil
import threading
from importlib import import_module

import numpy as np
import pytest
from PIL import Image
from sklearn.utils.estimator_checks import parametrize_with_checks

import blemish
from blemish.detectors.nearest_images import NearestImages
from blemish.machine import progress as shown
from blemish.machine.errors import RequestError
from blemish.machine.runtime import quiet, use_runtime
from blemish.purification import PurifySettings
from conftest import fill, picture


def test_the_module_shows_its_names_and_its_help():
    assert {"fit", "load", "score", "Run", "Scores", "OutlierDetector"} <= set(dir(blemish))
    text = pydoc.plain(pydoc.render_doc(blemish))
    for part in ('run = blemish.fit("path/to/images", out="run")', "class Run", "fit(images", "OutlierDetector"):
        assert part in text


@pytest.mark.parametrize(
    "name",
    [
        "images.notebook_cards",
        "jobs.estimator",
        "machine.progress",
        "scores.scores",
        "scores.flags",
        "calibration.reference",
        "calibration.posterior",
    ],
)
def test_the_examples_of_the_docstrings_are_right(name):
    found = doctest.testmod(import_module(f"blemish.{name}"))
    assert found.attempted
    assert not found.failed


def test_a_run_has_what_people_look_for():
    assert {"scores", "score", "show", "heatmap", "regions", "report", "review", "export"} <= set(dir(blemish.Run))
    for name in ("show", "heatmap", "regions", "report", "review", "export"):
        assert getattr(blemish.Run, name).__doc__


def test_texts_are_short_and_cards_have_pictures(run, photos, tmp_path):
    loaded = blemish.load(run)
    pure = blemish.purify(fill(tmp_path / "many", 16), how=PurifySettings(keep=0.8), threads=1)
    for each, said in (
        (loaded, "10 images"), (loaded.scores, "10 images"), (blemish.ImageSet.of(photos), "10 images"),
        (pure, "of 16 images"),
    ):  # fmt: skip
        assert len(repr(each)) < 200
        assert repr(each).count("\n") <= 2
        assert said in repr(each)
        card = each._repr_html_()
        assert said in card
        assert "data:image/jpeg" in card
        assert len(card) < 400_000
    assert "part-00.png" in repr(loaded.scores)


def test_names_are_escaped_on_cards():
    images = blemish.ImageSet.named({"<b>.png": picture(1)})
    assert "&lt;b&gt;.png" in images._repr_html_()
    assert "<b>.png" not in images._repr_html_()


def test_a_loaded_run_has_its_scores_with_maps_and_the_decision(run, photos):
    fresh, loaded = blemish.load(run).score(photos, progress=False), blemish.load(run)
    scores = loaded.scores
    assert dict(scores) == pytest.approx(dict(fresh))
    assert scores.ranking()[0] == "part-00.png"
    assert scores.decision is loaded.decision
    assert scores.image == pytest.approx(loaded.training_scores)
    assert scores.map("part-00.png").shape == (64, 64)
    frame = scores.to_frame()
    assert list(frame.columns)[:3] == ["path", "score", "flagged"]
    assert list(frame["path"][frame["flagged"] == 1]) == scores.flagged
    (run / "maps.safetensors").unlink()
    with pytest.raises(RequestError, match=r"has no maps\.safetensors"):
        _ = blemish.load(run).scores


def test_iterating_gives_pairs_in_the_order_of_the_ids(run):
    scores = blemish.load(run).scores
    assert list(scores) == [(name, scores[name]) for name in scores.ids]


def test_scores_of_a_detector_alone_have_no_flags(small, photos):
    scores = small.fit(blemish.ImageSet.of(photos)).score(blemish.ImageSet.of(photos))
    with pytest.raises(RequestError, match="a threshold of your own"):
        _ = scores.flagged
    assert "flagged" not in scores.to_frame()
    assert "flagged" not in repr(scores)


def test_one_path_one_array_and_one_picture_score_alike(run, photos):
    loaded = blemish.load(run)
    array = np.asarray(Image.open(photos / "part-03.png"))
    found = [loaded.score(each, threads=1) for each in (photos / "part-03.png", array, Image.fromarray(array))]
    new = picture(77)
    assert len({each.image[0] for each in found[1:]}) == 1
    assert all(len(each) == 1 for each in found)
    one, of_list = loaded.score(new, threads=1), loaded.score([new], threads=1)
    assert (one.ids, one.image.tolist()) == (of_list.ids, of_list.image.tolist())


def test_both_ways_to_score_return_the_same(run, photos, tmp_path):
    loaded = blemish.load(run)
    one, other = loaded.score(photos, threads=1), blemish.score(photos, run, tmp_path / "new", threads=1)
    assert type(one) is type(other) is blemish.Scores
    assert dict(one) == dict(other)
    assert one.decision.threshold == other.decision.threshold
    moved = blemish.score(photos, loaded, threshold=1e5, threads=1)
    assert moved.flagged == []
    low = loaded.score(photos, threshold=-1e5, threads=1)
    assert set(low.bands.values()) == {"reject"}, "a threshold that a person chose moves the bands, too"
    assert len(loaded.score(photos, sensitivity=1, threads=1).flagged) >= len(one.flagged)
    with pytest.raises(RequestError, match="`threshold` and `sensitivity`"):
        loaded.score(photos, threshold=1, sensitivity=1)
    assert one[photos / "part-00.png"] == one["part-00.png"]


def test_show_draws_images_of_a_loaded_run_of_one_in_memory_and_says_when_they_are_gone(run, photos, tmp_path):
    loaded = blemish.load(run)
    one, four = loaded.show(1), loaded.show(4)
    assert four.width > one.width
    left, right = np.asarray(one)[20:200, 20:200].astype(int), np.asarray(one)[20:200, 215:395].astype(int)
    assert abs(left - left.mean(axis=2, keepdims=True)).max() < 40, "the image itself is grey with noise"
    assert (right[..., 0] - right[..., 2]).max() > 60, "its heatmap is coloured"
    arrays = blemish.fit([picture(index) for index in range(10)], detector="nearest_images", threads=1)
    assert arrays.show(2).size == loaded.show(2).size
    with pytest.raises(RequestError, match=r"`n` .*got 0"):
        loaded.show(0)
    loaded.about["image_root"] = str(tmp_path / "gone")
    with pytest.raises(RequestError, match=r"'part-00\.png'.*`heatmap`"):
        loaded.show()
    assert "No image can be shown" in loaded._repr_html_()


def test_heatmap_and_regions_take_an_id_or_any_one_image(run):
    loaded = blemish.load(run)
    (region, *_) = loaded.regions("part-00.png")
    assert region.left < 40 and region.right > 20  # noqa: PT018 - the square is at 20..40
    assert loaded.heatmap("part-00.png").size == (256, 256)
    assert loaded.heatmap(picture(0)).size == (256, 256)
    assert loaded.heatmap(picture(0), limit=100).size == (64, 64)
    with pytest.raises(RequestError, match=r"`image` .*got 2"):
        loaded.heatmap([picture(1), picture(2)])
    with pytest.raises(RequestError, match=r"'part-99\.png'.*'part-09\.png'"):
        loaded.heatmap("part-99.png")
    with pytest.raises(RequestError, match=r"ranking\(\)\[0\]"):
        loaded.heatmap(0)
    with pytest.raises(RequestError, match=r"`limit` .*got 'h.png'.*save"):
        loaded.heatmap("part-00.png", "h.png")
    with pytest.raises(RequestError, match="'nowhere'"):
        blemish.load("nowhere")


def test_a_class_in_place_of_a_detector_is_refused_with_what_to_give(photos):
    with pytest.raises(RequestError, match=r"give an instance, NearestImages\(\)"):
        blemish.fit(photos, detector=NearestImages)


def test_report_is_a_path_and_opens_only_when_asked(run, photos, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert blemish.load(run).report() == run / "report.html"
    assert opened == []
    blemish.load(run).report(open=True)
    assert opened == [(run / "report.html").resolve().as_uri()]
    alone = blemish.fit(photos, detector="nearest_images", threads=1)
    with pytest.raises(RequestError, match="fit with `out`"):
        alone.report()


def test_review_and_export_are_done_by_the_packages_above(run, monkeypatch):
    called = []
    monkeypatch.setattr("blemish.review.server.review", lambda *given, **options: called.append((given, options)))
    monkeypatch.setattr("blemish.deploy.export.export", lambda *given, **options: called.append((given, options)))
    loaded = blemish.load(run)
    loaded.review(port=8123)
    loaded.export("out", format="onnx")
    assert called == [((run, None), {"port": 8123}), ((loaded, "out"), {"format": "onnx"})]


def test_a_tampered_run_shows_nothing_from_outside_of_the_image_folder(run, tmp_path):
    Image.fromarray(picture(1)).save(tmp_path / "secret.png")
    shutil.copytree(run, run.parent / "other")
    table = (run / "scores.csv").read_text().replace("part-00.png", "../secret.png")
    (run / "scores.csv").write_text(table)
    loaded = blemish.Run(**{**vars(blemish.load(run.parent / "other")), "folder": run, "fit_scores": None})
    loaded.about["image_root"] = str(tmp_path / "photos")
    with pytest.raises(RequestError, match=r"'\.\./secret\.png'"):
        loaded.show(1)


def test_the_review_runs_beside_the_loop_of_a_notebook(run, monkeypatch):
    pytest.importorskip("uvicorn")
    names = []
    monkeypatch.setattr("uvicorn.Server.run", lambda _, **__: names.append(threading.current_thread().name))

    async def cell():
        blemish.load(run).review()

    asyncio.run(cell())
    blemish.load(run).review()
    assert names == ["blemish-review", "MainThread"]


def test_plot_draws_the_threshold_and_as_many_images_as_there_are(run):
    axes = blemish.load(run).scores.plot()
    assert sum(bar.get_height() for bar in axes.patches if bar.get_height() == bar.get_height()) >= 10
    assert any("threshold" in text.get_text() for text in axes.get_legend().get_texts())


def test_evaluate_compare_and_refit_take_a_run(run, tmp_path):
    (run / "labels.csv").write_text("path,label\npart-00.png,bad\npart-01.png,good\n")
    loaded = blemish.load(run)
    assert blemish.evaluate(loaded) == blemish.evaluate(run)
    assert len(repr(blemish.evaluate(run))) < 200
    assert len(repr(blemish.compare(run, run))) < 200
    assert blemish.compare(loaded, run).agreement == pytest.approx(1.0)


# Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_shown_where_a_person_looks_and_can_be_turned_off(run, photos, monkeypatch):
    monkeypatch.setattr(shown, "PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")

    def written(progress):
        with contextlib.redirect_stderr(Terminal()) as screen:
            blemish.load(run).score(photos, threads=1, progress=progress)
        return screen.getvalue()

    assert "Scoring" in written(None)
    assert written(False) == ""
    stages = []
    assert written(lambda *event: stages.append(event)) == ""
    assert ("scoring", 10, 10) in stages


def test_a_notebook_has_one_bar_that_goes_when_the_job_ends(monkeypatch):
    display = pytest.importorskip("IPython.display")
    drawn = []

    class Handle:
        def update(self, bar):
            drawn.append(bar.data)

    def draw(bar, display_id):
        drawn.append(bar.data)
        return Handle()

    monkeypatch.setattr(display, "display", draw)
    monkeypatch.setattr(shown, "_in_notebook", lambda: True)
    monkeypatch.setattr(shown, "PATIENCE", 0.0)
    monkeypatch.setattr(shown, "PACE", 0.0)
    with shown.progress_of(None) as progress:
        progress("features", 1, 4)
        progress("features", 2, 4)
    assert "Computing features, 1 of 4" in drawn[0]
    assert "Computing features, 2 of 4" in drawn[1]
    assert drawn[2:] == [""]


def test_a_job_within_a_job_shows_its_progress_there():
    events = []
    with use_runtime(progress=lambda *event: events.append(event)), shown.progress_of(None) as inner:
        inner("features", 1, 2)
    assert events == [("features", 1, 2)]
    with shown.progress_of(False) as none:
        assert none is quiet


def test_the_bar_of_a_job_never_goes_back_and_its_time_left_comes_down():
    now = [0.0]
    tracker = shown.Tracker(clock=lambda: now[0])
    seen = []

    def report(stage, steps, seconds):
        for step in range(steps + 1):
            tracker(stage, step, steps)
            seen.append((tracker.fraction, tracker.left))
            now[0] += seconds / steps

    report("reading files", 4, 1.0)
    assert all(left is None for _, left in seen), "reading says nothing of what follows"
    report("features", 20, 70.0)
    report("sampling 256", 2, 4.0)
    report("comparing 256", 8, 16.0)
    report("heatmaps", 5, 10.0)
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] > 0.85
    left = [seconds for _, seconds in seen[10:] if seconds is not None]
    assert max(left) < 110
    assert left[-1] < 3


def test_a_job_of_jobs_counts_them():
    now = [0.0]
    tracker = shown.Tracker(clock=lambda: now[0])
    for number in range(3):
        tracker("folders", number, 4)
        for done in (0, 5, 10):
            tracker("features", done, 10)
            now[0] += 5.0
    assert tracker.words == "Folder 3 of 4: Computing features, 10 of 10"
    assert 0.6 < tracker.fraction < 0.8
    assert 10 < tracker.left < 30


# scikit-learn


@parametrize_with_checks([blemish.OutlierDetector(contamination=0.1, threads=1)])
def test_the_estimator_keeps_the_conventions_of_scikit_learn(estimator, check):
    check(estimator)


def test_the_estimator_finds_planted_outliers_and_refuses_a_wrong_share():
    rows = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    rows[0], rows[1], rows[2, :2] = 9, -9, (12, -12)
    found = blemish.OutlierDetector(threads=1).fit(rows)
    assert set(np.argsort(found.score_samples(rows))[:3]) == {0, 1, 2}
    assert found.run_.detector.findings == (), "a row is no near copy of the row that is nearest to it"
    new = np.array([[0.0] * 5, [-20.0, 20, -20, 20, -20]])
    assert found.predict(new).tolist() == [1, -1]
    assert found.decision_function(new) == pytest.approx(found.score_samples(new) - found.offset_)
    with pytest.raises(ValueError, match=r"`contamination` .*got 0\.7"):
        blemish.OutlierDetector(contamination=0.7).fit(rows)
