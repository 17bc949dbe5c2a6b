"""No image passes the backbone twice, nothing that was made is lost, and damage on the disk costs time only."""

import errno
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from blemish.features import FeatureSpec, features_of
from blemish.images import ImageSet
from blemish.machine.errors import JobError, RequestError
from blemish.machine.runtime import use_runtime
from conftest import fill, picture

SPEC = FeatureSpec("efficientnet_lite0", 64, ("16", "32"), (64, 64))
pytestmark = pytest.mark.usefixtures("cached")


def made(folder: Path):
    features = features_of(ImageSet.of(folder), SPEC)
    features.make()
    return features


def everything(features):
    batches = list(features.batches(size=4))
    return torch.cat([batch.stages["16"] for batch in batches]), torch.cat([batch.globals for batch in batches])


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_each_content_passes_the_backbone_once(photos, backbone_passes):
    shutil.copy(photos / "part-01.png", photos / "copy.png")
    first = everything(made(photos))
    assert sum(backbone_passes) == 10
    assert made(photos).make() == 0
    assert same(first, everything(made(photos)))
    assert sum(backbone_passes) == 10


def test_moved_and_renamed_files_are_known_by_content(photos, tmp_path, backbone_passes):
    made(photos)
    shutil.move(photos, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "part-00.png").rename(tmp_path / "elsewhere" / "zero.png")
    assert made(tmp_path / "elsewhere").make() == 0
    assert sum(backbone_passes) == 10


def test_new_images_cost_only_themselves(photos, backbone_passes):
    made(photos)
    fill(photos, 2, start=30)
    made(photos)
    assert sum(backbone_passes) == 12


def test_other_settings_and_another_range_are_other_features(photos, backbone_passes):
    made(photos)
    other = FeatureSpec("efficientnet_lite0", 64, ("16", "32"), (64, 96))
    features_of(ImageSet.of(photos), other).make()
    assert sum(backbone_passes) == 20


def test_features_read_from_disk_are_those_that_were_made(photos):
    with use_runtime(keep_features=False):
        fresh = everything(features_of(ImageSet.of(photos), SPEC))
    assert same(fresh, everything(made(photos)))


def test_nothing_is_written_where_nothing_is_to_be_kept(photos, own_cache):
    with use_runtime(keep_features=False):
        everything(features_of(ImageSet.of(photos), SPEC))
    assert not own_cache.exists()


def test_features_made_before_an_interruption_are_kept(photos, monkeypatch, backbone_passes):
    read = ImageSet.read

    def interrupted(self, name, **how):
        if name == "part-07.png":
            raise KeyboardInterrupt
        return read(self, name, **how)

    with monkeypatch.context() as patch, use_runtime(threads=1):
        patch.setattr(ImageSet, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(photos)
    before = sum(backbone_passes)
    assert 7 <= before < 10
    made(photos)
    assert sum(backbone_passes) <= 11, "only the image that was in hand is made again"


@pytest.mark.parametrize("damage", ["truncate", "garbage", "flip", "remove"])
def test_a_damaged_file_is_made_again(photos, own_cache, backbone_passes, damage):
    sound = everything(made(photos))
    file = min(own_cache.rglob("*.safetensors"))
    data = bytearray(file.read_bytes())
    if damage == "truncate":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "garbage":
        file.write_bytes(b"\xff" * 500)
    elif damage == "flip":
        data[-100] ^= 0x40
        file.write_bytes(data)
    else:
        file.unlink()
    assert same(sound, everything(made(photos)))
    assert same(sound, everything(made(photos)))
    assert sum(backbone_passes) == 11
    assert made(photos).make() == 0, "and is kept this time"


def test_a_set_that_vanishes_while_it_is_read_is_made_again(photos, own_cache):
    features = made(photos)
    batches = features.batches(size=4)
    first = next(batches)
    shutil.rmtree(own_cache)
    rest = list(batches)
    assert len(first.ids) + sum(len(batch.ids) for batch in rest) == 10


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "is full; free some space"), (errno.EROFS, "cannot be written .*`cache`")],
)
def test_a_disk_that_refuses_is_one_sentence_and_nothing_half_written_stays(
    photos, own_cache, monkeypatch, number, message
):
    def refuse(self, data):
        self.touch()
        raise OSError(number, "refused", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refuse)
        with pytest.raises(JobError, match=message):
            made(photos)
    assert not list(own_cache.rglob("*.partial"))
    assert made(photos).make() == 0


def test_a_cache_that_is_a_file_is_one_sentence(photos, tmp_path):
    (tmp_path / "file").touch()
    with use_runtime(cache=tmp_path / "file"), pytest.raises(RequestError, match=r"cannot be read .*`cache`"):
        made(photos)


def test_an_unreadable_image_and_its_copies_are_reported_with_the_reason(photos):
    torn = (photos / "part-05.png").read_bytes()[:2000]
    for name in ("part-05.png", "copy.png"):
        (photos / name).write_bytes(torn)
    features = made(photos)
    assert set(features.skipped) == {"part-05.png", "copy.png"}
    assert all("truncated" in reason for reason in features.skipped.values())
    assert sum(len(batch.ids) for batch in features.batches()) == 9


def test_memory_does_not_grow_with_the_number_of_images():
    pages = Path("/proc/self/statm")
    if not pages.exists():
        pytest.skip("this system does not tell how much memory is held")
    images = ImageSet.of([picture(index)[:8, :8] for index in range(100)])
    features = features_of(images, FeatureSpec("efficientnet_lite0", 64, ("16",), (64, 64)))
    whole, patches = torch.rand(10).half(), torch.rand(128, 128, 32).half()  # 1 MB an image
    for start in range(0, 100, 20):
        names = images.ids[start : start + 20]
        features.store.add({name: {"globals": whole, "16": patches} for name in names}, images)
    held = []
    for batch in features.batches(size=4):
        assert len(batch.ids) == 4
        held.append(int(pages.read_text().split()[1]) * 4096)
    assert max(held) - held[1] < 25e6, "of 100 MB that were read"


def test_a_large_image_is_reduced_before_it_becomes_features(tmp_path):
    Image.fromarray(picture(0)).resize((4200, 200)).save(tmp_path / "wide.png")
    (batch,) = made(tmp_path).batches()
    assert batch.boxes[0].tolist() == pytest.approx([0, 0.47, 1, 0.53], abs=0.02)
