"""`blemish purify` and `blemish fit --purify` as a person runs them."""

import csv
import json

import pytest
from PIL import Image

from blemish.detectors.nearest_images import NearestImages
from blemish.detectors.parts.views import View
from command_line import QUICK, call, refused
from conftest import fill

SET = "--purify-set"
HOW = (SET, "k=1")


@pytest.fixture
def photos(tmp_path):
    return fill(tmp_path / "photos", 26)


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """At 96 pixels, and with one folder of features."""
    monkeypatch.setitem(NearestImages.__init__.__kwdefaults__, "views", (View(96, ("16", "32")),))
    return (*QUICK, "--cache", tmp_path / "cache")


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_purify_leaves_a_table_a_list_and_thumbnails_of_what_was_set_aside(tmp_path, photos, quick):
    (photos / "empty.png").touch()
    out = tmp_path / "out"
    result = call("purify", photos, "--out", out, *HOW, *quick)
    assert result.exit_code == 0, result.output
    assert "1 file was skipped" in result.stdout
    names = {
        "config.json",
        "kept.txt",
        "purification.csv",
        "report.html",
        "report.json",
        "report.md",
        "set-aside",
        "skipped.csv",
    }
    assert {path.name for path in out.iterdir()} == names
    table = rows(out / "purification.csv")
    assert list(table[0]) == ["path", "score", "spread", "kept"]
    assert table[0]["path"] == "part-00.png", "the one with the square"
    assert table[0]["kept"] == "0"
    aside = [row["path"] for row in table if row["kept"] == "0"]
    kept = [row["path"] for row in table if row["kept"] == "1"]
    assert f"Kept {len(kept)} of 26 images; {len(aside)} set aside" in result.stdout
    assert (out / "kept.txt").read_text().splitlines() == [str(photos / name) for name in sorted(kept)]
    assert sorted(path.name for path in (out / "set-aside").iterdir()) == sorted(f"{name}.jpg" for name in aside)
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64") == len(aside)
    assert "http" not in page.replace("http-equiv", "")

    result = call("fit", out / "kept.txt", "--out", tmp_path / "run", *quick)
    assert result.exit_code == 0, result.output
    assert {row["path"] for row in rows(tmp_path / "run" / "scores.csv")} == set(kept)


def test_purify_answers_in_json_and_can_be_told_what_to_keep(tmp_path, photos, quick):
    result = call("purify", photos, "--out", tmp_path / "out", "--keep", 0.5, *quick, "--json")
    summary = json.loads(result.stdout)
    assert (summary["images"], summary["kept"], summary["set_aside"]) == (26, 13, 13)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["purification"]["keep"] == 0.5
    result = call("purify", photos, "--out", tmp_path / "all", "--keep", 1, *quick)
    assert "all 26 were kept, nothing was set aside" in result.stdout
    assert "Nothing was set aside" in (tmp_path / "all" / "report.html").read_text()
    result = call("purify", photos, "--out", tmp_path / "few", "--keep", 0.01, *quick)
    assert "would have kept 0 of 26 images; the 8 that score lowest were kept" in result.stdout


