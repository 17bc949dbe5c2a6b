"""A manifest says who is trained on; the same for every method, and honest about what it reached."""

from pathlib import Path

import numpy as np
import pytest

from blemish.benchmark.contamination import NO_OVERLAP, OVERLAP, contaminate, read_manifest
from blemish.benchmark.datasets import Category, open_datasets
from blemish.machine.errors import RequestError
from layouts import mvtec


@pytest.fixture
def category(tmp_path: Path) -> Category:
    return open_datasets(mvtec(tmp_path / "data", train=20, bad=5))[0]


def injected(manifest):
    return {entry.path for entry in manifest.training if entry.anomalous}


def test_a_ratio_that_leaves_no_normal_image_is_refused(tmp_path: Path) -> None:
    (category,) = open_datasets(mvtec(tmp_path, bad=1))
    with pytest.raises(RequestError, match=r"ratio of 4: 1 .*below 2"):
        contaminate(category, 4.0, test_share=0.4)


def test_the_ratio_is_anomalies_by_normal_images_and_both_protocols_share_the_fit(category: Category) -> None:
    manifest = contaminate(category, 0.2)
    assert len(injected(manifest)) == 4
    assert len(manifest.training) == 24
    assert manifest.reached == 0.2
    assert manifest.contamination == pytest.approx(4 / 24)
    everything = {each.path for each in (*category.normals, *category.anomalies)}
    assert set(manifest.test_paths(category, OVERLAP)) == everything
    assert set(manifest.test_paths(category, NO_OVERLAP)) == everything - injected(manifest)


def test_the_same_seed_gives_the_same_manifest_and_another_seed_another(category: Category) -> None:
    assert contaminate(category, 0.2, seed=3) == contaminate(category, 0.2, seed=3)
    assert contaminate(category, 0.2, seed=3).hash != contaminate(category, 0.2, seed=4).hash


def test_a_lower_ratio_injects_a_part_of_what_a_higher_one_does(category: Category) -> None:
    low, high = (injected(contaminate(category, ratio)) for ratio in (0.1, 0.3))
    assert low < high


def test_a_share_of_the_anomalies_is_never_injected(category: Category) -> None:
    for policy in ("shrink", "cap", "resample"):
        manifest = contaminate(category, 1.0, policy=policy)
        assert len(injected(manifest)) == 6
        assert len(set(manifest.test_paths(category, NO_OVERLAP)) & {s.path for s in category.anomalies}) == 4
    kept = contaminate(category, 1.0, test_share=0.25, policy="cap")
    assert len(injected(kept)) == 7  # 10 less a quarter of 10, rounded up


def test_shrink_drops_normals_cap_falls_short_and_resample_adds_copies(category: Category) -> None:
    shrunk = contaminate(category, 0.5)
    assert (len(injected(shrunk)), len(shrunk.training), shrunk.reached) == (6, 18, 0.5)
    capped = contaminate(category, 0.5, policy="cap")
    assert (len(injected(capped)), len(capped.training), capped.reached) == (6, 26, 0.3)
    resampled = contaminate(category, 0.5, policy="resample")
    assert (len(injected(resampled)), len(resampled.training), resampled.reached) == (6, 30, 0.5)
    copies = [entry for entry in resampled.training if entry.copy]
    assert len(copies) == 4
    assert all(abs(c.rotation) <= 3 and max(abs(c.shift_x), abs(c.shift_y)) <= 0.03 for c in copies)
    images = resampled.training_set(category)
    assert len(images) == 30
    assert len(set(images.content.values())) == 30  # a copy is not the image itself
    original_id = next(entry.id for entry in resampled.training if (entry.path, entry.copy) == (copies[0].path, 0))
    moved, original = images.read(copies[0].id), images.read(original_id)
    assert moved.shape == original.shape
    assert np.abs(moved.astype(int) - original).mean() < 40


def test_only_the_asked_kind_of_defect_is_injected(category: Category) -> None:
    manifest = contaminate(category, 0.1, defects=["dent"])
    assert {entry.defect for entry in manifest.training} == {"good", "dent"}


def test_names_and_their_order_tell_nothing(category: Category) -> None:
    manifest = contaminate(category, 0.3)
    images = manifest.training_set(category)
    assert not any(word in name for name in images.ids for word in ("test", "train", "good", "dent", "scratch"))
    places = np.flatnonzero(manifest.training_truth(images.ids)) / len(images)
    assert places.min() < 0.4
    assert places.max() > 0.6  # not all first or last, as sorted paths would have them


def test_a_detector_sees_no_label(category: Category) -> None:
    manifest = contaminate(category, 0.2)
    images = manifest.training_set(category)
    assert images.labels == {}
    assert set(images.ids) == {entry.id for entry in manifest.training}
    assert manifest.training_truth(images.ids).sum() == 4
    assert manifest.test_set(category, OVERLAP).labels == {}


def test_a_manifest_is_read_back_as_it_was_written(category: Category, tmp_path: Path) -> None:
    for policy in ("shrink", "resample"):
        manifest = contaminate(category, 0.5, policy=policy, seed=1, defects=["dent"])
        manifest.write(tmp_path / policy)
        assert read_manifest(tmp_path / policy, category) == manifest


def test_a_changed_manifest_is_refused(category: Category, tmp_path: Path) -> None:
    contaminate(category, 0.2).write(tmp_path)
    table = tmp_path / "manifest.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(RequestError, match="hash differs"):
        read_manifest(tmp_path, category)


def test_a_list_of_paths_of_others_is_a_manifest(category: Category, tmp_path: Path) -> None:
    ours = contaminate(category, 0.2)
    (tmp_path / "train.txt").write_text("\n".join(entry.path for entry in ours.training) + "\n")
    manifest = read_manifest(tmp_path / "train.txt", category)
    assert (manifest.policy, manifest.reached, manifest.hash) == ("external", 0.2, ours.hash)
    (tmp_path / "train.txt").write_text("bolt/train/good/999.png\n")
    with pytest.raises(RequestError, match=r"'bolt/train/good/999\.png'"):
        read_manifest(tmp_path / "train.txt", category)


def test_what_cannot_be_is_said(category: Category, tmp_path: Path) -> None:
    for change, message in (
        ({"ratio": -0.1}, "0 or more"),
        ({"policy": "stretch"}, "shrink, cap, resample"),
        ({"test_share": 1.0}, "below 1"),
        ({"defects": ["rust"]}, "no defect 'rust'; it has dent, scratch"),
    ):
        with pytest.raises(RequestError, match=message):
            contaminate(category, **{"ratio": 0.1, **change})
    lonely = open_datasets(mvtec(tmp_path / "lonely", bad=0))[0]
    with pytest.raises(RequestError, match=r"0 test anomalies.*ratio of 0"):
        contaminate(lonely, 0.1)
    assert contaminate(lonely, 0.0).reached == 0
    for image in (tmp_path / "lonely" / "bolt" / "train" / "good").iterdir():
        image.unlink()
    with pytest.raises(RequestError, match="mvtec/bolt"):
        contaminate(open_datasets(tmp_path / "lonely")[0], 0.0)
    with pytest.raises(RequestError, match=r"mvtec/bolt.*lower the ratio \(1\)"):
        contaminate(category, 1.0, test_share=0.0).test_paths(category, NO_OVERLAP)
