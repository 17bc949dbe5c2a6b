"""Models of anomalib trained for real, as detectors of blemish. Left out of `make test`; see the marker."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("anomalib", reason="anomalib is not installed: pip install 'blemish[anomalib]'")

from test_contract import BAD, make_images

import blemish
from blemish import cli
from blemish.detectors import Detector, detector_class
from blemish.detectors.parts.sampling import split_in_folds
from blemish.images import ANOMALOUS, ImageSet
from blemish.machine.errors import JobError, NotFittedError, RequestError, WeightsError
from blemish.machine.runtime import intra_op_threads, use_runtime
from blemish.runs.run import load

pytestmark = pytest.mark.anomalib

SETTINGS = {
    "anomalib:Padim": {"size": 96, "n_features": 30},
    "anomalib:Patchcore": {"size": 96, "coreset_sampling_ratio": 0.05},
    "anomalib:ReverseDistillation": {"size": 64, "steps": 20, "folds": 2},
    "anomalib:Fastflow": {"size": 64, "steps": 20, "folds": 2, "flow_steps": 4},
    "dinomaly": {"size": 64, "steps": 20, "folds": 2, "batch": 8, "backbone": "test_vit3"},
}
every_model = pytest.mark.parametrize("name", SETTINGS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("anomalib") / "images")


@pytest.fixture(scope="module")
def images(folder: Path) -> ImageSet:
    """Both bad ones are known: among a dozen images, one would hide the other from a Gaussian."""
    return replace(ImageSet.of(folder), labels=dict.fromkeys(BAD, ANOMALOUS))


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small ViT: with these the mechanics can be tested, not the quality."""
    import timm

    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        safetensors.torch.save_file(timm.create_model("test_vit3", num_classes=0).state_dict(), path)
    return path


def make(name: str, vit: Path, **changes: object) -> Detector:
    weights = {"weights": str(vit)} if name == "dinomaly" else {}
    return detector_class(name)(**{**SETTINGS[name], **weights, **changes})


@pytest.fixture(scope="module")
def fitted(images: ImageSet, vit: Path) -> dict[str, Detector]:
    class Lazily(dict[str, Detector]):
        def __missing__(self, name: str) -> Detector:
            with use_runtime(threads=1):
                self[name] = make(name, vit).fit(images)
            return self[name]

    return Lazily()


@every_model
def test_cross_fitted_scores_cover_every_image_and_the_bad_ones_rank_first(
    name: str, fitted: dict[str, Detector]
) -> None:
    scores = fitted[name].training_scores_
    assert len(scores) == 20
    assert np.isfinite(scores.image).all()
    assert np.isfinite(scores.maps).all()
    assert scores.maps.shape[1:] <= (64, 64)
    if name != "dinomaly":  # on random weights
        assert set(scores.ranking()[: len(BAD)]) == set(BAD)


@every_model
def test_the_first_training_scores_new_images_and_the_first_fold(
    name: str, images: ImageSet, fitted: dict[str, Detector]
) -> None:
    detector = fitted[name]
    split = split_in_folds(images, detector.settings()["folds"], detector.random_state)
    with use_runtime(threads=1):
        scores = detector.score(images)
    held_out = [each for each in images.ids if split[each] == 0]
    assert len(held_out) < len(images)
    for each in held_out:
        assert detector.training_scores_[each] == pytest.approx(scores[each], rel=1e-5)


@every_model
def test_the_map_lies_over_the_image(name: str, fitted: dict[str, Detector]) -> None:
    grid = fitted[name].training_scores_.map(BAD[0])
    assert grid.shape == (96, 112)
    if name != "dinomaly":
        row, column = np.unravel_index(grid.argmax(), grid.shape)
        assert 15 <= row < 75
        assert 25 <= column < 61


