"""`blemish fit` and `blemish score` as a person runs them, from the words to the files and the exit code."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from command_line import QUICK, call, refused, table
from conftest import fill, picture


def test_fit_and_score_leave_what_the_readme_says(tmp_path, photos):
    for name in ("empty.png", "notes.txt", ".hidden.txt"):
        (photos / name).touch()
    result = call("fit", photos, "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == 0, result.output
    assert "1 file was skipped" in result.stdout
    names = {"detector.safetensors", "config.json", "scores.csv", "skipped.csv", "heatmaps", "report.html"}
    names |= {"maps.safetensors", "regions.csv", "report.json", "report.md"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names
    rows = table(tmp_path / "run" / "scores.csv")
    assert list(rows[0])[:3] == ["path", "score", "flagged"]
    assert rows[0]["path"] == "part-00.png", "the one with the square"
    values = [float(row["score"]) for row in rows]
    assert values == sorted(values, reverse=True)
    not_scored = [
        {"path": "empty.png", "reason": "the file is empty (0 bytes)"},
        {"path": "notes.txt", "reason": ".txt files are not looked at"},
    ]
    assert table(tmp_path / "run" / "skipped.csv") == not_scored
    assert json.loads((tmp_path / "run" / "config.json").read_text())["skipped"] == 1, "what was meant to be an image"

    result = call("score", photos, "--model", tmp_path / "run", "--out", tmp_path / "new", "--threads", 1)
    assert result.exit_code == 0, result.output
    assert len(table(tmp_path / "new" / "scores.csv")) == 10
    assert table(tmp_path / "new" / "skipped.csv") == not_scored
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_json_is_json_and_alone(tmp_path, photos, own_cache):
    result = call("fit", photos, "--out", tmp_path / "rün", *QUICK, "--json")
    summary = json.loads(result.stdout)
    assert summary["images"] == 10
    assert summary["out"] == str(tmp_path / "rün")
    result = call("score", photos, "--model", tmp_path / "rün", "--out", tmp_path / "new", "--json", "--threads", 1)
    assert json.loads(result.stdout)["skipped"] == 0
    assert json.loads(call("cache", "list", "--json").stdout)["sets"][0]["images"] == 10


def test_quiet_is_silent(tmp_path, photos, run):
    result = call("score", photos, "--model", run, "--out", tmp_path / "new", "--quiet", "--threads", 1)
    assert (result.exit_code, result.output) == (0, "")
    result = call("fit", photos, "--out", tmp_path / "again", *QUICK, "--quiet")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--detector", "nearest_imagse"], ["'nearest_imagse'", "did you mean nearest_images"]),
        (["--detector", "Patchcore"], ["'Patchcore'", "did you mean patchcore?"]),
        (["--detector", "nearest_images", "--set", "retreived=3"], ["'retreived'", "did you mean retrieved"]),
        (["--detector", "nearest_images", "--set", "retrieved=many"], ["'retrieved'", "int", "'many'"]),
        (["--detector", "nearest_images", "--set", "retrieved"], ["NAME=VALUE", "'retrieved'"]),
        (["--detector", "nearest_images", "--set", "views=1"], ["'views'"]),
        (["--detector", "padim", "--set", "training_scores=false"], ["set 'training_scores' to true"]),
        (["--levels", "9", "3"], ["--levels", "lower one first", "9 3"]),
        ([*QUICK, "--threshold", "1", "--contamination", "0.1"], ["exclude each other"]),
        ([*QUICK, "--contamination", "3"], ["0 up to less than 1", "3"]),
        ([*QUICK, "--device", "cuda:77"], ["'cuda:77' cannot be used", "leave out --device"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_request_is_one_sentence(tmp_path, photos, words, parts):
    words = words if "--detector" in words else ["--detector", "nearest_images", *words]
    refused(call("fit", photos, "--out", tmp_path / "run", *words), *parts)
    assert not (tmp_path / "run").exists()


def test_wrong_folders_are_named(tmp_path, photos, run):
    out = ["--out", tmp_path / "out", *QUICK]
    refused(call("fit", tmp_path / "none", *out), tmp_path / "none", "does not exist", f"'{tmp_path}'")
    (tmp_path / "empty").mkdir()
    refused(call("fit", tmp_path / "empty", *out), "holds no files")
    refused(call("fit", run, *out), "is a result of blemish")
    refused(call("score", photos, "--model", photos, "--out", tmp_path / "new"), "is not a Run of blemish")
    refused(call("score", photos, "--model", run, "--out", run, "--force"), "holds a detector")
    assert not (tmp_path / "out").exists()


def test_too_few_or_identical_images_say_how_many_are_needed(tmp_path):
    few = fill(tmp_path / "few", 5)
    refused(call("fit", few, "--out", tmp_path / "run", *QUICK), "too few images: 5 ", "at least 8")
    for index in range(20):
        shutil.copy(few / "part-00.png", few / f"copy-{index}.png")
    refused(call("fit", few, "--out", tmp_path / "run", *QUICK), "5 of different content, 25 files")


def test_images_without_any_variation_are_no_reason_to_fail(tmp_path):
    (tmp_path / "flat").mkdir()
    for level in range(10):
        Image.new("RGB", (64, 64), (100 + level,) * 3).save(tmp_path / "flat" / f"{level}.png")
    result = call("fit", tmp_path / "flat", "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == 0, result.output
    assert all(np.isfinite(float(row["score"])) for row in table(tmp_path / "run" / "scores.csv"))


def test_truncated_images_are_skipped_and_strict_stops_at_them(tmp_path, photos):
    (photos / "torn.png").write_bytes((photos / "part-01.png").read_bytes()[:3000])
    (photos / "torn copy.png").write_bytes((photos / "torn.png").read_bytes())
    refused(call("fit", photos, "--out", tmp_path / "run", *QUICK, "--strict"), "cannot be used: 2, such as", "torn")
    assert not (tmp_path / "run").exists()
    assert call("fit", photos, "--out", tmp_path / "run", *QUICK).exit_code == 0
    assert {row["path"] for row in table(tmp_path / "run" / "skipped.csv")} == {"torn.png", "torn copy.png"}
    result = call("score", photos, "--model", tmp_path / "run", "--out", tmp_path / "new", "--threads", 1)
    assert result.exit_code == 0, result.output
    assert "2 files were skipped" in result.stdout
    assert {row["path"] for row in table(tmp_path / "new" / "skipped.csv")} == {"torn.png", "torn copy.png"}
    words = ["--model", tmp_path / "run", "--out", tmp_path / "strict", "--threads", 1, "--strict"]
    refused(call("score", photos, *words), "cannot be used: 2, such as")


def test_larger_images_than_max_pixels_are_skipped(tmp_path, photos, run):
    Image.fromarray(picture(1)).resize((128, 128)).save(photos / "large.png")
    words = ["--model", run, "--threads", 1, "--max-pixels", 10_000]
    assert call("score", photos, "--out", tmp_path / "new", *words).exit_code == 0
    (row,) = table(tmp_path / "new" / "skipped.csv")
    assert row == {"path": "large.png", "reason": "128 x 128 is 16,384 pixels, more than `max_pixels` 10,000"}


def test_the_range_of_the_fit_is_stored_and_used_again(tmp_path):
    def write(folder, gain):
        folder.mkdir()
        for index in range(10):
            levels = picture(index)[:, :, 0].astype(np.uint16) * gain
            Image.fromarray(levels).save(folder / f"{index}.png")
        return folder

    deep, bright = write(tmp_path / "deep", 100), write(tmp_path / "bright", 130)
    assert call("fit", deep, "--out", tmp_path / "run", *QUICK).exit_code == 0
    low, high = json.loads((tmp_path / "run" / "config.json").read_text())["decoding"]["range"]
    assert 0 < low < high < 25_600
    for folder in (deep, bright):
        words = ["--model", tmp_path / "run", "--out", tmp_path / folder.name[0], "--threads", 1]
        assert call("score", folder, *words).exit_code == 0
    first, second = (table(tmp_path / name / "scores.csv")[-1]["score"] for name in "db")
    assert float(second) > float(first), "brighter images are brighter, not normalised away"


def test_deep_images_for_a_detector_that_never_saw_any_need_a_range(tmp_path, run):
    (tmp_path / "deep").mkdir()
    Image.fromarray(picture(1)[:, :, 0].astype(np.uint16) * 256).save(tmp_path / "deep" / "0.png")
    words = ["--model", run, "--threads", 1]
    result = call("score", tmp_path / "deep", "--out", tmp_path / "a", *words)
    assert result.exit_code in (1, 2)
    assert "give --levels" in result.stderr
    assert call("score", tmp_path / "deep", "--out", tmp_path / "b", *words, "--levels", 0, 65535).exit_code == 0


def test_names_of_all_kinds_go_through(tmp_path):
    photos = tmp_path / "photos, \"ä\" 'x'"
    fill(photos, 8)
    names = ["a b.png", "a,b.png", 'q"q.png', "n\nn.png", "ä漢🙂.png", "#1.png", "=1.png", "%41&<b>.png"]
    for index, name in enumerate(names):
        Image.fromarray(picture(50 + index)).save(photos / name)
    try:
        (photos / os.fsdecode(b"caf\xe9.png")).write_bytes((photos / "a b.png").read_bytes()[:-1] + b"x")
        names.append("caf\\xe9.png")
    except OSError:
        pass  # this file system takes UTF-8 names only
    result = call("fit", photos, "--out", tmp_path / "rün 1", *QUICK, "--contamination", "0.9")
    assert result.exit_code == 0, result.output
    found = {row["path"] for row in table(tmp_path / "rün 1" / "scores.csv")}
    found |= {row["path"] for row in table(tmp_path / "rün 1" / "skipped.csv")}
    assert set(names) <= found


def test_lists_and_known_normals_are_taken(tmp_path, photos):
    good = fill(tmp_path / "good", 4, start=30)
    (tmp_path / "list.txt").write_text("".join(f"photos/part-{index:02d}.png\n" for index in range(9)))
    result = call("fit", tmp_path / "list.txt", "--out", tmp_path / "run", "--normals", good, *QUICK)
    assert result.exit_code == 0, result.output
    assert len(table(tmp_path / "run" / "scores.csv")) == 9
    assert json.loads((tmp_path / "run" / "config.json").read_text())["known_normals"] == 4


def test_results_inside_the_image_folder_are_not_taken_for_images(tmp_path, photos):
    for _ in range(2):
        result = call("fit", photos, "--out", photos / "run", *QUICK, "--force", "--contamination", "0.5", "--json")
        assert json.loads(result.stdout)["images"] == 10
    result = call("score", photos, "--model", photos / "run", "--out", photos / "new", "--json", "--threads", 1)
    assert json.loads(result.stdout)["images"] == 10


def test_force_replaces_what_was_generated_and_never_the_labels(tmp_path, photos):
    run = tmp_path / "run"
    assert call("fit", photos, "--out", run, *QUICK).exit_code == 0
    refused(call("fit", photos, "--out", run, *QUICK), "exists", "--force")
    (run / "labels.csv").write_text("mine")
    before = (run / "scores.csv").read_bytes()
    refused(call("fit", tmp_path / "none", "--out", run, "--force", *QUICK), "does not exist")
    assert (run / "scores.csv").read_bytes() == before
    fill(photos, 2, start=40)
    assert call("fit", photos, "--out", run, "--force", *QUICK).exit_code == 0
    assert (run / "labels.csv").read_text() == "mine"
    assert len(table(run / "scores.csv")) == 12


def test_a_full_cache_is_one_sentence_and_leaves_no_run(tmp_path, photos, monkeypatch):
    import errno

    def refuse(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    result = call("fit", photos, "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == 1
    assert "is full; free some space" in result.stderr
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob(".run*"))


def test_debug_shows_the_trace_and_nothing_else_does(tmp_path):
    words = ["fit", tmp_path / "none", "--out", tmp_path / "run", "--detector", "nearest_images"]
    assert "Traceback" not in call(*words).output
    assert isinstance(call(*words, "--debug").exception, ValueError)


@pytest.mark.parametrize("command", ["fit", "purify"])
def test_a_folder_of_nothing_but_known_normals_is_refused(tmp_path, photos, command):
    words = (command, photos, "--normals", photos, "--out", tmp_path / "run")
    refused(call(*words, *QUICK), "All 10 images are among the --normals")


def test_normals_within_the_folder_are_learned_from_but_not_listed(tmp_path, photos):
    fill(photos / "good", 4, start=40)
    result = call("fit", photos, "--out", tmp_path / "run", "--normals", photos / "good", *QUICK)
    assert result.exit_code == 0, result.output
    assert all(not row["path"].startswith(("good", "normals")) for row in table(tmp_path / "run" / "scores.csv"))
    assert len(table(tmp_path / "run" / "scores.csv")) == 10


def test_pixels_is_the_size_at_which_images_are_looked_at(tmp_path, photos):
    result = call("fit", photos, "--out", tmp_path / "run", "--pixels", "96", "--quiet", *QUICK)
    assert result.exit_code == 0, result.output
    detector = blemish.load(tmp_path / "run").detector
    assert [(spec.pixels, spec.size) for spec in detector.feature_specs()] == [(96, (96, 96))]
    large = call("fit", photos, "--out", tmp_path / "other", "--pixels", "3000", *QUICK)
    refused(large, "'pixels'", "64 and 2048", "3000")


def test_near_copies_are_named_on_the_console_in_json_and_in_the_report(tmp_path, photos):
    again = picture(5).astype(np.int16)
    for shot in range(2):
        noisy = again + np.random.default_rng(shot).integers(-1, 2, again.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(photos / f"part-05-{shot}.png")
    result = call("fit", photos, "--out", tmp_path / "run", *QUICK)
    assert "3 images look nearly alike, such as 'part-05" in result.stdout
    assert "look nearly alike" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    grouped = ("--group-regex", r"part-(\d+)", "--json")
    notes = json.loads(call("fit", photos, "--out", tmp_path / "grouped", *grouped, *QUICK).stdout)["notes"]
    assert notes == []
