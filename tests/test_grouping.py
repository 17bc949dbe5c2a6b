"""Images whose paths say so count as one, wherever images of one group do."""

from dataclasses import replace

import pytest

import blemish
from blemish.detectors.parts.sampling import split_in_folds
from blemish.images import ImageSet
from blemish.images.groups import groups_by
from blemish.jobs.preparing import with_normals
from blemish.machine.errors import RequestError
from conftest import fill, small_detector

IDS = ("a/part1_top.png", "a/part1_side.png", "a/part2_top.png", "b/part2_top.png", "b/other.png")


def together(pattern: str, **content: str) -> set[frozenset[str]]:
    """The groups of `IDS`, of different content unless said otherwise."""
    groups = groups_by(pattern, IDS, {name: content.get(f"of_{at}", name) for at, name in enumerate(IDS)})
    return {frozenset(n for n in IDS if groups[n] == group) for group in groups.values()} - {
        frozenset([name]) for name in IDS
    }


def test_what_the_pattern_catches_makes_a_group():
    assert together(r"part\d") == {frozenset(IDS[:2]), frozenset(IDS[2:4])}
    assert together(r"^(.)/part(\d)") == {frozenset(IDS[:2])}, "all of its groups count"
    assert together(r"_(top)\.png$") == {frozenset((IDS[0], IDS[2], IDS[3]))}


def test_equal_content_joins_what_paths_keep_apart():
    assert together(r"part\d", of_1="copy", of_3="copy") == {frozenset(IDS[:4])}
    assert together(r"part\d", of_0="copy", of_4="copy") == {frozenset((*IDS[:2], IDS[4])), frozenset(IDS[2:4])}


def test_groups_by_path_are_whole_in_folds_and_counted_once(tmp_path):
    images = ImageSet.of(fill(tmp_path / "photos", 20)).grouped(r"-(\d)")
    fold = split_in_folds(images, 2, seed=0)
    assert {frozenset(fold[name] for name in images.ids if f"-{ten}" in name) for ten in "01"} == {
        frozenset([0]), frozenset([1])
    }  # fmt: skip
    with pytest.raises(RequestError, match="2 of different content, 20 files"):
        blemish.fit(tmp_path / "photos", detector=small_detector(), group_regex=r"-(\d)", threads=1)


def test_known_normals_are_grouped_with_the_folder_where_they_match(tmp_path):
    photos = ImageSet.of(fill(tmp_path / "photos", 4)).grouped(r"part-(\d+)")
    fill(tmp_path / "good", 2, start=30)
    (tmp_path / "good" / "part-30.png").rename(tmp_path / "good" / "part-01 again.png")
    (tmp_path / "good" / "part-31.png").rename(tmp_path / "good" / "fine.png")
    images = with_normals(photos, tmp_path / "good")
    assert images.groups["normals//part-01 again.png"] == images.groups["part-01.png"]
    assert images.groups["normals//fine.png"] == images.content["normals//fine.png"]


def test_a_fit_says_what_it_grouped_by(tmp_path):
    run = blemish.fit(
        fill(tmp_path / "photos", 10), tmp_path / "run", detector=small_detector(), group_regex=r"part-\d+", threads=1
    )
    assert run.about["group_regex"] == r"part-\d+"
    assert replace(ImageSet.of(tmp_path / "photos")).grouping == ""