def test_fit_purifies_within_the_main_job(tmp_path, photos, quick):
    result = call("fit", photos, "--out", tmp_path / "run", "--purify", *HOW, *quick, "--json")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["images"] == 26
    assert summary["set_aside"] == sum(row["kept"] == "0" for row in rows(tmp_path / "run" / "purification.csv")) > 0
    assert len(rows(tmp_path / "run" / "scores.csv")) == 26
    assert len((tmp_path / "run" / "kept.txt").read_text().splitlines()) == 26 - summary["set_aside"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count('<span class="badge">set aside</span>') == summary["set_aside"]

    result = call("fit", photos, "--out", tmp_path / "run", *quick, "--force")
    assert result.exit_code == 0, result.output
    kept = call("fit", photos, "--out", tmp_path / "kept", "--purify", SET, "keep=1", *quick)
    assert "all 26 were kept, nothing was set aside" in kept.stdout
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert not left & {"purification.csv", "kept.txt"}, "of the earlier result, they would lie"


def test_a_fit_sets_aside_only_what_stands_far_out_where_purify_cleans(tmp_path, photos, quick):
    alone = json.loads(call("purify", photos, "--out", tmp_path / "clean", *quick, "--json").stdout)
    within = json.loads(call("fit", photos, "--out", tmp_path / "run", "--purify", *quick, "--json").stdout)
    assert alone["set_aside"] > within["set_aside"] > 0
    how = [json.loads((tmp_path / each / "config.json").read_text())["purification"] for each in ("clean", "run")]
    assert [each["cut"] for each in how] == ["mad", "far_out"]
    first = rows(tmp_path / "run" / "purification.csv")[0]
    assert (first["path"], first["kept"]) == ("part-00.png", "0"), "the one with the square"
    for setting, result in (("subsets=3", (3, "far_out", 0.67)), ("k=2", (2, "mad", 2.0))):
        call("fit", photos, "--out", tmp_path / setting, "--purify", SET, setting, *quick)
        kept = json.loads((tmp_path / setting / "config.json").read_text())["purification"]
        assert (kept["subsets"], kept["cut"], kept["k"]) == result, "a setting changes no other, but k asks for its cut"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--detector", "padimm"], ["'padimm'", "did you mean"]),
        ([SET, "subset=4"], ["'subset'", "did you mean subsets"]),
        ([SET, "subsets=many"], ["'subsets'", "int", "'many'"]),
        ([SET, "subsets=40"], ["40 subsets cannot be made of 26 different images"]),
        (
            [SET, "subsets=5"],
            ["one holds 5, and nearest_images needs 8; take 3 subsets, or give at least 40"],
        ),
        ([SET, "aggregate=median"], ["'aggregate' must be one of mean, max, max_variance; got 'median'"]),
        (["--keep", "0"], ["above 0 up to 1; got 0"]),
        (["--keep", "0.5", SET, "k=1"], ["'k' would change nothing: 'keep' says how many"]),
        (
            [SET, "cut=mixture", SET, "k=1"],
            ["'k' would change nothing: the cut 'mixture' has no 'k'"],
        ),
        ([SET, "k=1", SET, "cut=far_out"], ["the cut 'far_out' has no 'k'"]),
        ([SET, "k=1", SET, "k=2"], ["'k' is given twice: 1 and 2"]),
        (
            [
                SET,
                "subsets=2",
                SET,
                "aggregate=max_variance",
                SET,
                "own_subset=exclude",
            ],
            ["give 1, as its"],
        ),
        (
            [SET, "subsets=2", SET, "aggregate=max_variance", SET, "by=patchcore"],
            ["needs two scores"],
        ),
        (["--group-regex", "part-(\\d"], ["'part-(\\d' is no regular expression"]),
        (["--group-regex", "shot"], ["'shot' matches none of the 26 paths, such as 'part-00.png'"]),
        (["--group-regex", "^(.*)-"], ["too few images: 1 of different content"]),
        (["--keep", "2"], ["above 0 up to 1; got 2"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_request_is_one_sentence(tmp_path, photos, quick, words, parts):
    refused(call("purify", photos, "--out", tmp_path / "out", *quick, *words), *parts)
    assert not (tmp_path / "out").exists()


def test_settings_of_a_purification_need_one(tmp_path, photos, quick):
    refused(call("fit", photos, "--out", tmp_path / "run", *HOW, *quick), "--purify-set needs --purify", "k=1")


def test_a_run_is_not_overwritten_and_results_are_not_taken_for_images(tmp_path, photos, run, quick):
    refused(call("purify", photos, "--out", run, "--force", *quick), "holds a detector")
    for _ in range(2):
        result = call("purify", photos, "--out", photos / "out", "--force", *HOW, *quick, "--json")
        assert json.loads(result.stdout)["images"] == 26, "thumbnails are no images of the photos"
    refused(call("fit", photos / "out", "--out", tmp_path / "run2", *quick), "is a result of blemish")


def test_a_sub_model_that_fails_is_named_and_the_job_fails(tmp_path, photos, quick, monkeypatch):
    fits = []
    before = NearestImages.fit

    def fragile(self, images):
        fits.append(images)
        if len(fits) == 2:
            raise ValueError("singular covariance")
        return before(self, images)

    monkeypatch.setattr(NearestImages, "fit", fragile)
    result = call("purify", photos, "--out", tmp_path / "out", *HOW, *quick)
    assert result.exit_code == 1
    said = result.stderr.strip()
    assert said.startswith("blemish: 1 of 2 sub-models failed: sub-model 2 of 2 (nearest_images, ")
    assert said.endswith("singular covariance. The scores of the other one are kept: the same job takes up from there.")
    assert "\n" not in said
    assert not (tmp_path / "out").exists()
    assert call("purify", photos, "--out", tmp_path / "out", *HOW, *quick).exit_code == 0
    assert len(fits) == 3


def test_unreadable_images_take_no_part(tmp_path, photos, quick):
    (photos / "torn.png").write_bytes((photos / "part-01.png").read_bytes()[:3000])
    refused(
        call("purify", photos, "--out", tmp_path / "out", *HOW, *quick, "--strict"),
        "cannot be used: 1, such as",
        "torn",
    )
    result = call("purify", photos, "--out", tmp_path / "out", *HOW, *quick, "--json")
    assert json.loads(result.stdout)["skipped"] == 1
    assert [row["path"] for row in rows(tmp_path / "out" / "skipped.csv")] == ["torn.png"]


def test_a_purification_is_neither_loaded_nor_reviewed_nor_to_be_replaced(photos, tmp_path, quick):
    assert call("purify", photos, "--out", tmp_path / "out", *HOW, *quick).exit_code == 0
    for words in (
        ("review", tmp_path / "out"),
        ("score", photos, "--model", tmp_path / "out", "--out", tmp_path / "new"),
    ):
        assert "--force" not in refused(call(*words), "a purification")


def test_a_setting_without_its_value_names_the_flag_that_was_typed(photos, tmp_path, quick):
    refused(call("fit", photos, "--out", tmp_path / "out", "--purify", "--purify-set", "keep"), "--purify-set", "keep")


def test_images_that_are_all_one_colour_are_no_folder_to_purify(tmp_path, quick):
    (tmp_path / "flat").mkdir()
    for level in range(26):
        Image.new("RGB", (64 + level, 64), (128, 128, 128)).save(tmp_path / "flat" / f"{level}.png")
    result = call("purify", tmp_path / "flat", "--out", tmp_path / "out", *HOW, *quick)
    assert result.exit_code == 1
    assert "12 of 12 images looked at are the same flat colour" in result.stderr
    assert not (tmp_path / "out").exists()
