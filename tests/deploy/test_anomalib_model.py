"""Detectors of blemish under anomalib's Engine and command line. Left out of `make test`; see the marker."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("anomalib", reason="anomalib is not installed: pip install 'blemish[anomalib]'")

from anomalib.data import Folder
from anomalib.engine import Engine

from blemish.deploy.anomalib_model import BlemishModel, Scoring
from blemish.detectors import detector_class
from blemish.detectors.parts.views import View
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from conftest import fill, picture

pytestmark = pytest.mark.anomalib

VIEWS = (View(96, ("16", "32")), View(96, ("8", "16a"), pool=3, rooted=False, ranks=False))
SMALL = {"views": VIEWS}
SETTINGS = {
    "funad": {**SMALL, "steps": 30, "batch": 64, "noise_batch": 16, "bank_entries": 100},
    "nearest_images": SMALL,
}


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A folder as anomalib's `Folder` takes it; one of the training images is bad, as it may be."""
    fill(tmp_path / "parts" / "train", 12)
    fill(tmp_path / "parts" / "good", 6, start=40)
    for folder in ("bad", "masks"):
        (tmp_path / "parts" / folder).mkdir()
    for number in range(6):
        rgb, mask = picture(60 + number), np.zeros((64, 64), dtype=np.uint8)
        rgb[10:30, 30:50], mask[10:30, 30:50] = 255, 255
        Image.fromarray(rgb).save(tmp_path / "parts" / "bad" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "parts" / "masks" / f"{number}.png")
    return tmp_path / "parts"


def data(parts: Path) -> Folder:
    return Folder(
        name="parts",
        root=parts,
        normal_dir="train",
        abnormal_dir="bad",
        normal_test_dir="good",
        mask_dir="masks",
        train_batch_size=4,
        eval_batch_size=4,
        num_workers=0,
        val_split_mode="same_as_test",
    )


@pytest.mark.parametrize("name", list(SETTINGS))
def test_the_engine_fits_tests_saves_and_loads(name: str, parts: Path, tmp_path: Path) -> None:
    model = BlemishModel(name, settings=SETTINGS[name], visualizer=False)
    engine = Engine(default_root_dir=tmp_path / "results", accelerator="cpu")
    engine.fit(model, datamodule=data(parts))
    (figures,) = engine.test(model, datamodule=data(parts))
    assert figures["image_AUROC"] == 1.0
    assert figures["pixel_AUROC"] > 0.9
    loaded = BlemishModel.load_from_checkpoint(
        engine.best_model_path, detector=name, settings=SETTINGS[name], visualizer=False
    )
    (again,) = Engine(default_root_dir=tmp_path / "again", accelerator="cpu").test(loaded, datamodule=data(parts))
    assert again == pytest.approx(figures, abs=1e-6)


def test_the_model_learns_and_scores_what_the_detector_does(parts: Path, tmp_path: Path) -> None:
    model = BlemishModel(settings=SMALL, seed=3, visualizer=False)
    Engine(default_root_dir=tmp_path / "results", accelerator="cpu").fit(model, datamodule=data(parts))
    detector = detector_class("nearest_images")(**SMALL, random_state=3)
    paths = sorted(str(path) for path in (parts / "train").iterdir())
    with use_runtime(threads=1):
        detector.fit(ImageSet.of(paths))
        bad = ImageSet.of(parts / "bad")
        wanted = detector.score(bad)
    state = model.detector.state()
    assert all(torch.equal(tensor, state[name]) for name, tensor in detector.state().items())
    for name in bad.ids:
        image = torch.from_numpy(bad.read(name)).permute(2, 0, 1)[None] / 255
        found = model.model(image)
        assert float(found.pred_score) == pytest.approx(wanted[name], rel=1e-3)
        np.testing.assert_allclose(found.anomaly_map[0, 0].numpy(), wanted.map(name), rtol=1e-3, atol=1e-3)


def test_maps_of_other_shapes_lie_over_the_image(parts: Path) -> None:
    with use_runtime(threads=1):
        detector = detector_class("nearest_images")(**SMALL).fit(ImageSet.of(parts / "train"))
    wide = np.concatenate([picture(70), picture(71), picture(72)], axis=1)
    wide[20:44, 8:32] = 255
    found = Scoring(detector)(torch.from_numpy(wide).permute(2, 0, 1)[None] / 255)
    grid = found.anomaly_map[0, 0].numpy()
    assert grid.shape == (64, 192)
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    assert 10 <= row < 54
    assert 0 <= column < 44


def test_the_command_line_of_anomalib_takes_it(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anomalib.cli.cli import AnomalibCLI

    monkeypatch.chdir(tmp_path)
    words = "train --model blemish.deploy.anomalib_model.BlemishModel --model.detector funad"
    words += " --model.visualizer false --data anomalib.data.Folder"
    words += (
        f" --data.name parts --data.root {parts} --data.normal_dir train --data.abnormal_dir bad --data.num_workers 0"
    )
    words += " --data.normal_test_dir good --data.val_split_mode same_as_test --trainer.accelerator cpu"
    settings = '{"steps": 30, "bank_entries": 100, "views": [{"pixels": 96, "stages": ["16", "32"]}]}'
    cli = AnomalibCLI(args=[*words.split(), "--model.settings", settings])
    assert float(cli.engine.trainer.callback_metrics["image_AUROC"]) == 1.0
    assert list((tmp_path / "results").rglob("model.ckpt"))


def test_wrong_names_are_answered_as_everywhere() -> None:
    with pytest.raises(RequestError, match="did you mean funad"):
        BlemishModel("funda")
    with pytest.raises(RequestError, match=r"'stepps'.*steps"):
        BlemishModel("funad", settings={"stepps": 3})


@pytest.mark.parametrize("name", ["anomalib:Padim", "dinomaly"])
def test_what_anomalib_has_already_is_refused_at_once(name: str) -> None:
    with pytest.raises(RequestError, match="take its own model"):
        BlemishModel(name)
