"""What a folder or a list leads to, whatever the names and links in it."""

import os
from pathlib import Path

import pytest

from blemish.images.finding import find
from blemish.machine.errors import RequestError
from conftest import fill


def test_any_tree_gives_its_images_by_path_below_the_root(tmp_path):
    fill(tmp_path, 1)
    fill(tmp_path / "a" / "b", 1)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "B.JPEG").touch()
    found = find(tmp_path)
    assert set(found.files) == {"part-00.png", "a/b/part-00.png", "B.JPEG"}
    assert found.others == {".txt": 1}


def test_a_missing_folder_names_the_nearest_that_exists(tmp_path):
    with pytest.raises(RequestError, match=f"does not exist; the nearest folder that does is '{tmp_path}'"):
        find(tmp_path / "no" / "such")
    (tmp_path / "photos").mkdir()
    with pytest.raises(RequestError, match=f"did you mean '{tmp_path / 'photos'}'"):
        find(tmp_path / "photoss")


def test_an_empty_folder_and_one_without_images_say_what_is_there(tmp_path):
    with pytest.raises(RequestError, match=f"'{tmp_path}'.*give a folder with images"):
        find(tmp_path)
    for name in ("a.txt", "b.txt", "c.pdf", ".hidden.png"):
        (tmp_path / name).touch()
    with pytest.raises(RequestError, match=r"2 \.txt, 1 hidden, 1 \.pdf"):
        find(tmp_path)


def test_one_image_is_found_alone_and_one_file_of_another_kind_is_refused(tmp_path):
    fill(tmp_path, 2)
    found = find(tmp_path / "part-00.png")
    assert (found.root, list(found.files)) == (tmp_path, ["part-00.png"])
    (tmp_path / "notes.pdf").write_bytes(b"%PDF")
    with pytest.raises(RequestError, match=r"notes\.pdf'.*give an image, a folder"):
        find(tmp_path / "notes.pdf")


def test_links_are_followed_and_loops_end(tmp_path):
    fill(tmp_path / "real" / "deep", 1)
    images = tmp_path / "images"
    images.mkdir()
    (images / "linked").symlink_to(tmp_path / "real")
    (images / "again").symlink_to(tmp_path / "real")
    (images / "loop").symlink_to(images)
    (tmp_path / "real" / "deep" / "up").symlink_to(tmp_path / "real")
    (images / "self.png").symlink_to("self.png")
    found = find(images)
    assert set(found.files) == {"again/deep/part-00.png", "self.png"}


@pytest.mark.parametrize(
    "name", ["a b.png", "a,b.png", "a\"b'.png", "a\nb.png", "ä漢字🙂.png", "#1.png", "a\u2028b.png"]
)
def test_any_name_is_an_id(tmp_path, name):
    (tmp_path / name).touch()
    assert list(find(tmp_path).files) == [name]


def test_a_name_that_is_not_utf8_has_an_id_that_can_be_written(tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        Path(os.fsdecode(path)).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found = find(tmp_path)
    assert list(found.files) == ["caf\\xe9.png"]
    assert os.fsencode(found.files["caf\\xe9.png"]) == path


def test_earlier_runs_hidden_folders_and_the_output_are_not_entered(tmp_path):
    fill(tmp_path, 1)
    for folder in ("run/heatmaps", ".run.partial-1", "out"):
        fill(tmp_path / folder, 1)
    for name in ("config.json", "scores.csv"):
        (tmp_path / "run" / name).touch()
    assert set(find(tmp_path, leave_out=tmp_path / "out").files) == {"part-00.png"}


def test_a_run_is_not_taken_for_a_folder_of_images(tmp_path):
    fill(tmp_path / "heatmaps", 1)
    for name in ("config.json", "scores.csv"):
        (tmp_path / name).touch()
    with pytest.raises(RequestError, match="give the images' folder"):
        find(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_list_of_paths_is_relative_to_itself(tmp_path, encoding, newline):
    fill(tmp_path / "a ä", 2)
    text = newline.join(["# a comment", "a ä/part-00.png", "", "a ä/part-01.png", "a ä/gone.png", "a ä", ""])
    (tmp_path / "list.txt").write_bytes(text.encode(encoding))
    found = find(tmp_path / "list.txt")
    assert set(found.files) == {"a ä/part-00.png", "a ä/part-01.png"}
    assert found.skipped["a ä/gone.png"].startswith("named in the list but not there")
    assert found.skipped["a ä"] == "is a folder; a list names files"


def test_a_file_whose_name_starts_like_a_comment_is_no_comment(tmp_path):
    (tmp_path / "#1.png").touch()
    (tmp_path / "list.txt").write_text("#1.png\n# 2\n")
    assert list(find(tmp_path / "list.txt").files) == ["#1.png"]


def test_a_table_is_read_by_its_column_path_and_keeps_quoted_names(tmp_path):
    for name in ("a,b.png", 'q"q.png', "n\nn.png"):
        (tmp_path / name).touch()
    (tmp_path / "list.csv").write_text('id,path\n1,"a,b.png"\n2,"q""q.png"\n3,"n\nn.png"\n')
    assert set(find(tmp_path / "list.csv").files) == {"a,b.png", 'q"q.png', "n\nn.png"}


def test_a_list_may_lead_elsewhere(tmp_path):
    fill(tmp_path / "x", 1)
    fill(tmp_path / "y", 1)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "list.txt").write_text(f"../x/part-00.png\n{tmp_path}/y/part-00.png\n")
    found = find(tmp_path / "lists" / "list.txt")
    assert found.root == tmp_path
    assert set(found.files) == {"x/part-00.png", "y/part-00.png"}
    assert all(path.is_file() for path in found.files.values())


def test_a_list_that_leads_nowhere_says_where_it_looked(tmp_path):
    (tmp_path / "list.txt").write_text("gone.png\n")
    with pytest.raises(RequestError, match=f"1 entries failed, such as 'gone.png' .*looked for {tmp_path}/gone.png"):
        find(tmp_path / "list.txt")


def test_a_list_in_another_encoding_says_so(tmp_path):
    (tmp_path / "list.txt").write_bytes("ä.png".encode("latin-1"))
    with pytest.raises(RequestError, match="save the list as UTF-8"):
        find(tmp_path / "list.txt")
