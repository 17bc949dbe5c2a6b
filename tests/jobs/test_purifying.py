"""A purified detector is what a fresh fit on the kept images gives, and scores the whole photos."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

import blemish
from blemish.detectors.nearest_images import NearestImages
from blemish.detectors.parts.views import View
from blemish.images import SUSPECTED, ImageSet
from blemish.machine.errors import JobError, RequestError
from blemish.purification import PurifySettings, purify
from conftest import fill, picture

SMALL = {"backbone": "efficientnet_lite0", "views": (View(96, ("16", "32")),)}
ASIDE = tuple(f"suspect/{number:02d}.png" for number in range(10))


class Learner(NearestImages):
    """Learns from what was set aside, and remembers the labels it was given."""

    uses_set_aside: ClassVar[bool] = True
    given: ClassVar[dict[str, int]] = {}

    def fit(self, images: ImageSet) -> "Learner":
        Learner.given = dict(images.labels)
        return super().fit(images)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """16-bit images in folders: with those in `suspect`, the median shape and the range of levels are others."""
    folder = tmp_path / "photos"
    for number in range(18):
        write(folder / "fine" / f"{number:02d}.png", number + 1, 96 if number < 8 else 64, 100)
    for number in range(10):
        write(folder / "suspect" / f"{number:02d}.png", number + 30, 96, 200)
    return folder


def write(path: Path, number: int, width: int, gain: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = Image.fromarray(picture(number)[:, :, 0]).resize((width, 64))
    Image.fromarray(np.asarray(levels).astype(np.uint16) * gain).save(path)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The purification is held: the images of the folder `suspect` are set aside, whatever they show."""

    class Oracle:
        def fit(self, images: ImageSet) -> None:
            pass

        def score(self, images: ImageSet) -> dict[str, float]:
            return {name: float(name.startswith("suspect")) for name in images.ids}

    def purified(images, detector, how, seed):
        return images, purify(images, Oracle(), replace(how, scale="raw", k=0), seed=seed)

    monkeypatch.setattr("blemish.jobs.fitting.purified", purified)


def fitted(images, out=None, **changes):
    return blemish.fit(images, out, detector=NearestImages(**SMALL), threads=1, **changes)


def same_bytes(first, second):
    one, two = first.detector.state(), second.detector.state()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_it_equals_a_fresh_fit_on_the_list_of_kept_images_bit_for_bit(tmp_path, photos, held):
    purified = fitted(photos, tmp_path / "run", purify=True)
    fresh = fitted(tmp_path / "run" / "kept.txt")
    assert same_bytes(purified, fresh)
    assert purified.decoding == fresh.decoding
    assert purified.detector.features_ == fresh.detector.features_
    everything = fitted(photos)
    assert everything.decoding != fresh.decoding, "the range of the whole photos is another"
    assert everything.detector.features_ != fresh.detector.features_, "so is its shape"


def test_the_pixels_of_what_was_set_aside_change_nothing_in_it(tmp_path, photos, held):
    before, all_before = fitted(photos, purify=True), fitted(photos)
    write(photos / ASIDE[3], 77, 64, 255)
    after, all_after = fitted(photos, purify=True), fitted(photos)
    assert same_bytes(before, after)
    assert before.decoding == after.decoding
    assert before.scores[ASIDE[3]] != after.scores[ASIDE[3]], "its own score does change"
    assert not same_bytes(all_before, all_after), "without purification it would matter"


def test_known_normals_are_learned_from_in_both(tmp_path, photos, held):
    for number in range(4):
        write(tmp_path / "good" / f"{number}.png", number + 60, 64, 120)
    purified = fitted(photos, tmp_path / "run", purify=True, normals=tmp_path / "good")
    assert same_bytes(purified, fitted(tmp_path / "run" / "kept.txt", normals=tmp_path / "good"))
    assert not same_bytes(purified, fitted(tmp_path / "run" / "kept.txt"))
    assert len(purified.scores) == 28


def test_the_scores_cover_the_whole_folder_on_one_scale(tmp_path, photos, held):
    run = fitted(photos, tmp_path / "run", purify=True)
    with (tmp_path / "run" / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert set(rows) == {*(f"fine/{number:02d}.png" for number in range(18)), *ASIDE}
    kept = fitted(tmp_path / "run" / "kept.txt")
    for name in kept.scores.ids:
        assert float(rows[f"fine/{name}"]["score"]) == pytest.approx(kept.scores[name]), "cross-fitted"
    fresh = kept.score([photos / name for name in ASIDE])
    for name in ASIDE:
        assert float(rows[name]["score"]) == pytest.approx(fresh[(photos / name).as_posix()]), "never seen"
    assert round(28 * run.contamination_) == sum(row["flagged"] == "1" for row in rows.values())
    assert run.contamination_ > 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["purification"]["images"], config["purification"]["kept"]) == (28, 18)
    assert "10 of 28 images were set aside" in (tmp_path / "run" / "report.html").read_text()


def test_images_set_aside_keep_their_score_when_they_come_again(tmp_path, photos, held):
    from blemish import load

    run = fitted(photos, tmp_path / "run", purify=True)
    again = load(tmp_path / "run").score(photos)
    for name in run.scores.ids:
        assert again[name] == pytest.approx(run.scores[name], abs=1e-5)


def test_a_detector_that_learns_from_defects_is_told_which_are_suspected(tmp_path, photos, held):
    run = blemish.fit(photos, tmp_path / "run", detector=Learner(**SMALL), purify=True, threads=1)
    assert Learner.given == dict.fromkeys(ASIDE, SUSPECTED)
    assert len(run.scores) == 28
    assert "learned from them as suspects" in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "config.json").read_text())["known_normals"] == 0


