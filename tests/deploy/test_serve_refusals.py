"""What the server cannot take is refused in one sentence and one shape, and costs nobody else anything."""

import io
import socket
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from serving import LIMITS, png, sent

from command_line import call, refused
from conftest import picture

pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blemish.deploy.application import Batching, create_app
from blemish.deploy.current import CurrentRun
from blemish.deploy.uploads import BusyError, PixelRoom, RefusedError

WHOLE = png(picture(1))


@pytest.fixture(scope="module")
def client(_fitted):
    with TestClient(create_app({"run": CurrentRun(_fitted)}, limits=LIMITS, threads=1)) as client:
        yield client


def bomb():
    """A PNG of few bytes that claims 60,000 x 60,000 pixels."""
    data = bytearray(png(np.zeros((8, 8, 3), np.uint8)))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "kind", "params", "status", "said"),
    [
        (b"", "image/png", {}, 422, "no image"),
        (png(picture(1))[:300], "image/png", {}, 422, "damaged or truncated"),
        (b"no image at all", "image/jpeg", {}, 422, "not an image"),
        (bomb(), "image/png", {}, 413, "3,600,000,000 pixels"),
        (png(picture(1)), "text/plain", {}, 415, "text/plain"),
        (bytes(300_000), "image/png", {}, 413, "200,000 bytes"),
        (bytes(12), "application/octet-stream", {}, 422, "480,640,3"),
        (bytes(12), "application/octet-stream", {"shape": "64,64,3"}, 422, "12,288 bytes; got 12"),
        (bytes(12), "application/octet-stream", {"shape": "99999,99999,3"}, 413, "20,000 pixels"),
        (bytes(12), "application/octet-stream", {"shape": "-4,64,3"}, 422, "-4,64,3"),
        (b"--x\r\nno", "multipart/form-data", {}, 400, "multipart"),
        (png(picture(1)), "image/png", {"model": "other"}, 404, "there is run"),
    ],
)
def test_what_cannot_be_scored_gets_one_sentence_and_its_status(client, data, kind, params, status, said):
    answer = sent(client, data, kind, params=params)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_one_bad_image_of_several_is_named_and_too_many_are_refused(client):
    good, bad = ("a.png", png(picture(1)), "image/png"), ("b.png", b"oops", "image/png")
    answer = client.post("/score", files=[("images", good), ("images", bad)])
    assert (answer.status_code, "'b.png'" in answer.json()["error"]) == (422, True)
    assert client.post("/score", files=[("images", good)] * 5).status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/nothing", 404, "/nothing"),
        ("GET", "/score", 405, "GET"),
        ("PUT", "/score", 405, "PUT"),
        ("POST", "/health", 405, "/health"),
        ("POST", "/score?maps=perhaps", 422, "'maps' cannot be 'perhaps'"),
    ],
)
def test_every_refusal_has_one_shape(client, method, path, status, said):
    answer = client.request(method, path, content=b"")
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]


@pytest.mark.parametrize("form", ["TIFF", "GIF", "WEBP"])
def test_other_image_formats_are_never_decoded_and_not_called_damaged(client, form):
    data = io.BytesIO()
    Image.fromarray(picture(1)).save(data, form)
    answer = sent(client, data.getvalue())
    assert answer.status_code == 422
    assert f"a {form} image, and only PNG and JPEG are taken here" in answer.json()["error"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    body=st.one_of(
        st.binary(max_size=400),
        st.builds(lambda at, more: WHOLE[:at] + more + WHOLE[at:], st.integers(0, 500), st.binary(max_size=9)),
        st.builds(
            lambda parts: b"".join(b"--b\r\n%b\r\n\r\n%b\r\n" % part for part in parts) + b"--b--\r\n",
            st.lists(st.tuples(st.sampled_from([
                b'Content-Disposition: form-data; name="images"; filename="a"',
                b'Content-Disposition: form-data; name="shape"',
                b'Content-Disposition: form-data; name="images"',
                b'Content-Disposition: form-data; filename="a"',
                b"Content-Disposition: form-data", b"", b"\xff: \x00",
            ]), st.binary(max_size=60)), max_size=7),
        ),
    ),
    kind=st.sampled_from(["image/png", "image/jpeg", "application/octet-stream", "multipart/form-data; boundary=b",
                          "multipart/form-data", "multipart/form-data; boundary=", "", "text/html", "image/svg+xml"]),
    shape=st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["8,8,3", "8,8", "0,0,3", "1e3,2", "٣,٣"])),
    model=st.one_of(st.none(), st.just("run"), st.text(max_size=8)),
    maps=st.one_of(st.none(), st.sampled_from(["true", "maybe", ""])),
)  # fmt: skip
def test_no_upload_makes_it_fall_over(client, body, kind, shape, model, maps):
    given = {"shape": shape, "model": model, "maps": maps}
    params = {name: value for name, value in given.items() if value is not None}
    answer = sent(client, body, kind, params=params)
    assert answer.status_code in (200, 400, 404, 413, 415, 422)
    assert answer.json()


def test_a_full_house_says_429_and_come_again(run):
    app = create_app({"run": CurrentRun(run)}, batching=Batching(room=2), threads=1)
    with TestClient(app) as client, ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda index: sent(client, png(picture(index))), range(30, 42)))
        statuses = {answer.status_code for answer in answers}
        assert statuses == {200, 429}
        assert all(a.headers["retry-after"] == "1" for a in answers if a.status_code == 429)
        assert sent(client, png(picture(50))).status_code == 200
        assert 'blemish_requests_total{model="run",status="429"}' in client.get("/metrics").text


def test_images_of_many_requests_together_have_a_bound_too():
    room = PixelRoom(100)
    with room.taking(70):
        with pytest.raises(BusyError), room.taking(40):
            pass
        with room.taking(30):
            pass
    with room.taking(100):
        pass
    with pytest.raises(RefusedError, match="may have 100 pixels; these have 101"), room.taking(101):
        pass


def test_a_fault_of_ours_has_the_shape_of_every_other_refusal(run, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("inside")

    monkeypatch.setattr("blemish.deploy.application.result", broken)
    app = create_app({"run": CurrentRun(run)}, threads=1)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = sent(client, png(picture(1)))
    assert answer.status_code == 500
    assert list(answer.json()) == ["error"]
    assert "ZeroDivisionError" in answer.json()["error"]


def test_bad_requests_are_one_sentence(tmp_path, run):
    refused(call("serve", tmp_path), "is not a Run")
    refused(call("serve", run, run), "Two Runs are called 'run'", "NAME=")
    (tmp_path / "key").write_text(" \n")
    refused(call("serve", run, "--key-file", tmp_path / "key"), "is empty")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(call("serve", run, "--port", taken.getsockname()[1]), "Cannot listen on port", "--port")
