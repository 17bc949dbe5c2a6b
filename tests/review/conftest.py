"""A Run whose images may be damaged, and the page over it without a network."""

import queue
import shutil
import threading

import pytest
import uvicorn
from starlette.testclient import TestClient

from blemish.review.app import Guard, application
from blemish.review.gallery import Gallery
from blemish.review.server import review
from blemish.runs.artifact import read_config, write_config

from .browsing import CHROMIUM, FLAGS, SLOW, until

TOKEN, HOST = "right", "127.0.0.1:1"


@pytest.fixture
def reviewed(tmp_path, run):
    """A Run with a copy of its images, both free to be changed."""
    config = read_config(run)
    images = shutil.copytree(config["image_root"], tmp_path / "images")
    request = {**config["request"], "images": str(images)}
    write_config(run, {**config, "image_root": str(images), "request": request})
    return run


@pytest.fixture
def gallery(reviewed):
    return Gallery.open(reviewed)


def client_of(gallery, *, beside=None, **headers):
    app = application(gallery, Guard(TOKEN, frozenset({HOST}), "blemish-1"), beside=beside, fill=False)
    headers = {"X-Version": app.state.session.version, **headers}  # as htmx sends it with every request
    return TestClient(app, base_url=f"http://{HOST}", headers=headers, cookies={"blemish-1": TOKEN})


@pytest.fixture
def page(gallery):
    return client_of(gallery)


@pytest.fixture(scope="session")
def browser():
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture
def link(reviewed, monkeypatch):
    """The link to the page, served by a thread of this process: a program of its own imports for seconds."""
    links, servers = queue.Queue(), []

    class Kept(uvicorn.Server):
        def __init__(self, config):
            super().__init__(config)
            servers.append(self)

    monkeypatch.setattr("uvicorn.Server", Kept)
    serving = threading.Thread(target=review, args=(reviewed,), kwargs={"tell": links.put})
    serving.start()
    try:
        yield links.get(timeout=SLOW / 1000)
    finally:
        servers[0].should_exit = True
        serving.join(1)
        servers[0].force_exit = True  # whatever answer is still being made
        serving.join(SLOW / 1000)


@pytest.fixture
def tab(browser, link):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(SLOW)
    page = context.new_page()
    trouble = []
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    page.goto(link)
    until(page, "document.getElementById('flagged-count').textContent !== ''")
    yield page
    assert not trouble
    page.unroute_all(behavior="ignoreErrors")  # an answer that a test delayed may still be on its way
    context.close()
