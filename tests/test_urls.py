"""Images behind URLs of fsspec: listed once, fetched when asked for, the same numbers as from a folder."""

import zipfile

import fsspec
import numpy as np
import pytest

import blemish
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from blemish.runs.artifact import read_config, write_config
from blemish.runs.run import load
from command_line import QUICK, call, refused, table
from conftest import fill, small_detector

ROOT = "memory://bucket/parts"


@pytest.fixture
def bucket(photos):
    """The photos as objects below `ROOT`, one of them deeper."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    (photos / "deep").mkdir()
    (photos / "part-03.png").rename(photos / "deep" / "part-03.png")
    for path in photos.rglob("*.png"):
        memory.pipe(f"/bucket/parts/{path.relative_to(photos).as_posix()}", path.read_bytes())
    yield memory
    memory.store.clear()


def test_ids_are_paths_below_the_url_and_content_is_that_of_the_files(bucket, photos):
    found, local = ImageSet.of(ROOT), ImageSet.of(photos)
    assert found.ids[0] == "deep/part-03.png"
    assert found.place == ROOT
    assert (found.ids, found.content) == (local.ids, local.content)
    np.testing.assert_array_equal(found.read("deep/part-03.png"), local.read("deep/part-03.png"))


def test_fit_and_score_from_a_url_give_the_scores_of_the_folder(bucket, photos, tmp_path):
    here = blemish.fit(photos, detector=small_detector(), threads=1)
    there = blemish.fit(ROOT, tmp_path / "run", detector=small_detector(), threads=1)
    np.testing.assert_array_equal(there.training_scores, here.training_scores)
    result = call("score", ROOT, "--model", tmp_path / "run", "--out", tmp_path / "new", "--threads", 1)
    assert result.exit_code == 0, result.output
    assert {row["path"] for row in table(tmp_path / "new" / "scores.csv")} == set(there.scores.ids)


def test_the_command_takes_a_url_of_normals_and_a_folder_of_folders(bucket, tmp_path):
    result = call("fit", "memory://bucket", "--each-subfolder", "--out", tmp_path / "runs", *QUICK)
    assert result.exit_code == 0, result.output
    assert [row["name"] for row in table(tmp_path / "runs" / "subfolders.csv")] == ["parts"]
    fill(tmp_path / "more", 10, start=30)
    result = call("fit", tmp_path / "more", "--normals", ROOT, "--out", tmp_path / "run", *QUICK)
    assert result.exit_code == 0, result.output


def test_a_file_url_is_the_folder_it_names(photos):
    assert ImageSet.of(photos.as_uri()).root == photos
    spaced = fill(photos / "with space", 2)
    assert ImageSet.of(spaced.as_uri()).root == ImageSet.of(f"file://{spaced}").root == spaced


def test_a_list_may_name_urls_which_is_what_purify_leaves(bucket, tmp_path):
    for path in fill(tmp_path / "more", 14, start=40).iterdir():
        bucket.pipe(f"/bucket/parts/{path.name}", path.read_bytes())
    kept = blemish.purify(ROOT, tmp_path / "pure", detector=small_detector(), threads=1).kept_ids
    found = ImageSet.of(tmp_path / "pure" / "kept.txt")
    assert len(found) == len(kept)
    assert f"{found.place}/{found.ids[0]}" == f"{ROOT}/{kept[0]}"
    (tmp_path / "mixed.csv").write_text(f"path\n{ROOT}/part-00.png\npart-01.png\n")
    with pytest.raises(RequestError, match=r"'part-01\.png'"):
        ImageSet.of(tmp_path / "mixed.csv")
    assert len(ImageSet.of([f"{ROOT}/part-00.png", f"{ROOT}/part-01.png"])) == 2


def test_chained_urls_work_such_as_an_archive(photos, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in sorted(photos.iterdir()):
            archive.write(path, f"parts/{path.name}")
        archive.writestr("parts/../../evil.png", b"x")
    found = ImageSet.of(f"zip://parts::{tmp_path / 'a.zip'}")
    assert len(found) == 10
    assert found.ids[0] == "part-00.png"
    assert found.sources["part-00.png"].url == f"zip://parts/part-00.png::{tmp_path / 'a.zip'}"
    assert found.read("part-00.png").shape == (64, 64, 3)


def test_hidden_files_results_and_other_kinds_are_left_out(bucket):
    for name in (".hidden/a.png", "run/config.json", "run/scores.csv", "run/heatmaps/a.png", "notes.txt"):
        bucket.pipe(f"/bucket/parts/{name}", b"x")
    assert len(ImageSet.of(ROOT)) == 10
    with pytest.raises(RequestError, match="give the images' folder"):
        ImageSet.of(f"{ROOT}/run")


def test_what_is_gone_or_damaged_when_it_is_fetched_is_skipped_with_its_reason(bucket, own_cache):
    bucket.pipe("/bucket/parts/bad.png", b"no image")
    found = ImageSet.of(ROOT)
    assert "not an image" in found.skipped["bad.png"]
    bucket.rm("/bucket/parts/part-00.png")
    run = blemish.fit(found, detector=small_detector(), threads=1)
    assert "cannot be fetched: FileNotFoundError" in run.skipped["part-00.png"]
    assert found.packed(["part-00.png"]).sources == {"part-00.png": b""}


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("nosuch://a/b", ("Protocol not known", "check the URL")),
        ("memory://no/such", ("no/such",)),
        ("hdfs://host/folder", ("cannot be opened",)),
        (f"{ROOT}/part-00.png", ("is one file; give the URL of a folder",)),
    ],
)
def test_a_url_that_cannot_be_used_is_one_sentence(bucket, tmp_path, url, parts):
    refused(call("fit", url, "--out", tmp_path / "run"), url, *parts)
    assert not (tmp_path / "run").exists()


def test_a_missing_package_and_missing_rights_are_one_sentence(bucket, tmp_path, monkeypatch):
    refused(call("fit", "gdrive://a/b", "--out", tmp_path / "run"), "gdrive")

    def forbidden(*_, **__):
        raise PermissionError("Forbidden")

    monkeypatch.setattr(type(bucket), "find", forbidden)
    refused(call("fit", ROOT, "--out", tmp_path / "run"), "PermissionError: Forbidden", "your rights to read it")


def test_review_says_that_it_shows_files_only(bucket, tmp_path):
    blemish.fit(ROOT, tmp_path / "run", detector=small_detector(), threads=1)
    refused(call("review", tmp_path / "run"), ROOT, "--images")


def upload(run):
    """The files of a Run as objects below memory://bucket/run."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for path in run.rglob("*"):
        if path.is_file():
            memory.pipe(f"/bucket/run/{path.relative_to(run).as_posix()}", path.read_bytes())
    return memory


