"""The server answers everyone with their own scores, refuses what it cannot take, and never falls over."""

import base64
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from serving import LIMITS, png, sent

import blemish
from blemish.detectors.nearest_images import NearestImages
from blemish.detectors.parts.views import View
from conftest import fill, picture

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
from fastapi.testclient import TestClient  # noqa: E402

from blemish.deploy.application import create_app  # noqa: E402
from blemish.deploy.current import CurrentRun, named_runs  # noqa: E402

PATIENCE = 120  # seconds: the machine may be busy


def fit(folder, out, k=2):
    views = (View(64, ("16",), rooted=False),)
    detector = NearestImages(backbone="efficientnet_lite0", views=views, k=k)
    blemish.fit(folder / "photos", out, detector=detector, threads=1, cache=folder / "cache", force=True)
    return out


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    fill(folder / "photos", 10)
    fit(folder, folder / "run")
    return folder


@pytest.fixture(scope="module")
def client(fitted):
    app = create_app({"run": CurrentRun(fitted / "run")}, limits=LIMITS, threads=1)
    with TestClient(app) as client:
        yield client


def test_images_in_any_form_get_the_scores_of_the_run(client, fitted):
    images = [picture(index) for index in (39, 40, 41)]
    images[0][20:40, 20:40] = 255
    expected = blemish.load(fitted / "run").score(images, threads=1).image
    assert sent(client, png(images[0])).json()["results"][0]["score"] == pytest.approx(float(expected[0]), rel=1e-4)
    raw = sent(client, images[1].tobytes(), "application/octet-stream", params={"shape": "64,64,3"}).json()
    assert raw["results"][0]["score"] == pytest.approx(float(expected[1]), rel=1e-4)
    parts = [("images", (f"{index}.png", png(each), "image/png")) for index, each in enumerate(images[:2])]
    parts.append(("images", ("2.raw", images[2].tobytes(), "application/octet-stream")))
    many = client.post("/score", files=parts, data={"shape": "64,64,3"}, params={"maps": True}).json()["results"]
    assert [each["name"] for each in many] == ["0.png", "1.png", "2.raw"]
    np.testing.assert_allclose([each["score"] for each in many], expected, rtol=1e-4)
    assert [each["flagged"] for each in many][:2] == [True, bool(expected[1] > many[1]["threshold"])]
    grid = np.frombuffer(base64.b64decode(many[0]["map"]["float32"]), "<f4").reshape(many[0]["map"]["shape"])
    assert grid.max() > np.frombuffer(base64.b64decode(many[1]["map"]["float32"]), "<f4").max()


def test_an_image_of_the_fit_keeps_its_score(client, fitted):
    data = (fitted / "photos" / "part-00.png").read_bytes()
    run = blemish.load(fitted / "run")
    assert sent(client, data).json()["results"][0]["score"] in run.known.values()


@pytest.mark.parametrize("kind", ["image/jpg", "image/pjpeg"])
def test_what_clients_call_a_jpeg_is_one(client, kind):
    file = io.BytesIO()
    Image.fromarray(picture(1)).save(file, "JPEG")
    assert client.post("/score", content=file.getvalue(), headers={"content-type": kind}).status_code == 200


def test_no_answer_is_lost_or_crossed_among_many_clients(client, fitted):
    images = {index: picture(index) for index in range(60, 76)}
    scores = blemish.load(fitted / "run").score(list(images.values()), threads=1).image
    expected = dict(zip(images, scores, strict=True))

    def ask(index):
        answer = sent(client, png(images[index]))
        return index, answer.json()["results"][0]["score"]

    with ThreadPoolExecutor(8) as clients:
        for index, score in clients.map(ask, [*images] * 3):
            assert score == pytest.approx(float(expected[index]), rel=1e-4)


def test_the_key_is_asked_for_and_compared(fitted):
    app = create_app({"run": CurrentRun(fitted / "run")}, api_key="s3cret", threads=1)
    with TestClient(app) as client:
        assert sent(client, png(picture(1))).status_code == 401
        assert client.get("/metrics", headers={"X-API-Key": "wrong"}).status_code == 401
        assert client.get("/health").status_code == 200
        answer = client.post(
            "/score", content=png(picture(1)), headers={"content-type": "image/png", "X-API-Key": "s3cret"}
        )
        assert answer.status_code == 200


