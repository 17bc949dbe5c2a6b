"""Detectors and backbones of another package are found by its entry points."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blemish.features.backbones import backbone
from blemish.machine.errors import RequestError
from conftest import fill
from test_docs import blocks

BACKBONES = """
from dataclasses import replace
from blemish.features.backbones import BACKBONES

MY_NETWORK = replace(BACKBONES["efficientnet_lite0"], pixels=128)
"""
JOB = """
import blemish
from blemish.detectors import REGISTRY
from blemish.features.backbones import backbone

assert backbone("my_network").pixels == 128
assert run.scores.ranking()[0] == "part-00.png"
assert dict(scores) == dict(run.scores)
run = blemish.fit("path/to/images", "mine", detector="mine", settings={"backbone": "efficientnet_lite0"})
assert (run.detector.name, run.detector.retrieved) == ("mine", 40)
assert len(blemish.load("mine").score("path/to/images")) == 9
run = blemish.fit("path/to/images", "mean", detector="mean_patch", settings={"backbone": "efficientnet_lite0"})
assert run.scores.ranking()[0] == "part-00.png"
assert dict(blemish.load("mean").score("path/to/images")) == dict(run.score("path/to/images"))
"""


def install(folder: Path, points: str) -> None:
    """A package as an installer leaves it: its code, and the entry points beside it."""
    about = folder / "my_package-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (about / "entry_points.txt").write_text(points.replace('"', "").replace("project.entry-points.", ""))


def test_another_package_adds_a_detector_and_a_backbone_as_the_page_says(tmp_path: Path) -> None:
    [points], [detector, one_class, minimal, job] = blocks("docs/extend.md", "toml"), blocks("docs/extend.md", "python")
    install(tmp_path / "site", points)
    (tmp_path / "site/my_package").mkdir()
    (tmp_path / "site/my_package/detector.py").write_text(f"{detector}\n{one_class}\n{minimal}")
    (tmp_path / "site/my_package/backbones.py").write_text(BACKBONES)
    fill(tmp_path / "path/to/images", 9)
    (tmp_path / "job.py").write_text(f"{job}\n{JOB}")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    for words in (["job.py"], ["-m", "blemish", "detectors"]):
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert "mine: each image compared with 40 images like it" in done.stdout
    assert "nearest_images (default)" in done.stdout


def test_a_backbone_of_the_wrong_kind_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "[blemish.backbones]\nwrong = json:loads\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RequestError, match=r"'json:loads' .*'wrong'"):
        backbone("wrong")
