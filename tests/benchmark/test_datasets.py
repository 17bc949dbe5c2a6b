"""Each published layout is read as it ships, and a wrong root is answered with the layout it nearly has."""

import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from blemish.benchmark.contamination import NO_OVERLAP, OVERLAP, contaminate
from blemish.benchmark.datasets import Category, open_datasets
from blemish.benchmark.datasets.classes import CLASSES
from blemish.benchmark.datasets.inspection import problems_of
from blemish.cli import app
from blemish.machine.errors import RequestError
from layouts import (
    cifar_binary,
    cifar_python,
    class_folders,
    class_pixels,
    image,
    mask,
    mvtec,
    realiad,
    stl_binary,
    table,
    tarred,
    visa,
    zipped,
)


def counts(category: Category) -> tuple[int, int, int]:
    return len(category.train), len(category.normals), len(category.anomalies)


def masked(category: Category) -> int:
    return sum(sample.mask is not None for sample in category.anomalies)


def only(root: Path) -> Category:
    (category,) = open_datasets(root)
    return category


def test_mvtec_is_read_with_its_kinds_of_defect_and_masks(tmp_path: Path) -> None:
    mvtec(tmp_path, "bolt")
    mvtec(tmp_path, "nut", train=9)
    bolt, nut = open_datasets(tmp_path)
    assert [str(bolt), str(nut)] == ["mvtec/bolt", "mvtec/nut"]
    assert (counts(bolt), counts(nut)) == ((12, 4, 6), (9, 4, 6))
    assert {sample.defect for sample in bolt.anomalies} == {"dent", "scratch"}
    sample = bolt.anomalies[0]
    assert sample.path == "bolt/test/dent/000.png"
    drawn = bolt.mask(sample.path, (64, 64))
    assert drawn is not None
    assert (drawn.sum(), bool(drawn[30, 30])) == (256, True)
    assert not bolt.mask(bolt.normals[0].path, (64, 64)).any()
    assert bolt.mask(sample.path, (128, 32)).shape == (32, 128)
    assert problems_of(bolt) == []


@pytest.mark.parametrize("end", ["", "_mask", "_gt"])
def test_masks_are_found_whatever_ends_their_names_and_jpeg_is_as_good(tmp_path: Path, end: str) -> None:
    category = only(mvtec(tmp_path, suffix=".jpg", end=end))
    assert (counts(category), masked(category)) == ((12, 4, 6), 6)


def test_a_category_can_be_named_itself_and_its_folders_may_be_called_ok_or_normal(tmp_path: Path) -> None:
    mvtec(tmp_path)
    (tmp_path / "bolt" / "train" / "good").rename(tmp_path / "bolt" / "train" / "OK")
    (tmp_path / "bolt" / "test" / "good").rename(tmp_path / "bolt" / "test" / "normal")
    assert str(only(tmp_path / "bolt")) == "mvtec/bolt"
    assert counts(only(tmp_path / "bolt")) == (12, 4, 6)


def test_masks_in_a_folder_an_image_add_up(tmp_path: Path) -> None:
    home = mvtec(tmp_path) / "bolt"
    for path in sorted((home / "ground_truth" / "dent").glob("*.png")):
        inner = path.with_name(path.stem.removesuffix("_mask"))
        inner.mkdir()
        path.rename(inner / "000.png")
        drawn = np.zeros((64, 64), np.uint8)
        drawn[0:4, 0:4] = 255
        Image.fromarray(drawn).save(inner / "001.png")
    category = only(tmp_path)
    assert (counts(category), masked(category)) == ((12, 4, 6), 6)
    found = category.mask("bolt/test/dent/000.png", (64, 64))
    assert found is not None
    assert (found.sum(), bool(found[1, 1]), bool(found[30, 30])) == (256 + 16, True, True)
    assert problems_of(category) == []
    assert len(category.signature) == 16


