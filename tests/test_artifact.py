"""A Run that was damaged, tampered with or written by another version is refused in one sentence."""

import json

import numpy as np
import pytest
import torch

import blemish
from blemish.machine.errors import RequestError
from blemish.runs.artifact import own_hash, read_artifact, read_config, write_artifact
from conftest import picture


def change(run, edit, *, signed=True):
    """Edit `config.json`; with its own hash made again, so that what is tested is what lies behind that check."""
    config = json.loads((run / "config.json").read_text())
    edit(config)
    (run / "config.json").write_text(json.dumps(config | ({"sha256": own_hash(config)} if signed else {})))


def test_what_is_written_is_read_back(tmp_path):
    state = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1], dtype=torch.int64)}
    write_artifact(tmp_path, {"über": [1, 2.5, None]}, state)
    config, read = read_artifact(tmp_path)
    assert config["über"] == [1, 2.5, None]
    assert all(torch.equal(read[name], state[name]) for name in state)


def test_a_saved_run_scores_as_the_fresh_one(tmp_path, photos, small):
    fresh = blemish.fit(photos, tmp_path / "run", detector=small, threads=1)
    arrays = [picture(index) for index in range(3)]
    saved = blemish.load(tmp_path / "run")
    assert np.array_equal(saved.score(arrays).image, fresh.score(arrays).image)
    assert saved.threshold_ == fresh.threshold_
    assert np.array_equal(np.sort(saved.training_scores), np.sort(fresh.training_scores))


@pytest.mark.parametrize("name", ["config.json", "detector.safetensors", "scores.csv"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "garbage"])
def test_a_damaged_file_is_named(run, name, damage):
    path = run / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40] if damage == "truncated" else b"\x00\xff garbage")
    with pytest.raises(RequestError, match=name):
        blemish.load(run)


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c.update(detector="nearest_images"),
        lambda c: c["detector"].update(name="no_such"),
        lambda c: c["detector"]["settings"].update(no_such=1),
        lambda c: c["detector"]["settings"].update(random_state={}) or c["detector"].update(settings=None),
        lambda c: c.pop("decision"),
        lambda c: c.update(decision=[1]),
        lambda c: c.update(decoding={"range": 5}),
        lambda c: c.update(map_scale={"low": 3, "high": 1}),
        lambda c: c.update(files=[]),
        lambda c: c.update(files={"detector.safetensors": "0" * 64}),
        lambda c: c.update(program="other"),
    ],
)
def test_a_config_that_was_tampered_with_is_refused(run, edit):
    change(run, edit)
    with pytest.raises(RequestError):
        blemish.load(run)


def test_another_format_version_says_what_to_do(run):
    change(run, lambda config: config.update(format_version=99))
    with pytest.raises(RequestError, match=r"99.*reads 5: upgrade"):
        blemish.load(run)


def test_a_run_of_an_earlier_format_is_refused_with_what_to_do(run):
    change(run, lambda config: config.update(format_version=2))
    with pytest.raises(RequestError, match=r"version 2.*`force`"):
        blemish.load(run)


def test_a_folder_that_is_no_run_is_named(tmp_path, photos):
    with pytest.raises(RequestError, match=r"config\.json.*folder that `fit` left"):
        read_config(photos)
    with pytest.raises(RequestError, match=r"missing'.*folder that `fit` left"):
        read_config(tmp_path / "missing")


def test_the_scores_of_new_images_are_no_run_and_nobody_is_told_to_replace_them(tmp_path, photos, run):
    blemish.score(photos, run, tmp_path / "scored", threads=1)
    with pytest.raises(RequestError, match=r"/run'.*give the folder that `fit` wrote") as refusal:
        blemish.load(tmp_path / "scored")
    assert "force" not in str(refusal.value)


def test_images_of_the_fit_keep_their_scores_when_they_are_scored_again(tmp_path, photos, small):
    fitted = blemish.fit(photos, tmp_path / "again", detector=small)
    scores = blemish.load(tmp_path / "again").score(photos)
    assert {name: scores[name] for name in scores.ids} == {name: fitted.scores[name] for name in fitted.scores.ids}
    decision = blemish.score(photos, tmp_path / "again", tmp_path / "moved", threshold=fitted.threshold_).decision
    assert decision.contamination == fitted.contamination_
    assert (tmp_path / "moved" / "scores.csv").read_text() == (tmp_path / "again" / "scores.csv").read_text()


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (lambda c: c["decision"].update(threshold=1e6), "config.json"),
        (lambda c: c.pop("sha256"), "config.json"),
    ],
)
def test_a_config_edited_by_hand_is_refused_by_name(run, edit, name):
    change(run, edit, signed=False)
    with pytest.raises(RequestError, match=rf"{name}.*SHA-256"):
        blemish.load(run)


@pytest.mark.parametrize("name", ["detector.safetensors", "scores.csv"])
def test_one_changed_byte_in_a_file_of_a_run_is_refused_by_name(run, name):
    data = bytearray((run / name).read_bytes())
    data[len(data) // 2] ^= 1
    (run / name).write_bytes(bytes(data))
    with pytest.raises(RequestError, match=rf"{name}.*SHA-256 differs"):
        blemish.load(run)
