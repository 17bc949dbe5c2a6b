"""A result is whole or absent, and what a person put beside it stays."""

import errno
import os
import shutil
import signal

import pytest

from blemish.machine.errors import JobError, RequestError
from blemish.runs.artifact import FORMAT_VERSION, read_config, write_config
from blemish.runs.transaction import whole_or_absent


def write(target, text, *, force=False, names=("scores.csv",), then=lambda: None):
    with whole_or_absent(target, force=force) as folder:
        write_config(folder, {"text": text})
        (folder / "heatmaps").mkdir()
        (folder / "heatmaps" / f"{text}.png").touch()
        for name in names:
            (folder / name).write_text(text)
        then()


def fail_with(error):
    def fail():
        raise error

    return fail


def held(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_result_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "deep" / "run"
    with whole_or_absent(target, force=False) as folder:
        (folder / "config.json").touch()
        assert not target.exists()
    assert held(tmp_path) == ["deep/run/config.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(tmp_path, error):
    with pytest.raises(error):
        write(tmp_path / "run", "new", then=fail_with(error))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_result_is_refused_and_replaced_by_force(tmp_path):
    run = tmp_path / "run"
    write(run, "old")
    with pytest.raises(RequestError, match=r"exists.*`force`"):
        write(run, "new")
    (run / "labels.csv").write_text("mine")
    (run / "notes.txt").write_text("mine, too")
    write(run, "new", force=True)
    assert held(run) == ["config.json", "heatmaps/new.png", "labels.csv", "notes.txt", "scores.csv"]
    assert (run / "scores.csv").read_text() == "new"
    assert (run / "labels.csv").read_text() == "mine"


def test_a_result_of_an_earlier_version_is_replaced_by_force_as_its_error_says(tmp_path):
    run = tmp_path / "run"
    write(run, "old", names=("scores.csv", "gone.csv"))
    text = (run / "config.json").read_text()
    assert f'"format_version": {FORMAT_VERSION}' in text
    (run / "config.json").write_text(text.replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 1'))
    (run / "labels.csv").write_text("mine")
    with pytest.raises(RequestError, match=r"format version 1.*`force`"):
        read_config(run)
    write(run, "new", force=True)
    assert read_config(run)["text"] == "new"
    assert held(run) == ["config.json", "heatmaps/new.png", "labels.csv", "scores.csv"]


def test_a_failed_replacement_leaves_the_old_result(tmp_path):
    run = tmp_path / "run"
    write(run, "old")
    with pytest.raises(ValueError, match="oh"):
        write(run, "half", force=True, then=fail_with(ValueError("oh")))
    assert (run / "scores.csv").read_text() == "old"
    assert held(tmp_path) == ["run/config.json", "run/heatmaps/old.png", "run/scores.csv"]


def test_a_folder_of_someone_else_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").touch()
    with pytest.raises(RequestError, match=r"`force`.*give another folder"):
        write(tmp_path / "photos", "new", force=True)
    assert held(tmp_path) == ["photos/me.jpg"]


def test_a_file_or_a_broken_link_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(RequestError, match=f"'{tmp_path / name}' is not a folder"):
            write(tmp_path / name, "new", force=True)


def test_an_empty_folder_and_one_with_labels_only_are_taken(tmp_path):
    (tmp_path / "run").mkdir()
    write(tmp_path / "run", "new")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "labels.csv").write_text("mine")
    write(tmp_path / "second", "new", force=True)
    assert (tmp_path / "second" / "labels.csv").read_text() == "mine"


def test_a_replacement_that_was_killed_half_way_can_be_repeated(tmp_path):
    run = tmp_path / "run"
    write(run, "old")
    write_config(run, {"incomplete": True})  # what stands there while files are moved
    write(run, "new", force=True)
    assert read_config(run)["text"] == "new"


@pytest.mark.parametrize("content", ["{}", "not json", '{"program": "another"}'])
def test_a_project_that_happens_to_have_a_config_and_scores_is_not_ours(tmp_path, content):
    project = tmp_path / "project"
    (project / "heatmaps").mkdir(parents=True)
    (project / "heatmaps" / "own.txt").touch()
    (project / "config.json").write_text(content)
    (project / "scores.csv").write_text("theirs")
    with pytest.raises(RequestError, match=r"`force`.*another folder"):
        write(project, "new", force=True)
    assert (project / "scores.csv").read_text() == "theirs"
    assert (project / "heatmaps" / "own.txt").exists()


def test_what_a_killed_process_left_is_cleared_and_what_a_live_one_writes_is_not(tmp_path):
    for name, pid in (("run", 2**22 + 1), ("run", os.getppid()), ("run2", 2**22 + 1), ("run", os.getpid())):
        (tmp_path / f".{name}.partial-{pid}").mkdir()
    write(tmp_path / "run", "new")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"run", f".run.partial-{os.getppid()}", f".run2.partial-{2**22 + 1}"}


@pytest.mark.parametrize("name", ["run [1]", "lauf ä", "a.b", "*"])
def test_any_name_of_a_folder_will_do(tmp_path, name):
    write(tmp_path / name, "new")
    write(tmp_path / name, "new", force=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_relative_folders_and_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    from pathlib import Path

    write(Path("a"), "x")
    write(Path("~/b"), "x")
    (tmp_path / "c").mkdir()
    monkeypatch.chdir(tmp_path / "c")
    write(Path("../d"), "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "is full; free some space"),
        (errno.EACCES, "cannot be written"),
        (errno.EROFS, "cannot be written"),
    ],
)
def test_what_the_disk_refuses_is_one_sentence_and_leaves_nothing(tmp_path, number, message):
    with pytest.raises(JobError, match=message):
        write(tmp_path / "run", "new", then=fail_with(OSError(number, "refused", str(tmp_path / "run"))))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_really_full(tmp_path):
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        with pytest.raises(JobError, match="free some space"):
            write(disk / "run", "new", then=lambda: (disk / "rest").write_text("x" * 100_000))
        (disk / "rest").unlink()
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_ctrl_c_in_the_moment_of_moving_waits_until_it_is_done(tmp_path, monkeypatch):
    from blemish.runs import transaction

    move = transaction._move

    def interrupted(staging, target):
        signal.raise_signal(signal.SIGINT)
        move(staging, target)

    monkeypatch.setattr(transaction, "_move", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "run", "new")
    assert held(tmp_path) == ["run/config.json", "run/heatmaps/new.png", "run/scores.csv"]


def test_a_result_that_another_process_left_meanwhile_is_not_overwritten(tmp_path):
    run = tmp_path / "run"
    write(tmp_path / "quick", "quick")
    with pytest.raises(RequestError, match="`force`"):
        write(run, "slow", then=lambda: shutil.copytree(tmp_path / "quick", run))
    assert read_config(run)["text"] == "quick"