def test_pictures_of_3d_scans_are_read_with_their_masks_and_listed_once(tmp_path: Path) -> None:
    home = mvtec(tmp_path) / "bolt"
    for folder in (home / "train" / "good", *(home / "test").iterdir()):
        (folder / "rgb").mkdir()
        (folder / "xyz").mkdir()
        for path in sorted(folder.glob("*.png")):
            path.rename(folder / "rgb" / path.name)
            (folder / "xyz" / path.with_suffix(".tiff").name).write_bytes(b"II*\0")
    for folder in (home / "ground_truth").iterdir():
        (home / "test" / folder.name / "gt").mkdir()
        for path in folder.iterdir():
            path.rename(home / "test" / folder.name / "gt" / path.name.replace("_mask", ""))
    shutil.rmtree(home / "ground_truth")
    category = only(tmp_path)
    assert (counts(category), masked(category)) == ((12, 4, 6), 6)
    assert category.anomalies[0].path == "bolt/test/dent/rgb/000.png"
    assert problems_of(category) == []


def test_missing_ground_truth_is_told_and_leaves_the_truth_unknown(tmp_path: Path) -> None:
    shutil.rmtree(mvtec(tmp_path) / "bolt" / "ground_truth")
    category = only(tmp_path)
    assert category.mask(category.anomalies[0].path, (64, 64)) is None
    found = " ".join(problems_of(category))
    assert "no ground_truth folder" in found
    assert "6 anomalous images have no mask" in found


def test_what_is_wrong_with_the_files_is_told(tmp_path: Path) -> None:
    home = mvtec(tmp_path) / "bolt"
    (home / "ground_truth" / "dent" / "000_mask.png").unlink()
    mask(home / "ground_truth" / "dent" / "001_mask.png", side=32)
    (home / "ground_truth" / "dent" / "002_mask.png").write_bytes(b"no image")
    shutil.copy(home / "train" / "good" / "000.png", home / "test" / "good" / "000.png")
    (home / "test" / "good" / "001.png").write_bytes(b"no image")
    found = "\n".join(problems_of(only(tmp_path)))
    assert "1 anomalous images have no mask; pixel metrics leave them out: bolt/test/dent/000.png" in found
    assert "1 masks have another size than their image" in found
    assert "1 masks cannot be read: bolt/test/dent/002.png" in found
    assert "1 test images are in training too, by content: bolt/test/good/000.png" in found
    assert "1 images cannot be read: bolt/test/good/001.png" in found


def test_visa_is_split_as_its_csv_says(tmp_path: Path) -> None:
    category = only(visa(tmp_path))
    assert str(category) == "visa/candle"
    assert (counts(category), masked(category)) == ((8, 2, 3), 3)
    assert {sample.defect for sample in category.anomalies} == {"chip", "melted"}
    assert {sample.path for sample in category.normals} == {
        f"candle/Data/Images/Normal/{index:04d}.JPG" for index in (8, 9)
    }


def test_visa_without_its_csv_says_which_split_it_made(tmp_path: Path) -> None:
    category = only(visa(tmp_path, split=False))
    assert (counts(category), masked(category)) == ((8, 2, 3), 3)
    assert "split_csv/1cls.csv" in category.problems[0]


def test_a_table_that_leads_out_of_the_dataset_is_refused(tmp_path: Path) -> None:
    visa(tmp_path / "set")
    image(tmp_path / "secret.JPG", 1)
    row = "candle,train,normal,candle/../../secret.JPG,"
    table(tmp_path / "set" / "split_csv" / "1cls.csv", "object,split,label,image,mask", [row])
    with pytest.raises(RequestError, match=r"secret\.JPG'"):
        open_datasets(tmp_path / "set")


def test_files_that_a_table_names_but_the_disk_lacks_are_counted(tmp_path: Path) -> None:
    visa(tmp_path)
    (tmp_path / "candle/Data/Images/Normal/0001.JPG").unlink()
    category = only(tmp_path)
    assert counts(category) == (7, 2, 3)
    assert "1 images are named but not there" in category.problems[0]


def test_realiad_is_read_by_its_jsons_and_views_of_a_sample_stay_together(tmp_path: Path) -> None:
    plain, fuiad = open_datasets(realiad(tmp_path))
    assert (str(plain), str(fuiad)) == ("realiad/audiojack", "realiad_fuiad_0.1/audiojack")
    assert (counts(plain), masked(plain)) == ((12, 4, 6), 6)
    images = plain.images([sample.path for sample in plain.train])
    assert len(images) == 12
    assert len({images.groups[name] for name in images.ids}) == 6
    trained = contaminate(plain, 0.0).training_set(plain)
    assert len({trained.groups[name] for name in trained.ids}) == 6
    assert not any("S0" in group for group in trained.groups.values())
    assert open_datasets(tmp_path, ["realiad_fuiad_0.1"]) == [fuiad]


