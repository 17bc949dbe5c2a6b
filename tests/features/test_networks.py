"""The networks are those that were published, and give the patches, class token and stages that they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

import weight_layouts as layouts
from blemish.features import FeatureSpec, networks
from blemish.features.backbones import BACKBONES, backbone, stride_of
from blemish.features.extract import PatchExtractor
from blemish.features.networks import load_classifier, load_network
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from conftest import picture

EGYPTIAN_CAT, TABBY, TIGER_CAT = 285, 281, 282  # ImageNet
GOLDEN = {  # the first logits of a ramp of grey levels, torch 2.14.1
    "efficientnet_lite2": [-0.503004, 0.429141, 0.159613, 1.270965, 0.898032, 1.993608],
    "efficientnet_lite1": [-0.035314, 0.674154, 1.213231, 1.581474, 0.769711, 2.650328],
    "efficientnet_lite0": [-0.453018, -0.126920, 0.931545, 0.621261, 0.807739, 0.910724],
}
EMBEDDED = [name for name, entry in BACKBONES.items() if entry.package]
embedded = pytest.mark.parametrize("name", EMBEDDED)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for name, entry in layouts.TINY.items():
        monkeypatch.setitem(BACKBONES, name, entry)


def saved(path: Path, tensors) -> str:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return str(path)


def pixels_of(height, width):
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))


@embedded
def test_a_photo_of_a_cat_is_a_cat(name):
    import skimage

    with Image.open(Path(skimage.__file__).parent / "data" / "chelsea.png") as photo:
        cat = np.array(photo.convert("RGB").resize((260, 260), Image.Resampling.BICUBIC))
    with torch.inference_mode():
        logits = load_classifier(name)((torch.from_numpy(cat).permute(2, 0, 1)[None].float() - 127) / 128)[0]
    likely = logits.topk(5).indices.tolist()
    assert likely[0] == EGYPTIAN_CAT
    assert {TABBY, TIGER_CAT} < set(likely)


@embedded
def test_the_network_gives_its_golden_numbers(name):
    ramp = torch.linspace(0, 255, 3 * 64 * 64).reshape(1, 3, 64, 64)
    with torch.inference_mode():
        logits = load_classifier(name)((ramp - 127) / 128)[0, :6]
    assert logits.tolist() == pytest.approx(GOLDEN[name], abs=1e-3)


@embedded
def test_folded_stages_are_the_stages_of_the_network(name):
    stages = BACKBONES[name].stages
    pixels = pixels_of(96, 64)
    folded = load_network(name, list(stages))
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    network, outputs = load_classifier(name), []
    assert isinstance(network, timm.models.EfficientNet)
    with torch.inference_mode():
        at = network.bn1(network.conv_stem(pixels))
        for block in network.blocks:
            at = block(at)
            outputs.append(at)
        whole, found = folded(pixels)
        for (stage, (index, channels)), each in zip(stages.items(), found, strict=True):
            assert each.shape == (1, channels, 96 // stride_of(stage), 64 // stride_of(stage))
            assert torch.allclose(each, outputs[index], atol=1e-3, rtol=1e-3)
        assert torch.equal(whole, found[-1].mean(dim=(2, 3)))


@pytest.mark.parametrize("name", [name for name, entry in BACKBONES.items() if not entry.package])
def test_the_registry_says_what_timm_builds(name):
    entry = BACKBONES[name]
    with torch.device("meta"):
        network = timm.create_model(entry.timm_name.partition(".")[0], num_classes=0)
    assert sum(each.numel() for each in network.parameters()) / 1e6 == pytest.approx(entry.millions, abs=0.06)
    for stage, (index, channels) in entry.stages.items():
        info = network.feature_info[index]
        assert (info["reduction"], info["num_chs"]) == (stride_of(stage), channels)
    config = timm.models.get_pretrained_cfg(entry.timm_name)
    assert (config.hf_hub_id, config.license) == (entry.hub_id, entry.licence.lower())
    assert entry.mean == pytest.approx([255 * each for each in config.mean])
    assert entry.scale == pytest.approx([255 * each for each in config.std])
    assert config.url in ("", None, entry.original)


@pytest.mark.parametrize("layout", ["plain", "full checkpoint", "half", "safetensors"])
def test_a_dino_file_of_any_layout_gives_the_tokens_of_a_plain_transformer(tmp_path, layout):
    weights = layouts.dino()
    if layout == "full checkpoint":
        file = str(layouts.full_checkpoint(tmp_path / "full.pth", weights))
    elif layout == "half":
        weights = {key: each.half().float() for key, each in weights.items()}
        file = saved(tmp_path / "half.bin", {key: each.half() for key, each in weights.items()})
    else:
        file = saved(tmp_path / ("w.safetensors" if layout == "safetensors" else "w.pth"), weights)
    pixels = pixels_of(224, 224)
    with torch.inference_mode():
        whole, (patches,) = load_network("tiny_dino8", ("8",), file, (224, 224))(pixels)
        class_token, expected = layouts.plain_forward(weights, pixels[0])
    torch.testing.assert_close(whole[0], class_token, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(patches[0].permute(1, 2, 0), expected, atol=1e-4, rtol=1e-4)


def test_registers_of_a_dinov2_file_take_part_and_are_dropped(tmp_path):
    weights = layouts.dinov2_reg()
    file = saved(tmp_path / "dinov2_vits14_reg4_pretrain.pth", weights)
    pixels = pixels_of(518, 518)
    with torch.inference_mode():
        whole, (patches,) = load_network("tiny_dinov2_reg", ("14",), file, (518, 518))(pixels)
        class_token, expected = layouts.plain_forward(weights, pixels[0])
    assert patches.shape == (1, layouts.WIDTH, 37, 37)
    torch.testing.assert_close(whole[0], class_token, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(patches[0].permute(1, 2, 0), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "make", "size"),
    [("tiny_dino8", layouts.dino, (64, 96)), ("tiny_dinov2_reg", layouts.dinov2_reg, (70, 98))],
)
def test_positions_are_resized_to_the_working_size_rows_as_rows(tmp_path, name, make, size):
    weights = make()
    side, patch = round((weights["pos_embed"].shape[1] - 1) ** 0.5), BACKBONES[name].align
    rows = torch.linspace(0, 1, side)[:, None].expand(side, side)
    weights["pos_embed"] = torch.cat([torch.zeros(1, 1, 1), rows.reshape(1, -1, 1)], 1).repeat(1, 1, layouts.WIDTH)
    network = load_network(name, (str(patch),), saved(tmp_path / "w.pth", weights), size).network
    positions = network.pos_embed[0, -(size[0] // patch) * (size[1] // patch) :, 0].view(size[0] // patch, -1)
    assert positions.shape == (size[0] // patch, size[1] // patch)
    assert torch.allclose(positions, positions[:, :1].expand_as(positions), atol=1e-3)
    assert bool((positions[1:, 0] > positions[:-1, 0]).all())


def test_a_wide_resnet_gives_its_stages_folded_and_its_pooled_deepest_one(tmp_path):
    torch.manual_seed(0)
    network = timm.create_model("wide_resnet50_2", layers=(1, 1, 1, 1)).eval()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.running_var, 0.5, 2)
            torch.nn.init.normal_(part.running_mean)
    kept = {key: each for key, each in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    file = saved(tmp_path / "w.safetensors", kept)  # the classifier is in it; files of old have no counters
    pixels = pixels_of(64, 96)
    folded = load_network("tiny_wide_resnet", ("8", "16"), file)
    with torch.inference_mode():
        whole, found = folded(pixels)
        at = network.layer2(network.layer1(network.maxpool(network.act1(network.bn1(network.conv1(pixels))))))
        expected = [at, network.layer3(at)]
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    for each, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(each, plain, atol=1e-3, rtol=1e-3)
    assert torch.equal(whole, found[1].mean(dim=(2, 3)))


def test_an_architecture_that_does_not_give_what_it_says_is_refused(tmp_path, monkeypatch):
    file = saved(tmp_path / "w.pth", timm.create_model("test_resnet").state_dict())
    wrong = replace(backbone("test_resnet"), stages={"16": (2, 64)})
    monkeypatch.setattr(networks, "backbone", lambda _: wrong)
    with pytest.raises(RequestError, match=r"'test_resnet'.*stages 16 should be .*64, 6, 6"):
        load_network("test_resnet", ["16"], file, (96, 96))


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_any_name_of_timm_gives_the_stages_that_its_entry_says(tmp_path, name):
    file = saved(tmp_path / "w.safetensors", timm.create_model(name).state_dict())
    entry, size = backbone(name), (160, 160)
    with torch.inference_mode():
        whole, stages = load_network(name, list(entry.stages), file, size)(pixels_of(*size))
    for (stage, (_, channels)), each in zip(entry.stages.items(), stages, strict=True):
        assert each.shape == (1, channels, size[0] // stride_of(stage), size[1] // stride_of(stage))
    assert whole.shape[0] == 1


@pytest.mark.parametrize(
    ("name", "make", "grid"), [("tiny_dino8", layouts.dino, (8, 13)), ("tiny_dinov2_reg", layouts.dinov2_reg, (5, 8))]
)
def test_an_extractor_works_in_whole_patches_whatever_the_shape_of_the_images(tmp_path, name, make, grid):
    images = ImageSet.of([np.repeat(picture(index), 2, axis=1)[:, :104] for index in range(2)])
    entry = BACKBONES[name]
    spec = FeatureSpec(name, 80 if "8" in name else 84, (str(entry.align),), weights=saved(tmp_path / "w.pth", make()))
    spec = spec.resolved(images)
    assert (spec.size[0] % entry.align, spec.size[1] % entry.align) == (0, 0)
    with torch.inference_mode():
        whole, (patches,) = PatchExtractor(spec).eval()(
            torch.from_numpy(images.read(images.ids[0])).permute(2, 0, 1)[None]
        )
    assert patches.shape == (1, *grid, layouts.WIDTH)
    assert whole.shape == (1, layouts.WIDTH)


def test_a_stage_that_is_not_there_is_named():
    with pytest.raises(RequestError, match="'7'; it has 4, 8"):
        load_network("efficientnet_lite0", ["7"])