def test_several_models_are_asked_for_by_name(fitted):
    with TestClient(create_app(named_runs([f"a={fitted / 'run'}", f"b={fitted / 'run'}"]), threads=1)) as client:
        assert sent(client, png(picture(1)), params={"model": "b"}).json()["model"] == "b"
        assert "?model=, of a, b" in sent(client, png(picture(1))).json()["error"]
        assert set(client.get("/health").json()["models"]) == {"a", "b"}


def test_a_model_is_replaced_while_it_serves_and_a_broken_one_changes_nothing(fitted, tmp_path):
    run = shutil.copytree(fitted / "run", tmp_path / "run")
    current = CurrentRun(run)
    first, version = current.now()
    assert not current.refresh()
    data = (run / "detector.safetensors").read_bytes()
    (run / "detector.safetensors").write_bytes(data[:-1])
    os.utime(run / "config.json")
    assert not current.refresh()
    assert "detector.safetensors" in current.problem
    assert current.now() == (first, version)
    shutil.rmtree(run)
    fit(fitted, run, k=3)
    assert current.refresh()
    assert current.problem == ""
    assert current.now()[1] != version
    assert current.now()[0].detector.k_ == 3


@pytest.fixture
def server(fitted):
    words = [sys.executable, "-m", "blemish", "serve", str(fitted / "run"), "--port", "0", "--threads", "1"]
    process = subprocess.Popen(
        [*words, "--timeout", "4", "--answer-timeout", "100"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    address = process.stdout.readline().split()[-1]
    yield process, address
    process.kill()
    process.wait()
    process.stdout.close()
    process.stderr.close()


def test_a_real_server_answers_outlasts_a_slow_client_and_stops_with_grace(server):
    process, address = server
    host, port = address.removeprefix("http://").split(":")
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                health = client.get("/health")
                break
            except httpx.TransportError:
                time.sleep(0.2)
        assert health.json()["models"]["run"]["problem"] == ""
        assert "/score" in client.get("/openapi.json").json()["paths"]
        slow = socket.create_connection((host, int(port)))
        slow.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\nabc")
        answer = client.post("/score", content=png(picture(40)), headers={"content-type": "image/png"})
        assert answer.status_code == 200
        slow.settimeout(PATIENCE)
        assert b" 408 " in slow.recv(4096).splitlines()[0]
        slow.close()
        with ThreadPoolExecutor(1) as other:  # what is under way is answered, then it ends
            last = other.submit(
                lambda: httpx.post(
                    f"{address}/score",
                    files=[("images", (f"{n}.png", png(picture(n)), "image/png")) for n in range(50, 90)],
                    timeout=PATIENCE,
                )
            )
            until = time.monotonic() + PATIENCE
            while not last.done() and "blemish_waiting_images" in (metrics := client.get("/metrics").text):
                if 'blemish_waiting_images{model="run"} 0.0' not in metrics or time.monotonic() > until:
                    break
            process.send_signal(signal.SIGTERM)
            assert last.result().status_code in (200, 503)
    assert process.wait(timeout=PATIENCE) == 0
    assert "Traceback" not in process.stderr.read()


def test_the_answer_says_what_to_do_how_sure_and_where(client, fitted):
    image = picture(39)
    image[20:40, 20:40] = 255
    run = blemish.load(fitted / "run")
    [found] = sent(client, png(image), params={"heatmap": True}).json()["results"]
    assert found["band"] == run.decision.bands([found["score"]])[0] != "pass"
    chances = run.decision.chances(np.array([found["score"]]))
    assert found["chance"] == (None if chances is None else pytest.approx(chances[0], abs=1e-4))
    best = found["boxes"][0]
    assert best["left"] < 30 / 64 < best["right"]
    assert best["top"] < 30 / 64 < best["bottom"]
    assert 0 < best["area"] <= (best["right"] - best["left"]) * (best["bottom"] - best["top"]) + 1e-9
    drawn = Image.open(io.BytesIO(base64.b64decode(found["heatmap"])))
    assert (drawn.format, drawn.width / drawn.height) == ("PNG", 1)
    [calm] = sent(client, png(picture(41))).json()["results"]
    assert "heatmap" not in calm
    assert "map" not in calm
    assert calm["band"] != "pass" or calm["boxes"] == []


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_need_nothing_from_elsewhere(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!\.|docs|openapi|#)|https?://|url\(|@import""", answer.text)
    if path == "/docs":
        schema = client.get("/openapi.json").json()
        for name in (*schema["paths"], *schema["components"]["schemas"], "heatmap"):
            assert name in answer.text
        assert '<a href="#Scored">' in answer.text


def test_the_schema_is_valid_and_every_refusal_in_it_has_the_one_shape(client):
    validator = pytest.importorskip("openapi_spec_validator")
    schema = client.get("/openapi.json").json()
    validator.validate(schema)
    answers = {
        (path, status): next(iter(each.get("content", {}).values()), {}).get("schema", {}).get("$ref")
        for path, ways in schema["paths"].items()
        for way in ways.values()
        for status, each in way["responses"].items()
    }
    refusals = {kind for (path, status), kind in answers.items() if status != "200" and path != "/health"}
    assert refusals == {"#/components/schemas/Problem"}
    assert answers["/score", "200"] == "#/components/schemas/Scored"


def test_a_client_made_from_the_schema_scores(server, fitted, tmp_path):
    pytest.importorskip("openapi_python_client")
    _, address = server
    until = time.monotonic() + PATIENCE
    while True:
        try:
            schema = httpx.get(f"{address}/openapi.json", timeout=PATIENCE).text
            break
        except httpx.TransportError:
            assert time.monotonic() < until
            time.sleep(0.2)
    (tmp_path / "openapi.json").write_text(schema)
    words = ["-m", "openapi_python_client", "generate", "--path", "openapi.json", "--output-path", "made", "--meta"]
    made = subprocess.run([sys.executable, *words, "none"], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout + made.stderr
    (tmp_path / "part.png").write_bytes(png(picture(0)))
    program = """
import sys
from made import Client
from made.api.default import score
from made.models import Problem, ScoreFilesBody, Scored
from made.types import File
client = Client(base_url=sys.argv[1])
with open("part.png", "rb") as file:
    body = ScoreFilesBody(images=[File(payload=file, file_name="part.png", mime_type="image/png")])
    found = score.sync(client=client, body=body, heatmap=True)
assert isinstance(found, Scored), found
[result] = found.results
assert result.flagged and result.band == "reject" and result.boxes, result
assert isinstance(score.sync(client=client, body=ScoreFilesBody(images=[])), Problem)
"""
    done = subprocess.run([sys.executable, "-c", program, address], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.browser
def test_a_person_drops_an_image_on_the_page_and_sees_the_answer(server, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    _, address = server
    (tmp_path / "part.png").write_bytes(png(picture(0)))
    (tmp_path / "notes.png").write_text("no image")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab, elsewhere = browser.new_page(), []
        tab.on("request", lambda request: elsewhere.append(request.url))
        tab.set_default_timeout(PATIENCE * 1000)
        tab.goto(address)
        tab.locator("#file").set_input_files(tmp_path / "part.png")
        tab.locator(".answer").wait_for()
        assert tab.locator(".answer").inner_text() == "Likely bad"
        assert "part.png: score" in tab.locator("#said").inner_text()
        assert tab.locator("#picture .box").count() >= 1
        assert tab.locator("#picture .heat").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        if shots := os.environ.get("BLEMISH_SHOTS"):
            tab.screenshot(path=f"{shots}/start.png", full_page=True)
        tab.locator("#heat").focus()
        tab.keyboard.press("Space")
        assert not tab.locator("#picture .heat").is_visible()
        tab.locator("#file").set_input_files(tmp_path / "notes.png")
        tab.get_by_text("'notes.png' cannot be used").wait_for()
        tab.goto(f"{address}/docs")
        assert tab.get_by_role("heading", name="POST /score").is_visible()
        if shots:
            tab.screenshot(path=f"{shots}/docs.png", full_page=True)
        browser.close()
    assert all(each.startswith((address, "blob:", "data:")) for each in elsewhere)
