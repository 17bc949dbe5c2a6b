"""A Run is fitted again with its own options; where that cannot be, an error names the fix."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import blemish
from blemish.images import labels
from blemish.jobs.request import FitRequest
from blemish.machine.errors import RequestError
from blemish.runs.artifact import read_config
from command_line import QUICK, call, refused
from conftest import fill, picture, small_detector

LABELS = "path,label\npart-00.png,bad\npart-05.png,good\n"


def test_a_refit_has_the_options_of_the_fit_and_its_labels(photos, tmp_path, own_cache):
    fill(tmp_path / "good", 3, start=50)
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "mask.png")
    options = {"normals": tmp_path / "good", "roi": tmp_path / "mask.png", "false_alarms": 0.02, "masks": True,
               "max_pixels": 10_000, "group_regex": "part-(.*)", "threads": 1, "cache": tmp_path / "cache"}  # fmt: skip
    run = tmp_path / "run"
    blemish.fit(photos, run, detector=small_detector(), **options)
    (run / "labels.csv").write_text(LABELS)
    blemish.refit(run, tmp_path / "again")
    first, second = read_config(run), read_config(tmp_path / "again")
    assert second["request"] == first["request"]
    assert second["detector"] == first["detector"]
    assert (first["reviewed"], second["reviewed"]) == (0, 2)
    assert second["roi"] == "one mask"
    assert second["known_normals"] == 4
    assert not own_cache.exists()  # the cache of the fit was used

    blemish.refit(tmp_path / "again", tmp_path / "third")  # its labels came along
    assert read_config(tmp_path / "third")["reviewed"] == 2


def test_a_fit_with_labels_starts_the_labels_of_its_run_and_never_doubles_them(photos, tmp_path, small):
    (tmp_path / "mine.csv").write_text(LABELS)
    for _ in range(2):
        blemish.fit(photos, tmp_path / "run", detector=small, labels=tmp_path / "mine.csv", threads=1, force=True)
    scores = pd.read_csv(tmp_path / "run" / "scores.csv", index_col="path")
    assert scores.band["part-00.png"] == "reject"  # as the person found, whatever they score
    assert scores.band["part-05.png"] == "pass"
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {each["path"]: each["judged"] for each in report["images"] if each["judged"]} == {
        "part-00.png": "bad", "part-05.png": "good",
    }  # fmt: skip
    assert report["look_at"] == sum(each["band"] != "pass" and not each["judged"] for each in report["images"])
    rows, notes = labels.read(tmp_path / "run" / "labels.csv")
    assert [(row.path, row.label) for row in rows] == [("part-00.png", "bad"), ("part-05.png", "good")]
    assert not notes
    before = (tmp_path / "run" / "labels.csv").read_bytes()
    blemish.fit(photos, tmp_path / "run", detector=small, labels=tmp_path / "run" / "labels.csv", threads=1, force=True)
    assert (tmp_path / "run" / "labels.csv").read_bytes() == before


def test_carrying_adds_what_is_missing_and_removes_nothing(tmp_path):
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    labels.append(one, [labels.Row("a.png", "00", "good"), labels.Row("b.png", "01", "bad")])
    labels.carry(one, other)
    labels.append(other, [labels.Row("a.png", "00", "bad")])
    labels.append(one, [labels.Row("c.png", "02", "good")])
    labels.carry(one, other)
    assert [row.path for row in labels.read(other)[0]] == ["a.png", "b.png", "a.png", "c.png"]


def test_the_command_says_what_is_missing(photos, tmp_path):
    run = tmp_path / "run"
    assert call("fit", photos, "--out", run, *QUICK, "--quiet").exit_code == 0
    refused(call("refit", run, "--out", tmp_path / "again"), "labels.csv", "blemish review")
    (run / "labels.csv").write_text(LABELS)
    result = call("refit", run, "--out", tmp_path / "again", "--json", "--progress-lines")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["images"] == 10
    steps = [json.loads(line) for line in result.stderr.splitlines()]
    assert {"stage": "reading files", "done": 10, "total": 10} in steps
    refused(call("refit", run, "--out", tmp_path / "again"), "exists", "--force")
    photos.rename(tmp_path / "moved")
    refused(call("refit", run, "--out", tmp_path / "third"), "no longer in", "--images")
    assert call("refit", run, "--out", tmp_path / "third", "--images", tmp_path / "moved", "--quiet").exit_code == 0
    refused(call("refit", tmp_path / "moved", "--out", tmp_path / "fourth"), "not a Run of blemish")


def test_images_from_python_are_fitted_again_if_they_are_given(tmp_path, small):
    arrays, run, again = [picture(index) for index in range(10)], tmp_path / "run", tmp_path / "again"
    blemish.fit(arrays, run, detector=small, labels={"image-000000": "bad"}, threads=1)
    with pytest.raises(RequestError, match=r"`images`"):
        blemish.refit(run, again)
    blemish.refit(run, again, images=arrays)
    assert read_config(again)["reviewed"] == 1
    blemish.refit(run, again, images=arrays, labels={"image-000000": "bad", "image-000005": "good"}, force=True)
    assert read_config(again)["reviewed"] == 2


@pytest.mark.parametrize("kind", [np.asarray, Image.fromarray])
def test_labels_of_images_in_memory_count_as_those_of_files_do(photos, tmp_path, small, kind):
    words = {"part-00": "bad", "part-05": "good"}
    (tmp_path / "mine.csv").write_text(LABELS)
    of_files = blemish.fit(photos, detector=small.clone(), labels=tmp_path / "mine.csv", threads=1)
    images = [kind(picture(index)) for index in range(10)]
    by_id = {f"image-0000{name[-2:]}": word for name, word in words.items()}
    of_arrays = blemish.fit(images, detector=small.clone(), labels=by_id, threads=1)
    assert of_arrays.decision == of_files.decision
    assert of_arrays.decision.reviewed == 2


def test_labels_that_are_none_are_refused_with_the_forms_there_are(tmp_path, small):
    arrays = [picture(index) for index in range(10)]
    with pytest.raises(RequestError, match=r"dict from id to good or bad; got a list"):
        blemish.fit(arrays, detector=small, labels=["bad"] * 10)
    with pytest.raises(RequestError, match=r"good, .* got 'broken' for 'image-000000'"):
        blemish.fit(arrays, detector=small, labels={"image-000000": "broken"})
    with pytest.raises(RequestError, match=r"such as 'image-000000'"):
        blemish.fit(arrays, detector=small, labels={"0": "bad"})


def test_a_request_is_json_whatever_numbers_it_has():
    request = FitRequest(images="some/where", threshold=np.float32(1.5), levels=(np.int64(0), 10))
    found = json.loads(json.dumps(request.to_json()))
    assert found["threshold"] == 1.5
    assert found["levels"] == [0.0, 10.0]
    assert found["images"].endswith("/some/where")
    assert FitRequest(images="s3://bucket/folder").to_json()["images"] == "s3://bucket/folder"