def test_a_run_is_loaded_from_a_url_and_scores_as_from_its_folder(run, photos):
    upload(run)
    here, there = load(run), load("memory://bucket/run")
    assert there.folder is None
    assert there.threshold_ == here.threshold_
    np.testing.assert_array_equal(there.score(photos).image, here.score(photos).image)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda memory: memory.rm("/bucket/run", recursive=True), ("memory://bucket/run", "folder that `fit` left")),
        (lambda memory: memory.pipe("/bucket/run/config.json", b"{}"), ("memory://bucket/run", "not written by")),
        (
            lambda memory: memory.pipe("/bucket/run/detector.safetensors", b"x"),
            ("memory://bucket/run/detector.safetensors", "SHA-256 differs"),
        ),
    ],
)
def test_a_url_without_a_sound_run_is_refused_by_its_name(run, change, parts):
    change(upload(run))
    with pytest.raises(RequestError) as refusal:
        load("memory://bucket/run")
    for part in parts:
        assert part in str(refusal.value)


def test_a_run_at_a_url_cannot_have_files_written_elsewhere(run):
    config = read_config(run)
    write_config(run, {**config, "files": {**config["files"], "../outside": "0" * 64}})
    upload(run)
    with pytest.raises(RequestError, match=r"'\.\./outside'"):
        load("memory://bucket/run")
