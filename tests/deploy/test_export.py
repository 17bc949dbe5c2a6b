"""An exported model is the Run: the same scores, maps and decisions, without torch."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.deploy import export as export_module
from blemish.deploy.export import export
from blemish.detectors.nearest_images import NearestImages
from blemish.detectors.parts.views import View
from blemish.images.defect_boxes import DefectBox, append
from blemish.machine.errors import JobError, RequestError
from blemish.runs import exported as exported_module
from blemish.runs.run import OWN_MASKS
from command_line import call, refused, table
from conftest import fill, picture

pytest.importorskip("onnxscript")
if find_spec("openvino") is None:  # not imported here: its telemetry would come along
    pytest.skip("openvino is not installed", allow_module_level=True)


def detector():
    return NearestImages(
        backbone="efficientnet_lite0",
        views=(View(64, ("16",), rooted=False), View(64, ("8",), rooted=False, ranks=False)),
    )


EARLY = {"backbone": "efficientnet_lite0", "views": (View(64, ("8",), rooted=False),)}  # torch exports few blocks of it


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    blemish.fit(fill(folder / "photos", 12), folder / "run", detector=detector(), threads=1, cache=folder / "cache")
    export(folder / "run", folder / "onnx", threads=1)
    with pytest.MonkeyPatch.context() as patch:
        same_graph(patch, folder)
        export(folder / "run", folder / "openvino", format="openvino", threads=1)
    return folder


def same_graph(patch, fitted):
    """Let torch's exporter, which takes seconds, be run once for all."""
    source = fitted / "onnx" / "model.onnx"
    patch.setattr(export_module, "write_onnx", lambda *words: shutil.copy(source, words[-1]))


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_an_exported_model_scores_maps_and_decides_as_the_run(fitted, kind, tmp_path):
    new = [picture(index) for index in (0, 40, 41)]
    run, exported = blemish.load(fitted / "run"), blemish.load(fitted / kind)
    spread = np.subtract(*np.percentile(run.training_scores, (75, 25)))
    expected = run.score(new, threads=1)
    found = exported.score(new, threads=1)
    np.testing.assert_allclose(found.image, expected.image, rtol=0, atol=1e-3 * spread)
    np.testing.assert_allclose(found.map(found.ids[0]), expected.map(expected.ids[0]), atol=0.02)
    assert exported.threshold_ == run.threshold_
    assert json.loads((fitted / kind / "config.json").read_text())["parity"]["score"] <= 1e-3


def test_openvino_opened_with_its_defaults_decides_as_the_run(fitted):
    # On processors with bfloat16 its default is bfloat16, in which every good part was flagged.
    program = """
import sys
import numpy as np
sys.modules["openvino_telemetry"] = None
import openvino
compiled = openvino.Core().compile_model(sys.argv[1], "CPU")
found = [compiled(image[None]) for image in np.load(sys.argv[2])]
np.savez(sys.argv[3], **{name: np.concatenate([each[name] for each in found]) for name in ("score", "flagged")})
"""
    new = np.stack([picture(index) for index in (0, *range(40, 50))])
    np.save(fitted / "new.npy", new)
    words = (fitted / "openvino" / "model.xml", fitted / "new.npy", fitted / "found.npz")
    subprocess.run([sys.executable, "-c", program, *map(str, words)], check=True)
    run, found = blemish.load(fitted / "run"), np.load(fitted / "found.npz")
    expected = run.score(list(new), threads=1).image
    spread = np.subtract(*np.percentile(run.training_scores, (75, 25)))
    np.testing.assert_allclose(found["score"], expected, rtol=0, atol=1e-3 * spread)
    assert found["flagged"].tolist() == (expected > run.threshold_).tolist()


def test_the_scores_of_a_batch_are_those_of_its_images(fitted):
    graph = blemish.load(fitted / "onnx").detector.graph
    images = np.stack([picture(index) for index in range(5)])
    together = graph(images)
    for row in range(5):
        np.testing.assert_allclose(graph(images[row : row + 1])[0], together[0][row], rtol=1e-4)
    assert together[1].tolist() == (together[0] > np.float32(blemish.load(fitted / "run").threshold_)).tolist()
    assert together[1][0]


