"""fit and score with labels, rules, a region of interest: what a person asks for changes what is left."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import blemish
from blemish.machine.errors import RequestError
from blemish.runs.artifact import read_config
from conftest import fill, picture


@pytest.fixture
def labels(tmp_path):
    def write(**said):
        lines = [f"{name.replace('_', '-')}.png,{word}" for name, word in said.items()]
        (tmp_path / "labels.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
        return tmp_path / "labels.csv"

    return write


def test_labels_reach_the_detector_and_the_run_says_so(tmp_path, photos, small, labels, monkeypatch):
    seen = {}
    fit = type(small).fit
    monkeypatch.setattr(type(small), "fit", lambda self, images: seen.update(images.labels) or fit(self, images))
    file = labels(part_00="bad", part_03="good", gone="bad")
    run = blemish.fit(photos, tmp_path / "run", detector=small, labels=file, threads=1)
    assert seen == {"part-00.png": 1, "part-03.png": 0}
    assert run.decision.reviewed == 2
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["reviewed"] == 2
    report = (tmp_path / "run" / "report.html").read_text()
    assert "gone.png" in report
    assert "2 labels, 1 good and 1 bad" in report


def test_a_confirmed_defect_makes_nothing_look_normal(tmp_path, small, labels):
    """Two defects make each other look normal, until one is said to be bad and so its look is not learned."""
    fill(tmp_path / "photos", 10, start=1)
    for index in range(2):  # near copies, not equal ones
        rgb = picture(50 + index)
        rgb[20:40, 20:40] = 255
        Image.fromarray(rgb).save(tmp_path / "photos" / f"part-5{index}.png")
    detector = small.clone(k=1)  # with which a twin is enough
    free = blemish.fit(tmp_path / "photos", detector=detector, threads=1).scores
    known = labels(part_50="bad")
    labelled = blemish.fit(tmp_path / "photos", detector=detector.clone(), labels=known, threads=1).scores

    def lead(scores):
        others = np.median([scores[name] for name in scores.ids if not name.startswith("part-5")])
        return scores["part-51.png"] - others

    assert lead(labelled) > lead(free)


def test_the_decision_is_kept_with_the_run_and_moved_by_the_sensitivity(tmp_path, photos, small):
    run = blemish.fit(photos, tmp_path / "run", detector=small, sensitivity=1, threads=1)
    assert run.decision.sensitivity == 1
    assert blemish.load(tmp_path / "run").decision == run.decision
    strict, cautious = (blemish.score(photos, run, sensitivity=each).decision for each in (1.0, 0.0))
    assert strict.threshold == run.threshold_
    assert cautious.threshold >= strict.threshold
    with pytest.raises(RequestError, match=r"`threshold` and `sensitivity`"):
        blemish.fit(photos, detector=small, sensitivity=0.5, threshold=2)


def test_known_good_images_promise_a_rate_and_bound_the_false_flags(tmp_path, photos, small):
    fill(tmp_path / "normals", 12, start=40)
    words = {"detector": small, "normals": tmp_path / "normals", "threads": 1}
    run = blemish.fit(photos, tmp_path / "run", false_alarms=0.3, **words)
    assert run.decision.promise.images == 12
    assert run.decision.promise.kept
    assert len(run.decision.reference) == 12
    fill(tmp_path / "new", 6, start=80)
    blemish.score(tmp_path / "new", run, tmp_path / "scored", threshold=-9, threads=1)
    assert read_config(tmp_path / "scored")["false_share"] == pytest.approx(1.0)
    assert "band" in (tmp_path / "scored" / "scores.csv").read_text().splitlines()[0]


def test_a_confirmed_defect_among_the_normals_is_taken_out_and_named(tmp_path, photos, small, labels):
    (tmp_path / "normals").mkdir()
    for number in range(4):
        shutil.copy(photos / f"part-0{number}.png", tmp_path / "normals")
    run = blemish.fit(
        photos, tmp_path / "run", detector=small, normals=tmp_path / "normals", labels=labels(part_00="bad"), threads=1
    )
    assert "part-00.png" in run.scores.ids
    assert len(run.decision.reference) == 3
    assert len(run.scores) == 7
    assert "part-00.png" in (tmp_path / "run" / "report.html").read_text()


def test_columns_are_only_appended(tmp_path, small):
    fill(tmp_path / "photos", 30)
    blemish.fit(tmp_path / "photos", tmp_path / "run", detector=small, threads=1, masks=True, threshold=3)
    table = pd.read_csv(tmp_path / "run" / "scores.csv")
    assert list(table.columns)[:3] == ["path", "score", "flagged"]
    assert set(table.columns) <= {"path", "score", "flagged", "probability", "band"}
    regions = pd.read_csv(tmp_path / "run" / "regions.csv")
    assert set(regions["path"]) <= set(table["path"][table["flagged"] == 1])
    best = regions[regions["path"] == "part-00.png"].iloc[0]
    assert best["left"] < 40
    assert best["right"] > 20
    assert (tmp_path / "run" / "masks" / "part-00.png.png").is_file()


def test_outside_of_the_region_of_interest_nothing_is_scored(tmp_path, photos, small):
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 44:] = 255  # the bright square of the first picture lies left of it
    Image.fromarray(mask).save(tmp_path / "mask.png")
    detector = small.clone(smoothing=0.0)
    whole = blemish.fit(photos, detector=detector.clone(), threads=1).scores
    run = blemish.fit(photos, tmp_path / "run", detector=detector, roi=tmp_path / "mask.png", threads=1)
    assert whole.ranking()[0] == "part-00.png"
    inside = whole["part-00.png"] - run.scores["part-00.png"]
    assert inside > 0
    levels = run.scores.map("part-00.png", (64, 64))
    assert levels[:, :36].max() <= levels[:, 48:].min() + 1e-5
    saved = blemish.load(tmp_path / "run")
    new = [picture(100)]
    left, right = picture(100), picture(100)
    left[10:40, 2:20] = 255
    right[10:40, 48:62] = 255
    scores = [float(saved.score([each]).image[0]) for each in (new[0], left, right)]
    assert scores[2] > scores[0]
    assert scores[2] > scores[1]


def test_a_mask_that_is_none_is_refused(tmp_path, photos, small):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "black.png")
    with pytest.raises(RequestError, match="white where to look"):
        blemish.fit(photos, detector=small, roi=tmp_path / "black.png")
    with pytest.raises(RequestError, match=r"none\.png"):
        blemish.fit(photos, detector=small, roi=tmp_path / "none.png")


def test_a_mask_for_each_image_needs_masks_for_new_ones(tmp_path, photos, small):
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "masks" / "part-00.png.png")
    plain = blemish.fit(photos, detector=small.clone(), threads=1).scores
    run = blemish.fit(photos, tmp_path / "run", detector=small, roi=tmp_path / "masks", threads=1)
    assert np.array_equal(plain.image, run.scores.image)
    with pytest.raises(RequestError, match="give the masks of these ones"):
        blemish.score(photos, tmp_path / "run", tmp_path / "new")
    blemish.score(photos, tmp_path / "run", tmp_path / "new", roi=tmp_path / "masks", threads=1)