def test_views_of_an_injected_sample_leave_the_test_together(tmp_path: Path) -> None:
    plain = open_datasets(realiad(tmp_path), ["realiad"])[0]
    manifest = contaminate(plain, 0.1)
    assert sum(entry.anomalous for entry in manifest.training) == 1
    assert len(manifest.test_paths(plain, OVERLAP)) == 10
    assert len(manifest.test_paths(plain, NO_OVERLAP)) == 8


def test_a_fuiad_split_is_trained_on_as_it_ships(tmp_path: Path) -> None:
    fuiad = open_datasets(realiad(tmp_path), ["realiad_fuiad_0.1"])[0]
    assert counts(fuiad) == (13, 4, 6)
    manifest = contaminate(fuiad, 0.0)
    assert sum(entry.anomalous for entry in manifest.training) == 1
    assert manifest.reached == pytest.approx(1 / 12)
    with pytest.raises(RequestError, match="ships contaminated"):
        contaminate(fuiad, 0.1)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("make", [cifar_binary, cifar_python, stl_binary])
def test_official_archives_are_read_packed_and_unpacked(tmp_path: Path, make, packed: bool) -> None:
    name = {"cifar_binary": "cifar-10-batches-bin", "cifar_python": "cifar-10-batches-py", "stl_binary": "stl10_binary"}
    folder = make(tmp_path / name[make.__name__])
    if packed:
        tarred(folder)
        shutil.rmtree(folder)
    categories = open_datasets(tmp_path)
    dataset = "stl10" if make is stl_binary else "cifar10"
    assert [each.name for each in categories] == list(CLASSES[dataset])
    assert {each.dataset for each in categories} == {dataset}
    train = 2 if make is stl_binary else 10
    assert counts(categories[3]) == (train, 2, 18)
    assert categories[3].semantic
    side = 96 if make is stl_binary else 32
    sample = categories[3].normals[1]
    assert callable(sample.source)
    np.testing.assert_array_equal(sample.source(), class_pixels(20, side)[13])
    images = categories[3].images([each.path for each in categories[3].normals])
    assert images.sizes[images.ids[0]] == (side, side)


