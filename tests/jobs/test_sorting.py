"""`--copy` and `--link`: the images in good, look and bad, as they are, for any other tool."""

import os
import shutil
from collections import Counter

import numpy as np
import pytest

import blemish
from blemish.images import ANOMALOUS, NORMAL, ImageSet
from blemish.jobs import sorting
from blemish.jobs.sorting import Sorting, folders_by_id, sort_images
from blemish.machine.errors import RequestError
from command_line import QUICK, call, refused, table
from conftest import fill, picture, small_detector


def inside(folder):
    """The files in good, look and bad by their path below that."""
    kinds = {each.name: each for each in folder.iterdir() if each.is_dir()}
    assert set(kinds) == {"good", "look", "bad"}
    return {
        path.relative_to(each).as_posix(): name
        for name, each in kinds.items()
        for path in each.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def tree(tmp_path):
    """Images in a folder and a folder below it."""
    fill(tmp_path / "parts" / "line 1", 6)
    return fill(tmp_path / "parts", 6, start=6)


def test_fit_and_score_sort_by_band_below_the_names_the_images_have(tree, tmp_path):
    out, copied, linked = tmp_path / "run", tmp_path / "copied", tmp_path / "linked"
    done = call("fit", tree, "--out", out, "--copy", copied, *QUICK)
    assert done.exit_code == 0, done.output
    bands = {row["path"]: row["band"] for row in table(out / "scores.csv")}
    assert len(bands) == 12
    found = inside(copied)
    assert found == {name: {"pass": "good", "look": "look", "reject": "bad"}[band] for name, band in bands.items()}
    assert f"below {copied}" in " ".join(done.stdout.split())
    name, kind = next(iter(found.items()))
    assert (copied / kind / name).read_bytes() == (tree / name).read_bytes()
    assert not (copied / kind / name).samefile(tree / name)

    done = call("score", tree, "--model", out, "--out", tmp_path / "scored", "--link", linked, "--threads", 1)
    assert done.exit_code == 0, done.output
    again = inside(linked)
    assert set(again) == set(bands)
    assert all((linked / kind / name).samefile(tree / name) for name, kind in again.items())


def test_purify_sorts_what_it_kept_from_what_it_set_aside(tree, tmp_path):
    done = call("purify", fill(tree, 24, start=12), "--out", tmp_path / "p", "--link", tmp_path / "sorted", *QUICK)
    assert done.exit_code == 0, done.output
    kept = {row["path"]: row["kept"] for row in table(tmp_path / "p" / "purification.csv")}
    assert inside(tmp_path / "sorted") == {name: "good" if each == "1" else "look" for name, each in kept.items()}


def test_what_a_person_found_comes_before_the_band():
    labels = {"a": ANOMALOUS, "b": NORMAL}
    assert folders_by_id("abc", ("pass", "reject", "look"), labels) == {"a": "bad", "b": "good", "c": "look"}


def test_where_no_hard_link_can_be_made_images_are_copied_and_the_notes_say_so(tree, tmp_path, monkeypatch):
    images = ImageSet.of(tree)

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    left = sort_images(images.sources, dict.fromkeys(images.ids, "good"), Sorting(tmp_path / "sorted", True, False))
    assert Counter(inside(tmp_path / "sorted").values()) == {"good": 12}
    assert left["images"] == {"good": 12, "look": 0, "bad": 0}
    assert any("12 images were copied, since no hard link" in note for note in left["notes"])


def test_images_that_are_gone_are_named_and_the_others_sorted(tree, tmp_path):
    images = ImageSet.of(tree)
    (tree / "part-06.png").unlink()
    left = sort_images(images.sources, dict.fromkeys(images.ids, "bad"), Sorting(tmp_path / "sorted", False, False))
    assert len(inside(tmp_path / "sorted")) == 11
    assert "1 image was no longer where it was" in left["notes"][0]
    assert "'part-06.png'" in left["notes"][0]


def test_a_name_that_is_taken_gets_a_number_and_both_images_are_there(tree, tmp_path):
    sources = {"x/../a.png": tree / "part-06.png", "x/a.png": tree / "part-07.png"}
    left = sort_images(sources, dict.fromkeys(sources, "good"), Sorting(tmp_path / "sorted", False, False))
    assert set(inside(tmp_path / "sorted")) == {"x/a.png", "x/a-2.png"}
    assert any("given another name" in note for note in left["notes"])


def test_nothing_is_overwritten_without_force_and_nothing_of_others_with_it(tree, tmp_path):
    images, place = ImageSet.of(tree), tmp_path / "sorted"
    folders = dict.fromkeys(images.ids, "good")
    sort_images(images.sources, folders, Sorting(place, False, False))
    with pytest.raises(RequestError, match=r"exists; .* `force`"):
        sort_images(images.sources, folders, Sorting(place, False, False))
    (place / "mine.txt").write_text("kept")
    sort_images(images.sources, dict.fromkeys(images.ids, "bad"), Sorting(place, False, True))
    assert set(inside(place).values()) == {"bad"}
    assert (place / "mine.txt").read_text() == "kept"
    other = tmp_path / "photos"
    shutil.copytree(tree, other)
    with pytest.raises(RequestError, match=r"`force`.*another folder"):
        sort_images(images.sources, folders, Sorting(other, False, True))


def test_folders_in_the_way_are_refused_before_the_work(tree, tmp_path):
    out = ("--out", tmp_path / "run", *QUICK)
    refused(call("fit", tree, *out, "--copy", tree / "sorted"), f"is in '{tree}'", "--copy")
    refused(call("fit", tree, *out, "--link", tmp_path), f"'{tmp_path}'")
    refused(call("fit", tree, *out, "--link", tmp_path / "a", "--copy", tmp_path / "b"), "--copy or by --link")
    assert not (tmp_path / "run").exists()
    arrays = [np.asarray(picture(at)) for at in range(6)]
    with pytest.raises(RequestError, match=r"`copy` sorts files, .* leave out `copy`"):
        blemish.fit(arrays, detector=small_detector(), copy=tmp_path / "c")


def test_each_subfolder_has_its_own_sorted_images(tmp_path):
    fill(tmp_path / "all" / "nuts", 9)
    fill(tmp_path / "all" / "bolts", 9, start=20)
    done = call("fit", tmp_path / "all", "--each-subfolder", "--out", tmp_path / "r", "--copy", tmp_path / "s", *QUICK)
    assert done.exit_code == 0, done.output
    assert len(inside(tmp_path / "s" / "nuts")) == len(inside(tmp_path / "s" / "bolts")) == 9


def test_anomalib_takes_the_folders_as_they_are(tree, tmp_path):
    pytest.importorskip("anomalib")
    from anomalib.data import Folder

    images = ImageSet.of(tree)
    folders = dict.fromkeys(images.ids, sorting.GOOD) | dict.fromkeys(images.ids[-3:], sorting.BAD)
    sort_images(images.sources, folders, Sorting(tmp_path / "sorted", True, False))
    data = Folder(name="parts", root=tmp_path / "sorted", normal_dir="good", abnormal_dir="bad", num_workers=0)
    data.setup()
    samples = [
        *data.train_data.samples.image_path,
        *data.test_data.samples.image_path,
        *data.val_data.samples.image_path,
    ]
    assert len(set(samples)) == 12
    tested = [*data.test_data.samples.label_index, *data.val_data.samples.label_index]
    assert sum(tested) == 3
