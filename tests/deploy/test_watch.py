"""A hot folder: every file is scored once it is whole, noted once, and put where its score says."""

import csv
import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.deploy import watch_records
from blemish.deploy.current import CurrentRun
from blemish.deploy.hot_folder import HotFolder, Settled
from blemish.deploy.watch import alone, watch
from blemish.deploy.watch_records import COLUMNS
from blemish.detectors.nearest_images import NearestImages
from blemish.detectors.parts.views import View
from blemish.machine.errors import JobError, RequestError
from blemish.machine.runtime import use_runtime
from blemish.runs.artifact import read_config, write_config
from command_line import call, refused
from conftest import fill, picture, small_detector

AT_ONCE = Settled(seconds=0, give_up=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    views = (View(64, ("16",), rooted=False),)
    detector = NearestImages(backbone="efficientnet_lite0", views=views)
    blemish.fit(fill(folder / "photos", 10), folder / "run", detector=detector, threads=1, cache=folder / "cache")
    return folder / "run"


@pytest.fixture
def place(tmp_path, run):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    with use_runtime(threads=1, keep_features=False):
        yield tmp_path


def put(folder, *indices):
    """New images; the bright square of picture 0 is a defect, whatever noise lies over the rest."""
    for index in indices:
        rgb = picture(100 + index)
        if index == 0:
            rgb[20:40, 20:40] = 255
        Image.fromarray(rgb).save(folder / f"new-{index}.png")


def rows(place):
    with (place / "out" / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name[0] != ".")


def watcher(place, run, **words):
    return HotFolder(place / "in", CurrentRun(run), place / "out", **{"settled": AT_ONCE, **words})


def test_files_are_scored_noted_and_moved_by_the_decision(place, run):
    put(place / "in", 0, 1, 2)
    assert watch(place / "in", run, place / "out", settled=AT_ONCE, once=True, every=0.01) == 3
    flagged = {row["path"] for row in rows(place) if row["flagged"] == "1"}
    assert "new-0.png" in flagged
    assert files(place / "in") == []
    assert {row["to"] for row in rows(place)} == set(files(place / "out")) - {"scores.csv"}
    assert all(row["to"].startswith("bad/" if row["path"] in flagged else "good/") for row in rows(place))


@pytest.mark.parametrize("action", ["link", "copy", "none"])
def test_files_that_stay_are_noted_once_also_after_a_restart(place, run, action):
    put(place / "in", 0, 1)
    assert watcher(place, run, action=action).step() == 2
    again = watcher(place, run, action=action)
    assert again.step() == 0
    put(place / "in", 2)
    assert again.step() == 1
    assert len(rows(place)) == 3
    assert len(files(place / "in")) == 3
    if action != "none":
        sorted_one = place / "out" / rows(place)[0]["to"]
        assert sorted_one.samefile(place / "in" / "new-0.png") == (action == "link")


def test_a_link_shows_what_was_scored_when_the_camera_puts_another_file_in_its_place(place, run):
    put(place / "in", 0)
    watched = watcher(place, run, action="link")
    watched.step()
    scored = (place / "in" / "new-0.png").read_bytes()
    Image.fromarray(picture(7)).save(place / "in" / "half.tmp", format="PNG")
    (place / "in" / "half.tmp").replace(place / "in" / "new-0.png")
    watched.step()
    assert [(place / "out" / row["to"]).read_bytes() == scored for row in rows(place)] == [True, False]


def test_a_link_that_a_camera_writes_into_is_removed_and_named(place, run):
    put(place / "in", 0)
    watched = watcher(place, run, action="link")
    watched.step()
    with (place / "in" / "new-0.png").open("wb") as file:  # the same file, not another one of its name
        Image.fromarray(picture(7)).save(file, format="PNG")
    watched.step()
    first, second = rows(place)
    assert not (place / "out" / first["to"]).exists()
    assert (place / "out" / second["to"]).samefile(place / "in" / "new-0.png")
    assert "`action` copy" in watched.news[0]


def test_a_disk_without_hard_links_gets_copies_and_that_is_told(place, run, monkeypatch):
    put(place / "in", 0)

    def no_links(*_):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    watched = watcher(place, run, action="link")
    watched.step()
    assert (place / "out" / rows(place)[0]["to"]).read_bytes() == (place / "in" / "new-0.png").read_bytes()
    assert "files are copied" in watched.news[0]


def test_a_score_that_equals_the_threshold_as_float32_is_not_flagged(place, run, tmp_path):
    put(place / "in", 0)
    [score] = blemish.load(run).score(place / "in", threads=1).image
    again = Path(shutil.copytree(run, tmp_path / "tied"))
    config = read_config(again)
    config["decision"]["threshold"] = float(np.nextafter(np.float64(score), -np.inf))  # lower, but not as float32
    write_config(again, config)
    watcher(place, again, action="none").step()
    assert [row["flagged"] for row in rows(place)] == ["0"]
    assert not blemish.load(again).score(place / "in", threads=1).flagged


def test_kinds_that_are_not_read_are_counted_and_suffixes_do_not_matter(place, run):
    put(place / "in", 0, 1, 2)
    (place / "in" / "new-0.png").rename(place / "in" / "new-0")
    Image.open(place / "in" / "new-1.png").save(place / "in" / "new-1.pgm")
    (place / "in" / "raw.nef").write_bytes(b"II*\0 a camera's own format")
    notes = []
    noted = watch(
        place / "in", run, place / "out", action="none", settled=AT_ONCE, once=True, every=0.01, tell=notes.append
    )
    assert noted == 4
    assert notes == ["1 other file was not looked at: 1 .nef."]


def test_a_file_is_left_alone_until_it_has_not_changed_for_a_while(place, run):
    watched = watcher(place, run, settled=Settled(seconds=0.5, give_up=60))
    put(place / "in", 1)
    assert watched.step() == 0
    data = (place / "in" / "new-1.png").read_bytes()
    (place / "in" / "new-1.png").write_bytes(data[:200])  # still being written
    time.sleep(0.6)
    assert watched.step() == 0  # it has changed since
    time.sleep(0.6)
    assert watched.step() == 0  # unchanged, but not whole: it gets more time
    (place / "in" / "new-1.png").write_bytes(data)
    watched.step()
    time.sleep(0.6)
    assert watched.step() == 1
    assert rows(place)[0]["reason"] == ""


def test_what_never_becomes_an_image_is_set_aside_with_the_reason(place, run):
    put(place / "in", 1)
    (place / "in" / "bad.png").write_bytes(b"no image")
    assert watcher(place, run).step() == 2
    found = {row["path"]: row for row in rows(place)}
    assert found["bad.png"]["to"] == "unreadable/bad.png"
    assert "not an image" in found["bad.png"]["reason"]
    assert found["new-1.png"]["score"]


def test_a_name_that_is_no_utf8_is_scored_and_moved_as_any_other(place, run):
    put(place / "in", 1)
    odd = os.fsdecode(bytes(str(place / "in"), "utf-8") + b"/odd-\xff.png")
    (place / "in" / "new-1.png").rename(odd)
    assert watcher(place, run).step() == 1
    assert rows(place)[0]["path"] == "odd-\\xff.png"
    assert rows(place)[0]["score"]
    assert not Path(odd).exists()
    assert watcher(place, run).step() == 0


def test_a_second_file_of_the_same_name_does_not_replace_the_first(place, run):
    watched = watcher(place, run)
    put(place / "in", 1)
    watched.step()
    Image.fromarray(picture(77)).save(place / "in" / "new-1.png")
    watched.step()
    assert len({row["to"] for row in rows(place)}) == 2
    assert len(files(place / "out")) == 3


def test_killed_between_row_and_move_it_only_moves_at_the_next_start(place, run, monkeypatch):
    put(place / "in", 0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(HotFolder, "_put", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            watcher(place, run).step()
    assert len(files(place / "in")) == 2
    again = watcher(place, run)
    assert again.step() == 0
    assert files(place / "in") == []
    assert len(rows(place)) == 2


def test_a_row_that_was_cut_short_is_cut_away_and_its_file_scored_again(place, run):
    put(place / "in", 0, 1)
    watcher(place, run, action="none").step()
    table = place / "out" / "scores.csv"
    whole = table.read_bytes()
    table.write_bytes(whole[:-20])
    again = watcher(place, run, action="none")
    assert again.step() == 1
    assert [row["path"] for row in rows(place)] == ["new-0.png", "new-1.png"]
    assert list(rows(place)[0]) == list(COLUMNS)


def test_on_a_full_disk_nothing_is_lost_and_it_goes_on_when_there_is_room(place, run, monkeypatch):
    put(place / "in", 0, 1)
    watched = watcher(place, run)
    before = (place / "out" / "scores.csv").read_bytes()
    with monkeypatch.context() as patch:

        def full(_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(watch_records.os, "fsync", full)
        with pytest.raises(JobError, match="free some space"):
            watched.step()
        assert (place / "out" / "scores.csv").read_bytes() == before
        assert len(files(place / "in")) == 2
        said = []
        with pytest.raises(JobError, match="free some space"):
            watch(place / "in", run, place / "out", settled=AT_ONCE, once=True, every=0.01, tell=said.append)
        assert len(said) == 1
    assert watched.step() == 2
    assert len(rows(place)) == 2


def test_two_watchers_on_one_folder_or_one_table_are_refused(place, run):
    with alone(place / "in", place / "out"):
        words = ("watch", place / "in", "--model", run, "--once")
        refused(call(*words, "--out", place / "other"), "Another `blemish watch`", place / "in")
    with alone(place / "in", place / "out"):
        (place / "second").mkdir()
        refused(call("watch", place / "second", "--model", run, "--out", place / "out"), "Another", place / "out")


def test_killed_for_good_it_neither_misses_nor_repeats_a_file(place, run):
    words = [sys.executable, "-m", "blemish", "watch", place / "in", "--model", run, "--out", place / "out"]
    words = [*map(str, words), "--settle", "0", "--every", "0.01", "--threads", "1"]
    put(place / "in", *range(8))
    process = subprocess.Popen(words)
    until = time.monotonic() + 120
    while not (place / "out" / "scores.csv").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.wait()
    put(place / "in", *range(8, 12))
    subprocess.run([*words, "--once"], check=True, capture_output=True)
    assert sorted(row["path"] for row in rows(place)) == sorted(f"new-{index}.png" for index in range(12))
    assert len(files(place / "out")) == 13


def test_bad_requests_are_one_sentence(place, run):
    words = ("--model", run, "--once")
    refused(call("watch", place / "none", *words, "--out", place / "out"), "is not a folder")
    refused(call("watch", place / "in", *words, "--out", place / "in"), "holds the folder that is watched")
    refused(
        call("watch", place / "in", *words, "--out", place / "out", "--action", "eat"), "move, link, copy, none", "eat"
    )
    refused(call("watch", place / "in", *words, "--out", place / "out", "--on-bad", "ftp://x"), "--on-bad", "'ftp://'")
    with pytest.raises(RequestError, match=r"`every` .* above 0; got 0"):
        watch(place / "in", run, place / "out", every=0)
    (place / "out" / "scores.csv").write_text("a,b\n")
    with pytest.raises(RequestError, match=r"scores\.csv'.*`out`"):
        watcher(place, run)


def test_what_is_odd_about_images_is_told_once(place, tmp_path):
    def deep(index, values):
        levels = picture(index)[:, :, 0].astype(np.float32)
        levels[:4] = values
        Image.fromarray(levels).save(place / "in" / f"new-{index}.tif")

    for index in range(10):
        deep(index, np.nan)
    blemish.fit(place / "in", tmp_path / "deep", detector=small_detector(), threads=1)
    watched = watcher(place, tmp_path / "deep", action="none")
    watched.step()
    deep(20, np.nan)
    watched.step()
    assert len(watched.news) == 1
    assert "10 images have pixels without a measurement" in watched.news[0]
