"""Nothing but the images of the Run leaves the page, to nobody but who has the link."""

import csv
import os

import pytest
from PIL import Image

from blemish.machine.errors import RequestError
from blemish.review.gallery import Gallery
from blemish.review.server import is_loopback
from conftest import picture

from .conftest import HOST, client_of

EVIL = "<img src=x onerror=alert(1)>.png"


def rename(run, old, new):
    """Let the Run name an image otherwise, as a tampered scores.csv would."""
    text = (run / "scores.csv").read_text(encoding="utf-8")
    with (run / "scores.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        for row in csv.reader(text.splitlines()):
            table.writerow([new if cell == old else cell for cell in row])


@pytest.mark.parametrize("path", ["/", "/scores", "/picture/0", "/static/review.js", "/export/kept.csv", "/style.css"])
def test_without_the_token_everything_is_refused(gallery, path):
    page = client_of(gallery)
    page.cookies.clear()
    assert page.get(path).status_code == 403
    assert page.get(f"{path}?token=wrong").status_code == 403
    page.cookies.set("blemish-1", "wrong")
    assert page.get(path).status_code == 403
    assert page.post("/label", data={"row": 0, "word": "bad"}).status_code == 403
    assert not (gallery.folder / "labels.csv").exists()


def test_the_link_sets_a_cookie_and_leaves_no_token_in_the_address(gallery):
    page = client_of(gallery)
    page.cookies.clear()
    answer = page.get("/?token=right", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert page.get("/?token=right").status_code == 200


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"host": "127.0.0.1:2"}, {"origin": "http://evil.example"}]
)
def test_other_names_and_other_pages_are_refused(gallery, headers):
    page = client_of(gallery)
    assert page.post("/label", data={"row": 0, "word": "bad"}, headers=headers).status_code == 403
    assert page.post("/undo", headers={"origin": f"http://{HOST}"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/picture/../../etc/passwd",
        "/picture/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/thumbnail/-1",
        "/thumbnail/10",
        "/thumbnail/0/../../config.json",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/export/../config.csv",
        "/patch/0?left=nan&top=0&right=1&bottom=1",
        "/patch/0?left=-1e300&top=0&right=inf&bottom=1",
        "/config.json",
        "/docs",
        "/openapi.json",
    ],
)
def test_addresses_that_reach_for_other_files_get_nothing(page, path):
    answer = page.get(path)
    assert answer.status_code in (400, 404, 422)
    assert b"root:" not in answer.content
    assert b"import" not in answer.content


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "a/../../secret.png"])
def test_a_tampered_run_leads_to_no_file_outside_of_the_image_folder(reviewed, tmp_path, name):
    Image.fromarray(picture(1)).save(tmp_path / "secret.png")
    rename(reviewed, "part-00.png", str(tmp_path / "secret.png") if name.startswith("/") else name)
    page = client_of(Gallery.open(reviewed))
    for kind in ("picture", "thumbnail"):
        assert page.get(f"/{kind}/0").status_code == 404
    assert "points outside the image folder" in page.get("/zoom/0").text


def test_links_out_of_the_image_folder_are_followed_only_if_asked(reviewed, tmp_path):
    images = tmp_path / "images"
    (images / "part-00.png").rename(tmp_path / "secret.png")
    (images / "part-00.png").symlink_to(tmp_path / "secret.png")
    page = client_of(Gallery.open(reviewed))
    assert page.get("/picture/0").status_code == 404
    assert "`follow_links`" in page.get("/zoom/0").text
    assert client_of(Gallery.open(reviewed, follow_links=True)).get("/picture/0").status_code == 200


def test_the_page_writes_nothing_outside_of_the_run(reviewed, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (reviewed / "review").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError, match=r"review'.*remove that link"):
        client_of(Gallery.open(reviewed))


def test_file_names_are_text(reviewed, tmp_path):
    os.rename(tmp_path / "images" / "part-00.png", tmp_path / "images" / EVIL)  # noqa: PTH104
    rename(reviewed, "part-00.png", EVIL)
    page = client_of(Gallery.open(reviewed))
    for path in ("/", "/zoom/0", "/cards"):
        text = page.get(path).text
        assert EVIL not in text
        assert "&lt;img src=x onerror=alert(1)&gt;.png" in text
    assert page.get("/picture/0").status_code == 200
    assert EVIL in page.get("/export/kept.csv").text + page.get("/export/rejected.csv").text


def test_every_answer_forbids_foreign_and_inline_scripts(page):
    for path in ("/", "/zoom/0", "/picture/0", "/nothing"):
        headers = page.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    text = page.get("/").text
    assert "<script>" not in text
    assert " style=" not in text
    assert "onclick" not in text


def test_only_this_machine_is_served_unless_asked():
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")  # noqa: S104
    assert not is_loopback("192.168.0.7")


def test_too_large_a_request_is_refused(page):
    assert page.post("/label", content=b"x" * 200_000).status_code == 413