def test_no_bank_of_funad_holds_a_suspected_image_however_ordinary_it_looks(photos):
    from blemish.detectors.funad import FunAD

    small = {**SMALL, "steps": 100, "rebuild_every": 25, "pool_patches": 400, "trust": "full"}
    images = ImageSet.of(photos)
    suspects = [f"fine/{number:02d}.png" for number in range(8, 13)]
    rows = [images.ids.index(name) for name in suspects]

    def held(labelled: ImageSet, seed: int) -> bool:
        """Whether a bank holds a suspect."""
        detector = FunAD(**small, random_state=seed).fit(labelled)
        banks = [held for net in detector.trained_views_[0].nets for held in net.curve.held]
        assert banks
        return any(bool(each[rows].any()) for each in banks)

    assert held(images, 0)
    assert not held(replace(images, labels=dict.fromkeys(suspects, SUSPECTED)), 0)


def test_suspected_images_are_not_compared_with(photos):
    images = ImageSet.of(photos)
    labelled = replace(images, labels=dict.fromkeys(ASIDE, SUSPECTED))
    scorers = [NearestImages(**SMALL).fit(each).head_.scorers[0] for each in (labelled, images)]
    assert [len(scorer.patches) for scorer in scorers] == [len(images) - len(ASIDE), len(images)]
    layouts = [{tuple(row.tolist()) for row in scorer.layouts[:, :3].round(decimals=3)} for scorer in scorers]
    assert len(layouts[1] - layouts[0]) >= len(ASIDE), "others were compared with, in an embedding of others"


def test_levels_of_deep_images_have_one_name_in_all_jobs(photos, tmp_path):
    run = fitted(photos, levels=(0.0, 50_000.0), max_pixels=96 * 64)
    assert (run.decoding.range, run.decoding.max_pixels) == ((0.0, 50_000.0), 96 * 64)
    result = blemish.purify(
        photos, tmp_path / "out", detector=NearestImages(**SMALL), levels=(0.0, 50_000.0), threads=1
    )
    assert result.ids
    assert json.loads((tmp_path / "out" / "config.json").read_text())["decoding"]["range"] == [0.0, 50_000.0]
    with pytest.raises(RequestError, match=r"the lower one first.*got 9 3"):
        fitted(photos, levels=(9.0, 3.0))


def test_a_kept_list_holds_what_a_line_can_hold_and_says_what_it_cannot(tmp_path):
    folder = fill(tmp_path / "photos", 26)
    (folder / "part-03.png").rename(folder / "a\nb.png")
    (folder / "part-04.png").rename(folder / "#4 ü.png")
    result = blemish.purify(folder, tmp_path / "out", detector=NearestImages(**SMALL), keep=1.0)
    listed = (tmp_path / "out" / "kept.txt").read_text(encoding="utf-8").splitlines()
    assert len(listed) == 25
    assert str(folder / "#4 ü.png") in listed
    assert len(result.kept_ids) == 26
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "1 kept images are not in kept.txt, such as &#39;a\nb.png&#39;" in page
    assert len(ImageSet.of(tmp_path / "out" / "kept.txt")) == 25


def test_any_object_purifies_a_folder_and_arrays_are_listed_by_id(tmp_path):
    class Brightness:
        def fit(self, images):
            self.middle = np.mean([rgb.mean() for _, rgb in images.images()])
            return self

        def score(self, images):
            return [abs(rgb.mean() - self.middle) for _, rgb in images.images()]

    arrays = [picture(number) for number in range(12)]
    result = blemish.purify(arrays, tmp_path / "out", detector=Brightness())
    assert "image-000000" in result.set_aside_ids, "the one with the square"
    listed = (tmp_path / "out" / "kept.txt").read_text().splitlines()
    assert listed == list(result.kept_ids)
    with pytest.raises(RequestError, match="`settings`"):
        blemish.purify(arrays, detector=Brightness(), settings={"k": 3})


def test_features_alone_are_purified_as_they_are_fitted(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30, 9, 8)).astype(np.float32)
    rows[3] += 5
    result = blemish.purify(ImageSet.of_features(rows), tmp_path / "out", detector="nearest_images", threads=1)
    assert "image-000003" in result.set_aside_ids
    assert (tmp_path / "out" / "kept.txt").read_text().splitlines() == list(result.kept_ids)


def test_an_interrupted_job_takes_up_from_the_sub_models_that_were_finished(tmp_path, own_cache, monkeypatch):
    folder, fits = fill(tmp_path / "photos", 26), []
    before = NearestImages.fit

    def counted(self, images):
        fits.append(len(images))
        if len(fits) == 2:
            raise ValueError("the machine caught fire")
        return before(self, images)

    monkeypatch.setattr(NearestImages, "fit", counted)
    job = {"detector": NearestImages(**SMALL), "purify": PurifySettings(subsets=3), "threads": 1}
    with pytest.raises(JobError, match=r"1 of 3 .*sub-model 2 .*other 2 are kept"):
        blemish.fit(folder, tmp_path / "run", **job)
    assert not (tmp_path / "run").exists()
    assert len(list((own_cache / "purification").rglob("*.npy"))) == 2
    fits.extend([0] * 10)
    blemish.fit(folder, tmp_path / "run", **job)
    assert len(fits) == 3 + 10 + 2, "the one that failed, and the detector itself"
    assert not list((own_cache / "purification").iterdir())