class Trap:
    """What a hostile pickle does."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("trapped"),)


def test_nothing_in_a_pickled_archive_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = cifar_python(tmp_path / "set" / "cifar-10-batches-py")
    (folder / "data_batch_2").write_bytes(pickle.dumps({b"labels": [1], b"data": Trap()}, protocol=2))
    with pytest.raises(RequestError, match=r"cifar-10-batches-py'.*fetch it again"):
        open_datasets(tmp_path / "set")
    assert not Path("trapped").exists()


@pytest.mark.parametrize("form", ["folders", "one zip a part", "one zip a class"])
def test_classes_as_folders_or_zips_are_one_against_all(tmp_path: Path, form: str) -> None:
    source = class_folders(tmp_path / "source", CLASSES["cifar10"])
    root = tmp_path / "root"
    if form == "folders":
        source.rename(root)
    elif form == "one zip a part":
        root.mkdir()
        for part in ("train", "test"):
            zipped(source / part, root / f"cifar10_{part}.zip")
    else:
        for part in ("train", "test"):
            (root / part).mkdir(parents=True)
            for name in CLASSES["cifar10"]:
                zipped(source / part / name, root / part / f"{name}.zip")
    categories = open_datasets(root)
    assert [str(each) for each in categories] == [f"cifar10/{name}" for name in CLASSES["cifar10"]]
    assert all(counts(each) == (3, 3, 27) for each in categories)
    assert {each.defect for each in categories[0].anomalies} == set(CLASSES["cifar10"][1:])
    assert len(categories[0].images([each.path for each in categories[0].train])) == 3


def test_a_folder_of_ones_own_is_read_by_its_folders_or_by_labels(tmp_path: Path) -> None:
    for index in range(10):
        image(tmp_path / "mine" / "good" / f"{index}.png", index)
    for index in range(2):
        image(tmp_path / "mine" / "rust" / f"{index}.png", 20 + index, square=True)
        mask(tmp_path / "mine" / "masks" / "rust" / f"{index}.png")
    sorted_by_hand = only(tmp_path / "mine")
    assert (str(sorted_by_hand), counts(sorted_by_hand)) == ("folder/mine", (8, 2, 2))
    assert masked(sorted_by_hand) == 2
    assert "every fifth normal image" in sorted_by_hand.problems[0]
    for index in range(6):
        image(tmp_path / "flat" / f"{index}.png", index)
    rows = [f"{index}.png,{'good' if index < 5 else 'bad'}" for index in range(6)]
    table(tmp_path / "flat" / "labels.csv", "path,label", rows)
    assert counts(only(tmp_path / "flat")) == (4, 1, 1)


def test_a_folder_without_labels_is_recognised_as_one(tmp_path: Path) -> None:
    for index in range(3):
        image(tmp_path / "photos" / "monday" / f"{index}.png", index)
    category = only(tmp_path / "photos")
    assert counts(category) == (3, 0, 0)
    assert "no labels" in category.problems[0]
    with pytest.raises(RequestError, match=r"folder/photos.*test share"):
        contaminate(category, 0.0).test_paths(category, OVERLAP)


def test_several_datasets_below_one_root_are_all_found(tmp_path: Path) -> None:
    mvtec(tmp_path)
    visa(tmp_path / "VisA")
    realiad(tmp_path / "Real-IAD")
    class_folders(tmp_path / "cifar", CLASSES["cifar10"], count=1)
    found = {each.dataset for each in open_datasets(tmp_path)}
    assert found == {"mvtec", "visa", "realiad", "realiad_fuiad_0.1", "cifar10"}


def test_a_wrong_root_is_told_what_it_nearly_is_and_what_was_looked_for(tmp_path: Path) -> None:
    mvtec(tmp_path / "a" / "b" / "mvtec")
    for inside in ("a/b/mvtec/bolt/test", "a/b/mvtec/bolt/train/good"):
        with pytest.raises(RequestError, match=r"'.*/mvtec/bolt' holds one"):
            open_datasets(tmp_path / inside)
    with pytest.raises(RequestError, match=r"'.*/b/mvtec' holds one"):
        open_datasets(tmp_path / "a")
    half = tmp_path / "half" / "bolt"
    image(half / "train" / "000.png", 1)
    image(half / "test" / "good" / "000.png", 2)
    with pytest.raises(RequestError, match=r"mvtec: .*CATEGORY/test .*CATEGORY/train/good"):
        open_datasets(tmp_path / "half")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"holds 0 folders, 0 images .* Looked for mvtec: .*; visa: .*; realiad: "):
        open_datasets(tmp_path / "empty")
    with pytest.raises(RequestError, match=r"nowhere'.*folder that holds the dataset"):
        open_datasets(tmp_path / "nowhere")
    with pytest.raises(RequestError, match=r"no category 'nut' .* there are mvtec/bolt"):
        open_datasets(tmp_path / "a/b/mvtec", ["nut"])


def test_a_damaged_split_is_one_sentence(tmp_path: Path) -> None:
    realiad(tmp_path)
    path = tmp_path / "realiad_jsons_fuiad_0.1" / "audiojack.json"
    path.write_text(json.dumps({"train": [{"image_path": "x"}]}))
    with pytest.raises(RequestError, match="unpack"):
        open_datasets(tmp_path)
    table(visa(tmp_path / "v") / "split_csv" / "1cls.csv", "a,b", ["1,2"])
    with pytest.raises(RequestError, match="'object'"):
        open_datasets(tmp_path / "v")


def test_the_command_prints_categories_counts_and_problems(tmp_path: Path) -> None:
    mvtec(tmp_path)
    (tmp_path / "bolt" / "ground_truth" / "dent" / "000_mask.png").unlink()
    said = CliRunner().invoke(app, ["datasets", str(tmp_path)])
    assert said.exit_code == 0
    assert re.search(r"mvtec/bolt +12 +4 +6 +5 +2\n +1 anomalous images have no mask", said.stdout)
    assert "1 category, 1 problem found." in said.stdout
    row = json.loads(CliRunner().invoke(app, ["datasets", str(tmp_path), "--json"]).stdout)["datasets"][0]
    assert (row["train"], row["test_anomalous"], row["kinds"]) == (12, 6, ["dent", "scratch"])


def test_the_command_refuses_a_wrong_root_with_exit_code_2(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["datasets", str(tmp_path)])
    assert said.exit_code == 2
    assert "Looked for mvtec" in said.output
