"""An ImageSet from whatever a person has: nothing lost, nothing counted twice, every refusal says why."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.images import NORMAL, ImageSet
from blemish.images.decoding import Decoding
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from conftest import fill, picture


def test_unreadable_files_are_left_out_with_their_reasons(photos):
    (photos / "empty.png").touch()
    (photos / "list.png").write_text("not an image")
    images = ImageSet.of(photos)
    assert len(images) == 10
    assert set(images.skipped) == {"empty.png", "list.png"}


def test_a_folder_without_a_readable_image_says_what_was_in_it(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.png").write_text("text")
    (tmp_path / "4.png").touch()
    with pytest.raises(RequestError) as error:
        ImageSet.of(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "3 not an image" in str(error.value)
    assert "1 the file is empty" in str(error.value)


def test_equal_content_is_one_group_whatever_the_names(photos):
    shutil.copy(photos / "part-01.png", photos / "copy.png")
    images = ImageSet.of(photos)
    assert images.groups["copy.png"] == images.groups["part-01.png"]
    assert len(set(images.groups.values())) == 10


def test_the_set_does_not_depend_on_threads_or_order(photos):
    with use_runtime(threads=1):
        one = ImageSet.of(photos)
    with use_runtime(threads=4):
        four = ImageSet.of(photos)
    listed = ImageSet.of([photos / name for name in reversed(one.ids)])
    assert one.ids == four.ids == tuple(Path(name).name for name in listed.ids)
    assert one.content == four.content


def test_relative_absolute_and_home_paths_lead_to_the_same(photos, monkeypatch):
    monkeypatch.chdir(photos.parent)
    monkeypatch.setenv("HOME", str(photos.parent))
    assert ImageSet.of("photos").content == ImageSet.of(photos).content == ImageSet.of("~/photos").content
    assert len(ImageSet.of(["~/photos/part-00.png", "photos/part-01.png"])) == 2


def test_sixteen_bit_images_get_one_range_for_the_folder_and_keep_it(tmp_path):
    ramp = np.linspace(0, 1000, 4096).reshape(64, 64)
    for index, gain in enumerate((1, 2, 4)):
        Image.fromarray((ramp * gain).astype(np.uint16)).save(tmp_path / f"{index}.png")
    images = ImageSet.of(tmp_path)
    low, high = images.decoding.range
    assert low == pytest.approx(0, abs=2)
    assert high == pytest.approx(4000, abs=10)
    brightest = [int(images.read(name).max()) for name in images.ids]
    assert brightest == pytest.approx([64, 128, 255], abs=2)
    given = ImageSet.of(tmp_path, decoding=Decoding((0.0, 8000.0)))
    assert given.decoding.range == (0.0, 8000.0)
    later = ImageSet.of(tmp_path, find_range=False)
    assert later.decoding.range is None


def test_pages_are_said(tmp_path):
    pages = [Image.fromarray(picture(index)) for index in range(2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert "the first of each is used" in ImageSet.of(tmp_path).notes[0]


def test_arrays_and_pil_images_are_the_pixels_they_are():
    rgba = Image.fromarray(np.dstack([picture(1), np.zeros((64, 64), np.uint8)]))
    images = ImageSet.of([picture(1), Image.fromarray(picture(1)), picture(1)[:, :, 0], rgba])
    assert np.array_equal(images.read("image-000000"), picture(1))
    assert images.groups["image-000000"] == images.groups["image-000001"]
    assert np.array_equal(images.read("image-000002")[:, :, 2], picture(1)[:, :, 0])
    assert not images.read("image-000003").any(), "transparent pixels stand over black, as in files"


def test_one_image_is_taken_as_a_list_of_one(photos):
    array = picture(1)
    for one in (array, Image.fromarray(array)):
        assert np.array_equal(ImageSet.of(one).read("image-000000"), array)
    for one in (photos / "part-01.png", str(photos / "part-01.png")):
        assert ImageSet.of(one).ids == ("part-01.png",)
    assert len(ImageSet.of(np.stack([array, array]))) == 2


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (lambda: [np.ma.array(picture(1), mask=True)], "masked pixels.*`roi`"),
        (lambda: [picture(1) / 255.0], r"uint8 with levels 0..255 .*astype\('uint8'\)"),
        (lambda: [picture(1).transpose(2, 0, 1)], r"shape \(3, 64, 64\); it must be \(height, width, 3\)"),
        (list, "list of images is empty"),
        (lambda: [picture(1)[:2]], "64 x 2 pixels; each side needs at least 8"),
        (lambda: [picture(1), "a.png"], "not a mix of paths and others"),
        (lambda: None, "cannot be a NoneType"),
        (lambda: b"a.png", "cannot be a bytes"),
        (lambda: [Image.fromarray(np.zeros((64, 64), np.uint16))], "deeper than 8 bits"),
        (lambda: ["gone.png"], "'gone.png', the only file of 'the list'.*No such file"),
        (lambda: "gone.png", "'gone.png' does not exist"),
    ],
)
def test_what_is_no_set_of_images_is_refused_with_the_fix(images, message):
    with pytest.raises(RequestError, match=message):
        ImageSet.of(images())


def test_arrays_that_cannot_be_written_to_are_taken():
    locked = picture(1)
    locked.flags.writeable = False
    assert ImageSet.of([locked]).read("image-000000").flags.writeable


def test_permissions_are_a_reason(photos, monkeypatch):
    # Root may read anything, so the system's refusal is played rather than provoked.
    fill(photos / "closed", 2)
    walk, opened = os.walk, Image.open

    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def closed_walk(top, onerror, followlinks):
        for folder, folders, names in walk(top, followlinks=followlinks):
            if Path(folder).name == "closed":
                onerror(PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder))
            else:
                yield folder, folders, names

    monkeypatch.setattr(os, "walk", closed_walk)
    monkeypatch.setattr(
        Image, "open", lambda path, **how: refuse(path) if path.name == "part-00.png" else opened(path, **how)
    )
    images = ImageSet.of(photos)
    assert len(images) == 9
    assert images.skipped == {
        "part-00.png": "cannot be opened: Permission denied",
        "closed": "cannot be opened: Permission denied",
    }


def test_a_set_can_lose_unreadable_images_but_not_all(photos):
    images = ImageSet.of(photos)
    rest = images.without({"part-00.png": "torn"})
    assert len(rest) == 9
    assert rest.skipped == {"part-00.png": "torn"}
    with pytest.raises(RequestError, match=f"None of the 10 files of '{photos}'.*10 torn"):
        images.without(dict.fromkeys(images.ids, "torn"))


def test_subsets_and_joined_sets_keep_what_is_known_of_each_image(photos, tmp_path):
    images = ImageSet.of(photos)
    both = images.joined(ImageSet.of(fill(tmp_path / "good", 3, start=20)), prefix="good//", label=NORMAL)
    assert len(both) == 13
    assert set(both.labels) == {name for name in both.ids if name.startswith("good//")}
    assert np.array_equal(both.read("good//part-20.png"), picture(20))
    assert both.subset(["part-03.png"]).ids == ("part-03.png",)
    with pytest.raises(RequestError, match=r"'nope'.*13"):
        both.subset(["nope"])


@pytest.mark.parametrize("source", ["files", "arrays"])
def test_turned_images_have_their_own_pixels_in_the_group_of_the_upright_one(photos, source):
    images = ImageSet.of(photos) if source == "files" else ImageSet.of([picture(0)[:, :48]])
    name = images.ids[0]
    more = replace(images, labels={name: NORMAL}).with_turned([name], [1, 2])
    quarter, half = sorted(set(more.ids).difference(images.ids), key=lambda each: int(each.rsplit(" ", 1)[1]))
    for turned, by in ((quarter, 1), (half, 2)):
        assert np.array_equal(more.read(turned), np.rot90(images.read(name), by))
        assert np.array_equal(more.packed([turned]).read(turned), more.read(turned))
        assert more.groups[turned] == images.groups[name]
        assert more.labels[turned] == NORMAL
    assert len({more.content[each] for each in (name, quarter, half)}) == 3
    assert more.sizes[quarter] == images.sizes[name][::-1]