@every_model
def test_the_same_seed_gives_the_same_bytes_and_leaves_other_random_numbers_alone(
    name: str, images: ImageSet, vit: Path, fitted: dict[str, Detector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fitted[name]
    monkeypatch.chdir(tmp_path)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    with use_runtime(threads=1):
        again = make(name, vit).fit(images)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    states = first.state(), again.state()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert (again.training_scores_.image == first.training_scores_.image).all()
    assert os.listdir(tmp_path) == [], "no checkpoints or logs in the working folder"  # noqa: PTH208


@every_model
def test_saved_and_loaded_detectors_give_equal_scores_without_the_weights_file(
    name: str, folder: Path, fitted: dict[str, Detector]
) -> None:
    images = ImageSet.of(folder)
    state = safetensors.torch.load(safetensors.torch.save(fitted[name].state()))
    loaded = detector_class(name)(**SETTINGS[name]).restore(state)
    with use_runtime(threads=1):
        before, after = fitted[name].score(images), loaded.score(images)
    np.testing.assert_array_equal(before.image, after.image)
    np.testing.assert_array_equal(before.maps, after.maps)


@every_model
def test_an_image_scores_the_same_in_any_company_and_as_pixels(
    name: str, folder: Path, fitted: dict[str, Detector]
) -> None:
    images = ImageSet.of(folder)
    with use_runtime(threads=1):
        together = fitted[name].score(images)
        alone = fitted[name].score(images.subset(["part-05.png"]))
    assert alone["part-05.png"] == pytest.approx(together["part-05.png"], rel=1e-4)
    module = fitted[name].module()  # type: ignore[attr-defined]
    with torch.inference_mode(), intra_op_threads(1):
        score, _ = module(torch.from_numpy(images.read("part-05.png")).permute(2, 0, 1)[None])
    assert float(score) == pytest.approx(together["part-05.png"], rel=1e-4)


@every_model
def test_fresh_normal_images_score_about_as_training_ones(
    name: str, tmp_path: Path, fitted: dict[str, Detector]
) -> None:
    training = fitted[name].training_scores_
    normal = np.array([training[each] for each in training.ids if each not in BAD])
    with use_runtime(threads=1):
        fresh = fitted[name].score(ImageSet.of(make_images(tmp_path / "fresh", count=20, bad=(), seed=1)))
    assert normal.min() <= np.median(fresh.image) <= normal.max()


def test_the_fit_depends_on_content_alone_and_not_on_images_known_to_be_bad(
    folder: Path, images: ImageSet, tmp_path: Path, vit: Path
) -> None:
    copied = tmp_path / "elsewhere"
    copied.mkdir()
    kept = [name for name in images.ids if name not in BAD]
    for number, name in enumerate(reversed(kept)):
        (copied / f"{number:02d}.png").write_bytes((folder / name).read_bytes())
    with use_runtime(threads=1):
        states = [
            make("anomalib:Padim", vit, training_scores=False).fit(each).state()
            for each in (images, ImageSet.of(copied), ImageSet.of(folder))
        ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_copies_do_not_vouch_for_each_other(tmp_path: Path, vit: Path) -> None:
    copied = make_images(tmp_path / "copied")
    for number in range(3):
        (copied / f"copy-{number}.png").write_bytes((copied / BAD[0]).read_bytes())
    with use_runtime(threads=1):
        scores = make("anomalib:Patchcore", vit).fit(ImageSet.of(copied)).training_scores_
    assert set(scores.ranking()[:5]) == {*BAD, "copy-0.png", "copy-1.png", "copy-2.png"}


def test_images_without_any_difference_get_finite_scores(tmp_path: Path, vit: Path) -> None:
    (tmp_path / "flat").mkdir()
    for level in range(10):
        Image.new("RGB", (80 + level, 80), (128, 128, 128)).save(tmp_path / "flat" / f"{level}.png")
    with use_runtime(threads=1):
        for name in ("anomalib:Padim", "anomalib:Patchcore"):
            scores = make(name, vit).fit(ImageSet.of(tmp_path / "flat")).training_scores_
            assert np.isfinite(scores.image).all()


def test_the_budget_of_a_purification_fits_and_scores_but_leaves_no_training_scores(
    images: ImageSet, vit: Path
) -> None:
    kind = detector_class("anomalib:Patchcore")
    detector = make("anomalib:Patchcore", vit).clone(**kind.budget_settings)  # type: ignore[attr-defined]
    with pytest.raises(NotFittedError):
        detector.state()
    with use_runtime(threads=1):
        scores = detector.fit(images).score(images)
    assert set(scores.ranking()[: len(BAD)]) == set(BAD)
    with pytest.raises(NotFittedError, match="set 'training_scores' to true"):
        _ = detector.training_scores_


def test_from_the_command_line_to_new_scores(folder: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in folder.iterdir():
        (photos / path.name).write_bytes(path.read_bytes())
    (photos / "torn.png").write_bytes((folder / BAD[0]).read_bytes()[:5000])
    words = ["fit", photos, "--out", tmp_path / "run", "--detector", "anomalib:Patchcore", "--threads", 1]
    words += ["--set", "size=96", "--set", "layers=layer2,layer3", "--set", "coreset_sampling_ratio=0.05", "--json"]
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    assert '"skipped": 1' in result.stdout
    assert "torn.png" in (tmp_path / "run" / "skipped.csv").read_text()
    run = load(tmp_path / "run")
    assert run.detector.settings()["coreset_sampling_ratio"] == 0.05
    scores = blemish.score(photos, tmp_path / "run", tmp_path / "new", threads=1)
    assert set(scores.ranking()[:2]) == set(BAD)
    assert list(scores.skipped) == ["torn.png"]
    words = [*words[:3], tmp_path / "strict", *words[4:], "--strict"]
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exit_code == 2
    assert "torn.png" in result.stderr


def test_a_backbone_takes_its_weights_from_a_file(folder: Path, tmp_path: Path, vit: Path) -> None:
    import timm

    resnet = timm.create_model("resnet18")
    safetensors.torch.save_file(resnet.state_dict(), tmp_path / "resnet18.safetensors")
    settings = {"backbone": "resnet18", "size": 64, "steps": 2, "training_scores": False}
    kind = detector_class("anomalib:Stfpm")
    with use_runtime(threads=1):
        state = kind(**settings, weights=str(tmp_path / "resnet18.safetensors")).fit(ImageSet.of(folder)).state()
        teacher = next(key for key in state if "teacher" in key and key.endswith("layer1.0.conv1.weight"))
        student = teacher.replace("teacher", "student")
        wanted = resnet.state_dict()["layer1.0.conv1.weight"]
        assert torch.equal(state[teacher], wanted)
        assert not torch.equal(state[student], wanted)
        with pytest.raises(WeightsError, match=r"not on this machine.*`weights`"):
            kind(**settings).fit(ImageSet.of(folder))
        with pytest.raises(WeightsError, match="resnet18"):
            kind(**settings, weights=str(vit)).fit(ImageSet.of(folder))


def test_dinomaly_without_weights_names_the_file_before_it_reads_an_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageSet, "read", lambda *_: pytest.fail("an image was read"))
    with pytest.raises(WeightsError, match=r"huggingface\.co/timm/vit_base_patch14_reg4_dinov2.*`weights`"):
        detector_class("dinomaly")().fit(ImageSet.of(folder))
    with pytest.raises(RequestError, match="'resnet18'"):
        detector_class("dinomaly")(backbone="resnet18").fit(ImageSet.of(folder))
    with pytest.raises(RequestError, match=r"'size'.* 14"):
        detector_class("dinomaly")(size=100).fit(ImageSet.of(folder))


@pytest.mark.parametrize(("name", "said"), [("Cfa", r"download\.pytorch\.org"), ("EfficientAd", "github.com")])
def test_what_would_be_downloaded_is_refused_by_name(name: str, said: str, folder: Path) -> None:
    with use_runtime(threads=1), pytest.raises(RequestError, match=rf"{said}.*nothing is downloaded.*need"):
        detector_class(f"anomalib:{name}")(steps=1, training_scores=False).fit(ImageSet.of(folder))


def test_efficient_ad_runs_on_the_files_it_asks_for(folder: Path, tmp_path: Path) -> None:
    from anomalib.models.image.efficient_ad.torch_model import SmallPatchDescriptionNetwork
    from anomalib.utils.path import get_pretrained_weights_dir

    place = get_pretrained_weights_dir() / "efficientad_pretrained_weights"
    assert str(place).startswith(str(tmp_path)), "a test writes to its own cache"
    place.mkdir(parents=True)
    torch.save(SmallPatchDescriptionNetwork(384).state_dict(), place / "pretrained_teacher_small.pth")
    make_images(tmp_path / "photos", count=2).rename(tmp_path / "one_class")
    (tmp_path / "photos").mkdir()
    (tmp_path / "one_class").rename(tmp_path / "photos" / "one_class")
    kind = detector_class("anomalib:EfficientAd")
    images = ImageSet.of(folder)
    images = images.subset(images.ids[:8])
    with use_runtime(threads=1):
        detector = kind(imagenet_dir=str(tmp_path / "photos"), steps=2, training_scores=False).fit(images)
        scores = detector.score(images)
    assert np.isfinite(scores.image).all()
    assert detector.state()["model.quantiles.qb_st"] != 0, "taken from a validation pass"


def test_what_anomalib_fails_on_is_one_sentence(folder: Path) -> None:
    with use_runtime(threads=1), pytest.raises(JobError, match=r"^anomalib's Padim failed .*n_features"):
        detector_class("anomalib:Padim")(n_features=10_000, size=64).fit(ImageSet.of(folder))