def test_score_takes_an_exported_model_and_images_of_the_fit_keep_their_scores(fitted, tmp_path):
    done = call("score", fitted / "photos", "--model", fitted / "onnx", "--runtime", "onnx", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert table(tmp_path / "out" / "scores.csv") == table(fitted / "run" / "scores.csv")


def test_the_wrong_runtime_is_refused_with_what_to_do(fitted, tmp_path):
    words = ("score", fitted / "photos", "--out", tmp_path / "out")
    refused(call(*words, "--model", fitted / "run", "--runtime", "onnx"), "for torch", "blemish export RUN")
    refused(call(*words, "--model", fitted / "onnx", "--runtime", "torch"), "for onnx", "exported from")
    refused(call(*words, "--model", fitted / "onnx", "--runtime", "tvm"), "torch, onnx, openvino", "tvm")


def test_images_of_another_size_are_refused_by_name(fitted):
    with pytest.raises(RequestError, match=r"64x64.* 80x64; export again with `size` 80x64"):
        blemish.load(fitted / "onnx").score([np.zeros((64, 80, 3), np.uint8)])


def test_a_changed_model_file_is_refused_by_name(fitted, tmp_path):
    copied = shutil.copytree(fitted / "onnx", tmp_path / "copied")
    data = (copied / "model.onnx").read_bytes()
    (copied / "model.onnx").write_bytes(data[:-1])
    with pytest.raises(RequestError, match=r"model\.onnx.*SHA-256 differs"):
        blemish.load(copied)


def test_a_model_that_differs_too_much_is_refused_and_nothing_is_left(fitted, tmp_path, monkeypatch):
    graph_of = export_module.graph_of

    def off(*words):
        graph = graph_of(*words)
        return lambda images: (graph(images)[0] + 0.1, *graph(images)[1:])

    monkeypatch.setattr(export_module, "graph_of", off)
    same_graph(monkeypatch, fitted)
    with pytest.raises(JobError, match="score with the Run itself"):
        export(fitted / "run", tmp_path / "out", threads=1)
    assert not (tmp_path / "out").exists()


def test_int8_is_measured_by_ranks_and_decisions_and_refused_where_they_differ(fitted, tmp_path, monkeypatch):
    same_graph(monkeypatch, fitted)
    # Twelve images that differ by noise alone, on a network worked at 64 pixels: 8 bits do not hold here.
    with pytest.raises(JobError, match=r"In int8 .* of 12 images.* correlate by .* leave out `precision`"):
        export(fitted / "run", tmp_path / "int8", precision="int8", threads=1)
    assert not (tmp_path / "int8").exists()


def test_detectors_without_a_graph_say_so_before_they_start(tmp_path, fitted):
    run = blemish.load(fitted / "onnx")
    with pytest.raises(RequestError, match="'exported'"):
        export(run, tmp_path / "out")
    fresh = blemish.load(fitted / "run")
    fresh.detector.backbone = "given"
    with pytest.raises(RequestError, match="given"):
        export(fresh, tmp_path / "out")


def test_bad_requests_are_one_sentence(fitted, tmp_path):
    words = ("export", fitted / "run", "--out", tmp_path / "out")
    refused(call(*words, "--format", "tensorrt"), "onnx, openvino", "tensorrt")
    refused(call(*words, "--size", "12"), "WIDTHxHEIGHT", "12")
    refused(call(*words, "--size", "300x200"), "0 of the", "300x200", "--images")
    refused(call(*words, "--precision", "int4"), "float32, int8", "int4")


def test_nothing_of_torch_is_loaded_by_the_consumer_of_the_docs(fitted, tmp_path):
    page = Path(__file__).parents[2] / "docs" / "export.md"
    code = page.read_text(encoding="utf-8").split("```python")[1].split("```")[0]
    Image.fromarray(picture(0)).save(tmp_path / "part.png")
    (tmp_path / "line").symlink_to(fitted / "onnx")
    done = subprocess.run(
        [sys.executable, "-c", code + "\nimport sys\nassert 'torch' not in sys.modules"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "flagged" in done.stdout


def test_the_openvino_example_of_the_docs_runs(fitted, tmp_path):
    page = Path(__file__).parents[2] / "docs" / "export.md"
    code = page.read_text(encoding="utf-8").split("```python")[2].split("```")[0]
    Image.fromarray(picture(0)).save(tmp_path / "part.png")
    (tmp_path / "line_openvino").symlink_to(fitted / "openvino")
    code = "import sys\nsys.modules['openvino_telemetry'] = None\n" + code
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert " True (" in done.stdout


def test_openvino_is_loaded_without_its_telemetry(fitted):
    code = (
        "import sys, blemish; blemish.load(sys.argv[1]);"
        "assert sys.modules['openvino_telemetry'] is None; assert 'openvino' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(fitted / "openvino")], check=True)


def test_openvino_rounds_features_as_torch_does_so_a_learned_patch_has_no_distance(fitted):
    gaps = {}
    for kind in ("onnx", "openvino"):
        config = json.loads((fitted / kind / "config.json").read_text(encoding="utf-8"))
        gaps[kind] = config["parity"]["map"]
    assert gaps["openvino"] < 1e-4 + 2 * gaps["onnx"]


def test_the_file_says_what_it_is(fitted):
    import onnxruntime

    session = onnxruntime.InferenceSession(fitted / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.get_modelmeta().custom_metadata_map
    assert found["name"] == "blemish nearest_images"
    assert found["version"] == blemish.__version__
    assert float(found["threshold"]) == pytest.approx(blemish.load(fitted / "run").threshold_, rel=1e-8)
    assert (found["width"], found["height"], found["precision"]) == ("64", "64", "float32")
    assert (found["backbone"], found["licence_of_weights"]) == ("efficientnet_lite0", "Apache-2.0")
    assert session.get_modelmeta().producer_name == "blemish"


def test_an_exported_model_knows_where_a_defect_begins(fitted):
    assert blemish.load(fitted / "onnx").pixel_threshold == blemish.load(fitted / "run").pixel_threshold


def test_triton_gets_the_model_with_its_own_names_and_shapes(fitted, tmp_path, monkeypatch):
    import onnxruntime

    same_graph(monkeypatch, fitted)
    done = call("export", fitted / "run", "--out", tmp_path / "line", "--triton", "--threads", "1")
    assert done.exit_code == 0, done.output
    assert "comparing it with torch on" in done.stderr, "the minute begins with a sentence"
    assert done.stdout.splitlines()[-1].startswith("Next: blemish score NEW_IMAGES --model ")
    model = tmp_path / "line" / "triton" / "blemish"
    assert (model / "1" / "model.onnx").read_bytes() == (tmp_path / "line" / "model.onnx").read_bytes()
    config = (model / "config.pbtxt").read_text()
    kinds = {"TYPE_UINT8": "tensor(uint8)", "TYPE_FP32": "tensor(float)", "TYPE_BOOL": "tensor(bool)"}
    found = {
        name: (kinds[kind], [] if "reshape { shape: [ ] }" in rest else [int(each) for each in dims.split(",")])
        for name, kind, dims, rest in re.findall(
            r'name: "(\w+)" data_type: (\w+) dims: \[ ([\d, ]+) \](.*?) \}(?:,?\n)', config
        )
    }
    session = onnxruntime.InferenceSession(model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
    assert found == {each.name: (each.type, each.shape[1:]) for each in (*session.get_inputs(), *session.get_outputs())}
    refused(call("export", fitted / "run", "--out", tmp_path / "no", "--triton", "--format", "openvino"), "--triton")


def deep_with_a_hole(folder, indices):
    """Pictures of 16 bits, each with a place that was not measured, 65535, which is not the same in all."""
    folder.mkdir()
    for index in indices:
        levels = picture(index)[:, :, 0].astype(np.uint16) * 3 + 30000
        levels[4:20, 30 : 50 + index % 7] = 65535
        Image.fromarray(levels).save(folder / f"part-{index:02d}.png")
    return folder


@pytest.fixture(scope="module")
def fitted_with_holes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("holes")
    photos = deep_with_a_hole(folder / "photos", range(12))
    blemish.fit(photos, folder / "run", detector=NearestImages(**EARLY), threads=1, cache=folder / "cache")
    export(folder / "run", folder / "onnx", triton=True, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        same_graph(patch, folder)
        export(folder / "run", folder / "openvino", format="openvino", threads=1)
    deep_with_a_hole(folder / "new", (0, 40, 41))
    return folder


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_an_exported_model_does_not_score_what_was_not_measured(fitted_with_holes, kind, monkeypatch):
    folder = fitted_with_holes
    run, exported = blemish.load(folder / "run"), blemish.load(folder / kind)
    run.known, exported.known = {}, {}  # picture 0 was learned from: the graphs are compared, not the stored score
    spread = np.subtract(*np.percentile(run.training_scores, (75, 25)))
    expected = run.score(folder / "new", threads=1)
    found = exported.score(folder / "new", threads=1)
    np.testing.assert_allclose(found.image, expected.image, rtol=0, atol=1e-3 * spread)
    np.testing.assert_allclose(found.maps, expected.maps, atol=0.02)
    monkeypatch.setattr(exported_module, "roi_masks", lambda *_: None)
    assert np.abs(exported.score(folder / "new", threads=1).image - expected.image).max() > 0.05 * spread


def test_a_server_with_an_exported_model_does_not_score_what_was_not_measured(fitted_with_holes):
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    from fastapi.testclient import TestClient

    from blemish.deploy.application import create_app
    from blemish.deploy.current import CurrentRun

    folder = fitted_with_holes
    expected = blemish.load(folder / "onnx").score(folder / "new", threads=1)
    with TestClient(create_app({"line": CurrentRun(folder / "onnx")})) as client:
        for path in sorted((folder / "new").iterdir()):
            answer = client.post("/score", content=path.read_bytes(), headers={"content-type": "image/png"}).json()
            assert answer["results"][0]["score"] == pytest.approx(expected[path.name], rel=1e-4)


def test_triton_gets_the_mask_of_a_model_that_takes_one(fitted_with_holes):
    config = (fitted_with_holes / "onnx" / "triton" / "blemish" / "config.pbtxt").read_text()
    assert '{ name: "mask" data_type: TYPE_BOOL dims: [ 256, 256 ] }' in config


def wide(index):
    return np.tile(picture(index), (1, 2, 1))[:, :88]


@pytest.fixture(scope="module")
def fitted_with_all(tmp_path_factory):
    """A Run on two tiles, with a region of interest, labels and a drawn defect, and without the last two."""
    folder = tmp_path_factory.mktemp("all")
    (folder / "photos").mkdir()
    for index in range(12):
        Image.fromarray(wide(index)).save(folder / "photos" / f"part-{index:02d}.png")
    mask = np.zeros((64, 88), np.uint8)
    mask[:, :60] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    (folder / "labels.csv").write_text("path,label\npart-00.png,bad\npart-05.png,good\n")
    content = hashlib.sha256((folder / "photos" / "part-00.png").read_bytes()).hexdigest()
    append(folder / "boxes.csv", [DefectBox("part-00.png", content, 20, 20, 20, 20)])
    tiled = NearestImages(**EARLY, tile=64, overlap=16)
    how = {"roi": folder / "mask.png", "threads": 1, "cache": folder / "cache"}
    blemish.fit(folder / "photos", folder / "plain", detector=tiled.clone(), **how)
    blemish.fit(folder / "photos", folder / "run", detector=tiled, labels=folder / "labels.csv", **how)
    assert export(folder / "run", folder / "line", threads=1).score <= 1e-3
    return folder


def test_a_run_on_tiles_is_exported_with_its_tiles(fitted_with_all):
    run, exported = (blemish.load(fitted_with_all / name) for name in ("run", "line"))
    new = [np.random.default_rng(0).integers(0, 256, (64, 88, 3), dtype=np.uint8)]
    expected, found = run.score(new, threads=1), exported.score(new, threads=1)
    np.testing.assert_allclose(found.image, expected.image, rtol=1e-3)
    assert found.maps.shape == expected.maps.shape


def test_labels_and_a_drawn_defect_are_known_to_the_exported_model(fitted_with_all):
    run, exported, plain = (blemish.load(fitted_with_all / name) for name in ("run", "line", "plain"))
    assert all(part.defects is not None for part in run.detector.neighbours())
    new = wide(40)
    new[18:38, 22:42] = 255
    expected, found, without = (each.score([new], threads=1).image for each in (run, exported, plain))
    spread = np.subtract(*np.percentile(run.training_scores, (75, 25)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3 * spread)
    assert found[0] > without[0]


def test_a_region_of_interest_is_in_the_graph_and_one_an_image_is_refused(fitted_with_all, tmp_path):
    run = blemish.load(fitted_with_all / "run")
    defect = wide(40)
    defect[10:50, 70:86] = 255  # outside of the region
    found = blemish.load(fitted_with_all / "line").score([wide(40), defect], threads=1).image
    assert max(found) < run.threshold_  # without the region the second is above it
    run.about["roi"] = OWN_MASKS
    with pytest.raises(RequestError, match="one mask for all in `roi`"):
        export(run, tmp_path / "no", threads=1)


@pytest.mark.skipif(
    not (shutil.which("g++") and os.environ.get("ONNXRUNTIME")),
    reason="needs g++ and, in ONNXRUNTIME, an unpacked release of ONNX Runtime: pip's has no headers",
)
def test_the_sample_in_cpp_finds_the_same(fitted, tmp_path):
    home = Path(os.environ["ONNXRUNTIME"])
    sample = Path(__file__).parents[2] / "docs" / "score.cpp"
    words = ["g++", "-std=c++17", "-Wall", "-Werror", sample, f"-I{home / 'include'}", f"-L{home / 'lib'}"]
    words += [f"-Wl,-rpath,{home / 'lib'}", "-lonnxruntime", "-o", tmp_path / "score"]
    subprocess.run([str(word) for word in words], check=True)
    Image.fromarray(picture(0)).save(tmp_path / "part.ppm")
    words = [tmp_path / "score", fitted / "onnx" / "model.onnx", tmp_path / "part.ppm"]
    done = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True)
    expected = blemish.load(fitted / "onnx").score([picture(0)], threads=1).image[0]
    assert float(done.stdout.split()[0]) == pytest.approx(float(expected), rel=1e-4)
    assert "flagged" in done.stdout
