"""Weights that are nowhere here: asked of the hub once, given up at once, found again in the caches."""

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import weight_layouts as layouts
from blemish.features import hub
from blemish.features.backbones import BACKBONES
from blemish.features.weights import obtain, weights_found, weights_path
from blemish.machine.errors import JobError, WeightsError
from conftest import fill

OFFLINE_SECONDS = 5.0


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def endpoint(monkeypatch):
    """Sets where the hub is."""
    from huggingface_hub import constants

    def put(address):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    return put


@pytest.mark.parametrize("name", ["dino_vitb8", "dinov2_vits14_reg", "wide_resnet50_2", "resnet18"])
def test_offline_and_uncached_is_one_error_at_once_that_says_what_to_fetch(endpoint, tmp_path, name):
    endpoint("http://127.0.0.1:9")  # nothing listens there
    start = time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        obtain(name)
    assert time.perf_counter() - start < OFFLINE_SECONDS
    said = str(caught.value)
    assert "\n" not in said
    for part in (f"'{name}'", "`weights`", "model.safetensors", str(tmp_path / "hub"), str(tmp_path / "torch")):
        assert part in said
    assert BACKBONES.get(name) is None or BACKBONES[name].original in said


def test_a_hub_that_takes_the_call_and_never_answers_is_given_up(endpoint):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.perf_counter()
        with pytest.raises(WeightsError, match=r"127\.0\.0\.1.*`weights`"):
            obtain("dino_vitb8")
        assert time.perf_counter() - start < OFFLINE_SECONDS


def test_the_real_program_offline_ends_within_five_seconds_without_a_trace(tmp_path):
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "TORCH_HOME": str(tmp_path / "torch")}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9"}  # also on machines that can reach the hub
    words = ["fit", str(fill(tmp_path / "photos", 10)), "--out", str(tmp_path / "run"), "--backbone", "dino_vitb8"]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "blemish", *words], env=environment, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("blemish: The weights of 'dino_vitb8' are not on this machine")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
    # Other work on the machine stretches the seconds; loading torch takes most of them.
    subprocess.run([sys.executable, "-c", "import torch"], env=environment, check=True)
    loading = time.perf_counter() - start - seconds
    assert seconds < OFFLINE_SECONDS + loading


def test_switched_off_by_the_environment_nothing_is_asked(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "http_status", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE"):
        obtain("dino_vits8")


def test_looking_for_weights_asks_nobody(monkeypatch):
    monkeypatch.setattr(hub, "http_status", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(WeightsError, match=r"fetch https://.*`weights`"):
        weights_path("dino_vits8")
    assert weights_found("dino_vits8").startswith("not here; Apache-2.0, about 87 MB")


def test_an_architecture_without_published_weights_asks_for_a_file():
    with pytest.raises(WeightsError, match=r"'efficientnet_lite3'.*`weights`"):
        obtain("efficientnet_lite3")


def test_a_file_laid_into_the_cache_of_torch_is_found_by_its_original_name(tmp_path):
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    file = folder / "dino_deitsmall8_pretrain.pth"
    torch.save(layouts.dino(), file)
    obtain("dino_vits8")
    assert weights_path("dino_vits8") == file
    assert weights_found("dino_vits8") == f"present ({file})"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download needs: one safetensors file, with the headers that its client wants."""

    content = b"pretend weights"
    asked: list[str] = []  # noqa: RUF012
    breaks = False

    def do_HEAD(self):
        self.asked.append(self.path)
        if not self.path.endswith("/resolve/main/model.safetensors"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("ETag", '"0123456789abcdef0123456789abcdef01234567"')
        self.send_header("X-Repo-Commit", "f" * 40)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()

    def do_GET(self):
        if self.breaks:
            self.send_error(403)
            return
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *_):
        pass


@pytest.fixture
def local_hub(endpoint, monkeypatch):
    monkeypatch.setattr(Hub, "asked", [])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint(f"http://127.0.0.1:{server.server_port}")
    yield Hub
    server.shutdown()
    server.server_close()


def test_a_hub_in_reach_is_asked_for_the_file_which_is_then_in_the_cache(local_hub, tmp_path):
    obtain("dino_vits8")
    assert local_hub.asked[0] == "/timm/vit_small_patch8_224.dino/resolve/main/model.safetensors"
    path = weights_path("dino_vits8")
    assert Path(path).read_bytes() == Hub.content
    assert path.is_relative_to(tmp_path / "hub")
    count = len(local_hub.asked)
    obtain("dino_vits8")
    assert len(local_hub.asked) == count, "it is here"


def test_a_download_that_breaks_off_is_one_sentence(local_hub, monkeypatch):
    monkeypatch.setattr(Hub, "breaks", True)
    with pytest.raises(JobError, match=r"'dino_vits8' broke off .*`weights`"):
        obtain("dino_vits8")
