"""The demo folder: contaminated, unlabelled, the same for the same seed."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from blemish.images import ImageSet, synthesis
from blemish.jobs.demo import make_demo_folder
from blemish.machine.errors import RequestError


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_a_demo_folder_holds_good_images_and_some_defects(tmp_path):
    kinds = make_demo_folder(tmp_path / "demo", count=25, bad_share=0.24, seed=1)
    images = ImageSet.of(tmp_path / "demo")
    assert len(images) == 25
    assert len(set(images.content.values())) == 25
    assert len(kinds) == len(set(kinds.values())) == 6
    assert set(kinds) < set(images.ids)
    assert set(images.sizes.values()) == {(256, 256)}
    assert {name.split(".")[1] for name in images.ids} == {"png", "jpg"}


def test_the_same_seed_makes_the_same_files(tmp_path):
    made = [make_demo_folder(tmp_path / str(i), count=6, bad_share=0.5, seed=s) for i, s in enumerate((3, 3, 4))]
    assert made[0] == made[1]
    assert digests(tmp_path / "0") == digests(tmp_path / "1") != digests(tmp_path / "2")


def test_names_tell_nothing(tmp_path):
    kinds = make_demo_folder(tmp_path / "demo", count=8, bad_share=0.5)
    names = [path.stem for path in sorted((tmp_path / "demo").iterdir())]
    assert names == [f"tile-{i:04d}" for i in range(1, 9)]
    assert len(kinds) == 4


def test_a_folder_in_use_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RequestError, match="give a new one"):
        make_demo_folder(tmp_path)
    with pytest.raises(RequestError, match="give a new one"):
        make_demo_folder(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("wrong", [{"count": 0}, {"bad_share": 1.5}, {"bad_share": float("nan")}])
def test_numbers_out_of_range_are_refused(tmp_path, wrong):
    with pytest.raises(RequestError, match=r"bad_share 0\.\.1"):
        make_demo_folder(tmp_path / "demo", **wrong)
    assert not (tmp_path / "demo").exists()


TEXTURE = np.random.default_rng(5).integers(0, 255, (90, 40, 3), dtype=np.uint8)
DRAWERS = {
    "scratch": synthesis.scratch,
    "crack": synthesis.crack,
    "stain": synthesis.stain,
    "hole": synthesis.hole,
    "smear": synthesis.smear,
    "foreign": lambda rgb, rng: synthesis.foreign(rgb, rng, TEXTURE),
    "perlin": synthesis.perlin_anomaly,
    "perlin texture": lambda rgb, rng: synthesis.perlin_anomaly(rgb, rng, TEXTURE),
}


def surface(shape):
    return np.random.default_rng(7).integers(90, 170, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", DRAWERS)
@pytest.mark.parametrize("shape", [(128, 128), (40, 200), (16, 16)])
def test_a_defect_changes_what_its_mask_says_and_nothing_else(name, shape):
    for seed in range(5):
        rgb = surface(shape)
        before = rgb.copy()
        drawn, mask = DRAWERS[name](rgb, np.random.default_rng(seed))
        assert (rgb == before).all()
        assert (drawn.shape, drawn.dtype) == (rgb.shape, np.uint8)
        assert (mask.shape, mask.dtype) == (shape, bool)
        change = np.abs(drawn.astype(int) - rgb).max(axis=2)
        assert mask.any()
        assert mask.mean() < 0.9
        assert change[mask].mean() > 2 * (change[~mask].mean() + 0.5)


@pytest.mark.parametrize("name", DRAWERS)
def test_the_same_generator_draws_the_same(name):
    a, b = (DRAWERS[name](surface((64, 64)), np.random.default_rng(2)) for _ in range(2))
    assert (a[0] == b[0]).all()
    assert (a[1] == b[1]).all()


def test_perlin_noise_is_smooth_centred_and_of_the_scale_asked_for():
    rng = np.random.default_rng(0)
    noise = np.stack([synthesis.perlin_noise((96, 64), (4, 2), rng) for _ in range(50)])
    assert noise.dtype == np.float32
    assert abs(noise.mean()) < 0.05
    assert np.abs(noise).max() <= 1.0
    assert np.abs(np.diff(noise, axis=1)).max() < 0.2
    fine = synthesis.perlin_noise((96, 64), (32, 32), rng)
    assert np.abs(np.diff(fine, axis=0)).mean() > 3 * np.abs(np.diff(noise, axis=1)).mean()


def test_perlin_anomalies_touch_nothing_outside_their_mask():
    rgb = surface((64, 96))
    drawn, mask = synthesis.perlin_anomaly(rgb, np.random.default_rng(1))
    assert (drawn[~mask] == rgb[~mask]).all()


def test_demo_images_show_their_photo_not_a_border(tmp_path):
    make_demo_folder(tmp_path / "demo", count=30, bad_share=0, seed=9)
    for path in (tmp_path / "demo").iterdir():
        edge = np.asarray(Image.open(path).convert("L"), dtype=float)
        assert min(edge[:3].mean(), edge[-3:].mean(), edge[:, :3].mean(), edge[:, -3:].mean()) > 50
