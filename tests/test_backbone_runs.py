"""A Run on another backbone, or on features: fitted, saved, loaded, scored again, and what can go wrong then."""

import csv
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import blemish
import weight_layouts as layouts
from blemish import cli
from blemish.features.backbones import BACKBONES
from blemish.machine.errors import RequestError, WeightsError
from blemish.runs.artifact import write_config
from conftest import fill

QUICK = ("--threads", "1")


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for name, entry in layouts.TINY.items():
        monkeypatch.setitem(BACKBONES, name, entry)


def call(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def done(*words):
    result = call(*words)
    assert result.exit_code == 0, result.output
    return result


def refused(result, *parts):
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("blemish: ")
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert str(part) in result.stderr


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return {row["path"]: float(row["score"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "dino.pth"
    torch.save(layouts.dino(), file)
    return file


@pytest.fixture
def dino_run(tmp_path, photos, weights):
    words = ("--backbone", "tiny_dino8", "--weights", weights, *QUICK)
    done("fit", photos, "--out", tmp_path / "dino_run", *words)
    return tmp_path / "dino_run"


def test_a_run_on_a_transformer_keeps_its_settings_and_scores_again(tmp_path, photos, weights, dino_run):
    config = json.loads((dino_run / "config.json").read_text())
    settings = config["detector"]["settings"]
    assert (settings["backbone"], settings["weights"]) == ("tiny_dino8", str(weights))
    assert [(view["pixels"], view["stages"]) for view in settings["views"]] == [(64, ["8"])]
    done("score", photos, "--model", dino_run, "--out", tmp_path / "same", "--threads", 1)
    assert table(tmp_path / "same" / "scores.csv") == table(dino_run / "scores.csv")
    new = fill(tmp_path / "new", 3, start=20)
    scores = blemish.load(dino_run).score(new)
    assert scores.maps.shape == (3, 8, 8)
    assert np.isfinite(scores.image).all()


def test_weights_that_moved_are_named_again_and_others_are_refused(tmp_path, photos, weights, dino_run):
    moved = tmp_path / "moved.pth"
    moved.write_bytes(weights.read_bytes())
    config = json.loads((dino_run / "config.json").read_text())
    config["detector"]["settings"]["weights"] = str(tmp_path / "gone.pth")
    write_config(dino_run, config)
    score = ("score", photos, "--model", dino_run, "--threads", 1)
    refused(call(*score, "--out", tmp_path / "a"), tmp_path / "gone.pth", "is not there", "--weights")
    done(*score, "--out", tmp_path / "b", "--weights", moved)
    torch.save({**layouts.dino(), "cls_token": torch.ones(1, 1, layouts.WIDTH)}, moved)
    refused(call(*score, "--out", tmp_path / "c", "--weights", moved), "fitted with", "--weights", "or fit again")
    assert not (tmp_path / "c").exists()
    with pytest.raises(WeightsError, match=r"gone\.pth.*`weights`"):
        blemish.load(dino_run)


def test_a_run_on_a_convolutional_network_of_timm_scores_again(tmp_path, photos):
    import timm

    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "w.pth")
    words = ("--backbone", "test_resnet", "--weights", tmp_path / "w.pth", *QUICK)
    done("fit", photos, "--out", tmp_path / "run", *words)
    done("score", photos, "--model", tmp_path / "run", "--out", tmp_path / "same", "--threads", 1)
    assert table(tmp_path / "same" / "scores.csv") == table(tmp_path / "run" / "scores.csv")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--backbone", "dino_vits9"], ["'dino_vits9' is not known; did you mean", "dino_vits8"]),
        (["--backbone", "tiny_dino8", "--weights", "none.pth"], ["none.pth", "is not there"]),
        (["--features", "f.npy"], ["either IMAGES", "or --features FILE.npy"]),
        (["--grid", "2x2"], ["--grid", "need --features"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_request_is_one_sentence(tmp_path, photos, words, parts):
    refused(call("fit", photos, "--out", tmp_path / "run", *words, *QUICK), *parts)
    assert not (tmp_path / "run").exists()


def test_weights_of_another_architecture_name_the_tensors_that_differ(tmp_path, photos, weights):
    words = ("--backbone", "tiny_wide_resnet", "--weights", weights, *QUICK)
    result = call("fit", photos, "--out", tmp_path / "run", *words)
    refused(result, "does not hold the weights of tiny_wide_resnet", "'conv1.weight' is missing")
    assert not (tmp_path / "run").exists()


def features(count, seed=0):
    """FUN-AD's form, [global ; patch], of which the third image's last patch lies elsewhere."""
    rng = np.random.default_rng(seed)
    patches = rng.normal(size=(count, 9, 8)).astype(np.float32)
    patches[2, -1] += 9
    return np.concatenate([np.repeat(rng.normal(size=(count, 1, 8)), 9, axis=1).astype(np.float32), patches], axis=2)


def test_features_of_a_file_are_fitted_and_scored_without_images(tmp_path):
    np.save(tmp_path / "old.npy", features(20))
    np.save(tmp_path / "new.npy", features(4, seed=1))
    ids = [f"lot 7/{index}.png" for index in range(20)]
    (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n")
    run = tmp_path / "run"
    done("fit", "--features", tmp_path / "old.npy", "--ids", tmp_path / "ids.txt", "--out", run, *QUICK)
    scores = table(run / "scores.csv")
    assert sorted(scores) == sorted(ids)
    assert max(scores, key=scores.get) == "lot 7/2.png"
    assert list((run / "heatmaps").iterdir()) == []
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "There are features alone: no image can be shown, no heatmap drawn." in page
    assert "lot 7/19.png" in page
    assert "<img" not in page
    assert "blemish score --features NEW_FEATURES.npy --model" in page
    done("score", "--features", tmp_path / "new.npy", "--model", run, "--out", tmp_path / "new", "--threads", 1)
    new = table(tmp_path / "new" / "scores.csv")
    assert max(new, key=new.get) == "image-000002"
    assert blemish.load(run).score(blemish.ImageSet.of_features(features(4, seed=1)))["image-000002"] == pytest.approx(
        new["image-000002"]
    )


def test_images_and_features_are_not_taken_for_each_other(tmp_path, photos, dino_run):
    np.save(tmp_path / "f.npy", features(20))
    done("fit", "--features", tmp_path / "f.npy", "--out", tmp_path / "run", *QUICK)
    result = call("score", photos, "--model", tmp_path / "run", "--out", tmp_path / "a", "--threads", 1)
    refused(result, "these are images; give features", "ImageSet.of_features")
    result = call("score", "--features", tmp_path / "f.npy", "--model", dino_run, "--out", tmp_path / "b")
    refused(result, "features alone, which 'tiny_dino8' cannot be made of")
    for words in (["--backbone", "dino_vits8"], ["--weights", "w.pth"]):
        result = call("fit", "--features", tmp_path / "f.npy", "--out", tmp_path / "c", *words)
        refused(result, f"{words[0]} changes nothing; leave it out")
    for words in (["--roi", tmp_path / "r.png"], ["--levels", 0, 100], ["--max-pixels", 3]):
        result = call("fit", "--features", tmp_path / "f.npy", "--out", tmp_path / "c", *words)
        refused(result, f"features alone, where {words[0]} changes nothing")
    with pytest.raises(RequestError, match="leave out the backbone 'dino_vits8'"):
        blemish.fit(blemish.ImageSet.of_features(features(20)), settings={"backbone": "dino_vits8"})
    with pytest.raises(RequestError, match="`normals`"):
        blemish.fit(blemish.ImageSet.of_features(features(20)), normals=photos)


def test_normals_may_be_features_too():
    known = blemish.ImageSet.of_features(features(6, seed=3)[3:])
    run = blemish.fit(blemish.ImageSet.of_features(features(20)), normals=known, threads=1)
    assert len(run.scores) == 20
    assert len(run.known) == 23
