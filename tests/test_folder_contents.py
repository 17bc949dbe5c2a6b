"""What lies in a folder beside its images is left out, and counted."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from blemish.images import ImageSet
from files_of_parts import OLD_WAYS, SIDE, folder, grey, part, pillow

pytestmark = OLD_WAYS


def test_thumbnails_and_deleted_files_of_a_server_are_no_images(tmp_path):
    root = folder(tmp_path / "in", pillow("L"), ".png", 4)
    for place in ("@eaDir/part-00.png", "#recycle", "__MACOSX", "below/$RECYCLE.BIN"):
        folder(root / place, pillow("L"), ".png", 2)
    assert len(ImageSet.of(root)) == 4


def test_other_files_are_counted_by_kind(tmp_path):
    root = folder(tmp_path / "in", pillow("L"), ".png", 4)
    for name in ("a.nef", "b.nef", "notes.txt", ".hidden"):
        (root / name).write_bytes(b"II*\0 something else")
    (root / "README").write_text("no image")
    assert ImageSet.of(root).notes == ("4 other files were not looked at: 2 .nef, 1 README, 1 .txt.",)


def photo(root, name, index):
    grey(root / name, part(index) * 255)


def drawn_mask(root, name, levels=(0, 255), **options):
    mask = np.full((SIDE, SIDE), levels[0])
    mask[20:30, 20:30] = levels[1]
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8)).save(path, **options)


DATA_SETS = {  # photos, then masks, by where they lie; {} stands for a number
    "mvtec": (("train/good/{}.png", "test/dent/{}.png"), "ground_truth/dent/{}_mask.png"),
    "mvtec loco": (("train/good/{}.png", "test/logical/{}.png"), "ground_truth/logical/{}/000.png"),
    "mvtec 3d": (("train/good/rgb/{}.png", "test/dent/rgb/{}.png"), "test/dent/gt/{}.png"),
    "visa": (("Data/Images/Normal/{}.JPG", "Data/Images/Anomaly/{}.JPG"), "Data/Masks/Anomaly/{}.png"),
    "btad": (("train/ok/{}.bmp", "test/ko/{}.bmp"), "ground_truth/ko/{}.png"),
    "dagm": (("Train/{}.PNG", "Test/{}.PNG"), "Test/Label/{}_label.PNG"),
    "kolektor": (("kos01/Part{}.jpg", "kos02/Part{}.jpg"), "kos02/Part{}_label.bmp"),
    "kolektor 2": (("train/{}.png", "test/{}.png"), "test/{}_GT.png"),
    "real-iad": (("OK/C1/{}.jpg", "NG/C1/{}.jpg"), "NG/C1/{}.png"),
    "segmentation": (("images/{}.png", "more/{}.png"), "SegmentationClass/{}.png"),
    "other folder": (("images/a{}.png", "more/{}.png"), "drawn/{}.png"),
    "label studio": (("images/{}.png", "more/{}.png"), "annotations/task-{}.png"),
}


@pytest.mark.parametrize("levels", [(0, 255), (0, 1), (255, 0)])
@pytest.mark.parametrize("layout", DATA_SETS)
def test_masks_of_a_data_set_are_left_out_and_counted(layout, levels, tmp_path):
    photos, masks = DATA_SETS[layout]
    for index in range(8):
        photo(tmp_path, photos[0].format(f"{index:03d}"), index)
        photo(tmp_path, photos[1].format(f"{index + 8:03d}"), index + 8)
        drawn_mask(tmp_path, masks.format(f"{index + 8:03d}"), levels)
    images = ImageSet.of(tmp_path)
    assert len(images) == 16
    assert any(note.startswith("8 files are masks of other images") for note in images.notes)
    of_masks = {masks.format(f"{index + 8:03d}"): "a mask of another image" for index in range(8)}
    assert (images.left_out, images.skipped) == (of_masks, {})


def test_masks_saved_as_jpeg_are_known_all_the_same(tmp_path):
    for index in range(4):
        photo(tmp_path, f"images/{index}.jpg", index)
        drawn_mask(tmp_path, f"masks/{index}.jpg", quality=80)
    assert len(ImageSet.of(tmp_path)) == 4


def test_positions_of_points_are_no_pictures(tmp_path):
    for index in range(4):
        photo(tmp_path, f"good/rgb/{index:03d}.png", index)
        (tmp_path / "good/xyz").mkdir(exist_ok=True)
        tifffile.imwrite(
            tmp_path / f"good/xyz/{index:03d}.tiff", np.zeros((SIDE, SIDE, 3), np.float32), photometric="rgb"
        )
    images = ImageSet.of(tmp_path)
    assert [name.split("/")[1] for name in images.ids] == ["rgb"] * 4
    assert any("4 files are positions of points" in note for note in images.notes)


@pytest.mark.parametrize("place", ["labels", "seg", "masks"])
def test_photos_in_a_folder_that_sounds_like_masks_are_photos(place, tmp_path):
    for index in range(4):
        photo(tmp_path, f"{place}/{index}.png", index)
        photo(tmp_path, f"others/{index}.png", 20 + index)
    assert len(ImageSet.of(tmp_path)) == 8


def test_a_folder_of_nothing_but_black_and_white_images_is_looked_at(tmp_path):
    for index in range(6):
        drawn_mask(tmp_path, f"prints/{index}.png")
        drawn_mask(tmp_path, f"more/{index}.png", (0, 254 - index))
    assert len(ImageSet.of(tmp_path)) == 12


def test_a_list_says_what_is_looked_at(tmp_path):
    for index in range(4):
        photo(tmp_path, f"images/{index}.png", index)
        drawn_mask(tmp_path, f"masks/{index}.png")
    (tmp_path / "all.txt").write_text(
        "".join(f"{each}/{index}.png\n" for each in ("images", "masks") for index in range(4))
    )
    assert len(ImageSet.of(tmp_path / "all.txt")) == 8
