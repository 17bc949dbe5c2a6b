"""A Run scores alike in whatever process or thread it is asked, and its files can be read by others."""

import asyncio
import multiprocessing
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import blemish
from blemish.machine.errors import RequestError
from blemish.machine.runtime import in_threads, use_runtime
from blemish.machine.web import listening
from command_line import call, refused
from conftest import picture

NEW = [picture(index) for index in (0, 40, 41)]
PATIENCE = 120  # seconds, on a busy machine; a child that hangs never answers


def scores_of(folder, threads=2):
    return blemish.load(folder).score(NEW, threads=threads).image.tolist()


def answer(folder, out):
    out.put(scores_of(folder))


def answer_with(run, out):
    out.put(run.score(NEW, threads=2).image.tolist())


def answer_of_child(context, target, words):
    out = context.Queue()
    child = context.Process(target=target, args=(*words, out))
    child.start()
    try:
        return out.get(timeout=PATIENCE)
    finally:
        child.kill()
        child.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_run_that_has_scored_scores_in_a_forked_child(run):
    loaded = blemish.load(run)
    expected = loaded.score(NEW, threads=2).image.tolist()  # threads of this process are there from now on
    list(in_threads(str, range(8), 4))
    assert answer_of_child(multiprocessing.get_context("fork"), answer_with, (loaded,)) == expected
    assert loaded.score(NEW, threads=2).image.tolist() == expected


@pytest.mark.parametrize("kind", ["forkserver", "spawn"])
def test_a_run_scores_in_a_process_of_its_own(run, kind):
    if kind not in multiprocessing.get_all_start_methods():
        pytest.skip(f"there is no {kind} here")
    assert answer_of_child(multiprocessing.get_context(kind), answer, (run,)) == scores_of(run)


def test_a_run_scores_in_many_threads_at_once(run):
    loaded = blemish.load(run)
    expected = loaded.score(NEW, threads=2).image
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: loaded.score(NEW, threads=2).image, range(8)))
    for each in found:
        np.testing.assert_array_equal(each, expected)


def test_a_run_scores_in_an_event_loop(run):
    loaded = blemish.load(run)

    async def several():
        return await asyncio.gather(*(asyncio.to_thread(loaded.score, NEW) for _ in range(3)))

    expected = loaded.score(NEW).image
    for scores in asyncio.run(several()):
        np.testing.assert_array_equal(scores.image, expected)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(("mask", "wanted"), [(0o022, 0o644), (0o027, 0o640)])
def test_every_file_of_a_run_has_the_mode_of_the_umask(tmp_path, photos, mask, wanted):
    before = os.umask(mask)
    try:
        words = ("--detector", "nearest_images", "--set", "backbone=efficientnet_lite0", "--threads", "1", "--masks")
        assert call("fit", photos, "--out", tmp_path / "run", *words).exit_code == 0
        assert call("score", photos, "--model", tmp_path / "run", "--out", tmp_path / "out").exit_code == 0
    finally:
        os.umask(before)
    files = [path for folder in ("run", "out") for path in Path(tmp_path / folder).rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"maps.safetensors", "detector.safetensors", "scores.csv", "report.html"}
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in files if not path.stat().st_mode & wanted} == {}
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == {oct(wanted)}


@pytest.mark.parametrize("device", ["mps", "cuda:99", "no such device"])
def test_a_device_that_is_not_there_is_one_sentence(device, photos, tmp_path):
    said = refused(call("fit", photos, "--out", tmp_path / "run", "--device", device), device, "leave out --device")
    assert len(said) < 400
    with pytest.raises(RequestError), use_runtime(device=device):
        pass


def test_answers_do_not_wait_for_the_network_to_confirm_them():
    """Nagle's algorithm cost 40 ms an answer: asyncio leaves it on for a socket that names no protocol."""
    with listening("127.0.0.1", 0) as taken:
        taken.settimeout(10)
        with socket.create_connection(taken.getsockname()):
            accepted, _ = taken.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
