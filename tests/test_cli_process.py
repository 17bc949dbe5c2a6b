"""The program itself, as a process of its own: broken off, killed, refused."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest

from command_line import QUICK, call
from conftest import fill


@pytest.fixture
def start(own_cache):
    """The command line as a program of its own, which does not outlive the test."""
    with ExitStack() as started:

        def program(*words):
            process = subprocess.Popen(
                [sys.executable, "-m", "blemish", *(str(word) for word in words)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield program


def wait_for(condition, process):
    for _ in range(1200):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def stray(folder):
    return [path.name for path in folder.rglob("*") if ".partial" in path.name]


@pytest.fixture
def many(tmp_path):
    return fill(tmp_path / "many", 96)


def kept(tmp_path):
    """How many images have features on disk."""
    return len(list((tmp_path / "cache").rglob("*.safetensors")))


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_features_are_made_keeps_them_and_leaves_no_run(tmp_path, many, number, start):
    process = start("fit", many, "--out", tmp_path / "run", *QUICK)
    wait_for(lambda: kept(tmp_path), process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "blemish: interrupted" in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()
    assert stray(tmp_path) == []
    assert kept(tmp_path) >= 1


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_ctrl_c_while_learning_leaves_the_old_run_as_it_was(tmp_path, many, run, start):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    slow = [*QUICK, "--detector", "funad", "--set", "steps=20000"]
    process = start("fit", many, "--out", run, "--force", *slow)
    wait_for(lambda: kept(tmp_path) == 96, process)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert stray(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_after_a_kill_only_the_missing_images_pass_the_backbone(tmp_path, many, backbone_passes, start):
    process = start("fit", many, "--out", tmp_path / "run", *QUICK)
    wait_for(lambda: kept(tmp_path) >= 32, process)  # the estimate's few come first
    process.kill()
    process.communicate(timeout=60)
    assert not (tmp_path / "run").exists()
    result = call("fit", many, "--out", tmp_path / "run", *QUICK, "--json")
    assert json.loads(result.stdout)["images"] == 96
    assert sum(backbone_passes) <= 64
    assert not list(tmp_path.glob(".run*"))


def test_a_wrong_request_ends_with_2_and_silence_on_standard_output(tmp_path, start):
    process = start("fit", tmp_path / "none", "--out", tmp_path / "run", "--detector", "nearest_images")
    printed, sentence = process.communicate(timeout=60)
    assert process.returncode == 2
    assert printed == ""
    assert sentence.startswith("blemish: '")
    assert sentence.count("\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_a_second_ctrl_c_cuts_a_server_short_without_a_stack_trace(run, start):
    process = start("serve", run, "--port", "0")
    host, port = process.stdout.readline().split("http://")[1].split(":")
    with socket.create_connection((host, int(port))) as slow:  # a request under way, for which the first one waits
        slow.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nabc")
        for _ in range(2):
            time.sleep(1)
            process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == ""
