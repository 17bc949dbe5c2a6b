"""What holds of anomalib's models as detectors without training one: `test_anomalib_models.py` trains them."""

import socket
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import blemish
from blemish import cli
from blemish.detectors import detector_class
from blemish.detectors.anomalib_adapter import catalogue
from blemish.detectors.anomalib_adapter.image_scorer import ImageScorer, Unit, scored
from blemish.detectors.anomalib_adapter.weights_at_hand import (
    NetworkRefusedError,
    SignedHalves,
    as_taken,
    no_network,
    translated,
)
from blemish.detectors.anomalib_adapter.working_images import Pictures, working_images
from blemish.detectors.dinomaly import Dinomaly, taken_blocks
from blemish.detectors.settings import set_by_name
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from conftest import fill

installed = pytest.mark.skipif(not catalogue.models(), reason=f"anomalib is not installed: {catalogue.INSTALL}")


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without anomalib."""
    catalogue.models.cache_clear()
    monkeypatch.setattr(catalogue, "find_spec", lambda _: None)
    yield
    catalogue.models.cache_clear()


def test_without_anomalib_one_sentence_says_what_to_install(not_installed: None) -> None:
    with pytest.raises(RequestError, match=r"'anomalib:Padim'.*pip install 'blemish\[anomalib\]'"):
        detector_class("anomalib:Padim")
    said = CliRunner().invoke(cli.app, ["detectors"]).stdout
    assert "needs anomalib, which is not installed" in said
    assert "Padim" in said


def test_without_anomalib_dinomaly_says_so_before_it_looks_at_images(not_installed: None, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="pip install 'blemish"):
        Dinomaly().fit(ImageSet.of(fill(tmp_path / "photos", 8)))
    stages: list[str] = []
    with pytest.raises(RequestError, match="pip install 'blemish"):
        blemish.fit(
            tmp_path / "photos", detector=Dinomaly(), purify=True, progress=lambda what, *_: stages.append(what)
        )
    assert not stages


@installed
def test_the_models_are_listed_without_importing_anomalib() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from blemish.detectors.anomalib_adapter import catalogue; print(len(catalogue.models()), "
        "'anomalib' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert int(said[0]) >= 25
    assert said[1] == "False"


@installed
def test_every_listed_need_is_of_a_model_that_there_is() -> None:
    assert set(catalogue.NEEDS) == set(catalogue.models())
    listed = [name for names in catalogue.by_need().values() for name in names]
    assert sorted(listed) == sorted(catalogue.models())


@installed
@pytest.mark.parametrize(
    ("name", "meant"),
    [("anomalib:Patchcor", "anomalib:Patchcore"), ("anomalib:padim", "anomalib:Padim"), ("stfpm", "anomalib:Stfpm")],
)
def test_unknown_models_are_answered_with_near_names(name: str, meant: str) -> None:
    with pytest.raises(RequestError, match=meant):
        detector_class(name)


@installed
def test_models_for_other_work_are_refused() -> None:
    with pytest.raises(RequestError, match="'anomalib:WinClip'"):
        detector_class("anomalib:WinClip")


def test_nothing_reaches_the_network_inside_the_block() -> None:
    with no_network():
        with pytest.raises(NetworkRefusedError, match=r"https://example\.org/weights\.zip"):
            urllib.request.urlopen("https://example.org/weights.zip")
        with pytest.raises(NetworkRefusedError, match=r"192\.0\.2\.1"):
            socket.create_connection(("192.0.2.1", 80), timeout=0.1)
        from huggingface_hub import constants

        assert constants.HF_HUB_OFFLINE
    with socket.socketpair()[0]:
        pass
    with pytest.raises(OSError):  # noqa: PT011 - refused by this machine, not by us
        socket.create_connection(("127.0.0.1", 9), timeout=0.1)


def test_images_are_decoded_once_and_letterboxed(tmp_path: Path) -> None:
    folder = fill(tmp_path / "photos", 9)
    (folder / "torn.png").write_bytes((folder / "part-01.png").read_bytes()[:3000])
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, :30] = 255
    images = ImageSet.of(folder)
    pictures = Pictures.of(images, 32, tmp_path)
    assert pictures.ids == tuple(name for name in images.ids if name != "torn.png")
    assert "truncated" in pictures.skipped["torn.png"]
    found = dict(working_images(images, 32, ""))
    for name, levels in zip(pictures.ids, pictures.each(range(9)), strict=True):
        assert torch.equal(levels, found[name])
    _, levels = next(iter(working_images(ImageSet.of([wide]), 64, "")))
    assert isinstance(levels, Tensor)
    assert levels.shape == (3, 64, 64)
    assert levels[0, :, 0].tolist() == [255] * 64, "edges are repeated above and below"
    assert levels[0, :, -1].tolist() == [0] * 64


class Brightness(nn.Module):
    """A model with the scores it is given."""

    def __init__(self, gain: float, bias: float) -> None:
        super().__init__()
        self.gain, self.bias = gain, bias

    def forward(self, images: Tensor) -> object:
        grid = images.mean(dim=1, keepdim=True) * self.gain + self.bias

        @dataclass
        class Prediction:
            anomaly_map: Tensor
            pred_score: Tensor | None

        return Prediction(grid, grid.flatten(1).amax(dim=1)[:, None])


def test_scores_of_one_training_are_brought_to_the_unit_of_another(tmp_path: Path) -> None:
    pictures = Pictures.of(ImageSet.of(fill(tmp_path / "photos", 10)), 64, tmp_path)
    one, other = ImageScorer(Brightness(1, 0), 64), ImageScorer(Brightness(7, -3), 64)
    rows = range(10)
    wanted, found = scored(one, pictures.each(rows)), scored(other, pictures.each(rows))
    for ours, theirs in zip(Unit.of(*found).to(Unit.of(*wanted), *found), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_scores_are_raw_and_maps_bounded(tmp_path: Path) -> None:
    scorer = ImageScorer(Brightness(100, -50), 128)
    white = torch.full((1, 3, 128, 128), 255, dtype=torch.uint8)
    score, grid = scorer(white)
    assert score.tolist() == [50.0]
    assert grid.shape == (1, 64, 64)
    assert scored(scorer, iter(()))[0].shape == (0,)


def test_signed_halves_keep_lengths_and_distances() -> None:
    class Network(nn.Module):
        feature_info = None

        def forward(self, images: Tensor) -> list[Tensor]:
            return [images]

    features = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    (halves,) = SignedHalves(Network(), [12])(features)
    assert halves.shape == (2, 12, 4, 4)
    assert (halves >= 0).all()
    torch.testing.assert_close(halves[:, :5] - halves[:, 5:10], features)
    torch.testing.assert_close(halves.norm(dim=1), features.norm(dim=1))


def test_layers_are_named_by_stride() -> None:
    assert [translated(f"layer{n}", "efficientnet_lite2") for n in (1, 2, 3, 4)] == [
        "blocks.1", "blocks.2", "blocks.4", "blocks.6",
    ]  # fmt: skip
    assert translated("layer2", "wide_resnet50_2") == "layer2"
    assert translated("blocks.3", "efficientnet_lite2") == "blocks.3"
    given = {"backbone": "efficientnet_lite2", "layers": ("layer2", "layer3")}
    assert as_taken("Patchcore", given) == {"backbone": "tf_efficientnet_lite2", "layers": ["blocks.2", "blocks.4"]}
    assert as_taken("ReverseDistillation", given) == {"backbone": "resnet18"}


def test_settings_of_other_kinds_are_parsed_by_their_defaults() -> None:
    known = {"layers": ("layer1",), "radius": (0.5,), "open": None, "on": True}
    text = {"layers": "layer2, layer3", "radius": "1,2.5", "open": "12", "on": "no"}
    assert set_by_name(known, text) == {"layers": ("layer2", "layer3"), "radius": (1.0, 2.5), "open": 12, "on": False}
    assert set_by_name(known, {"open": "none"}) == {"open": None}
    assert set_by_name(known, {"open": "photos"}) == {"open": "photos"}
    with pytest.raises(RequestError, match="'radius' must be of type float; got 'wide'"):
        set_by_name(known, {"radius": "1,wide"})


def test_dinomaly_takes_the_blocks_that_were_published() -> None:
    assert taken_blocks(12) == [2, 3, 4, 5, 6, 7, 8, 9]
    assert taken_blocks(24) == [4, 6, 8, 10, 12, 14, 16, 18]
    assert taken_blocks(9) == list(range(8))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"folds": 1}, "'folds' must be at least 2; got 1"),
        ({"size": 5000}, "'size' must be 0 or between 32 and 2048; got 5000"),
        ({"steps": 0}, "'steps' must be at least 1; got 0"),
        ({"depth": 3}, "'depth' must be at least 8; got 3"),
        ({"dropout": 1.0}, "'dropout' must be at least 0 and below 1"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, float], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        Dinomaly(**settings)  # type: ignore[arg-type]


def test_a_sub_model_trains_no_longer_than_was_asked_for() -> None:
    asked = [Dinomaly(steps=5), Dinomaly(), Dinomaly(epochs=3, steps=5)]
    assert [(each.budget().steps, each.budget().epochs) for each in asked] == [(5, 0), (1000, 0), (1000, 0)]
