"""A Run whose images may be damaged, and the page over it without a network."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from blemish.review.app import application
from blemish.review.gallery import Gallery
from blemish.review.guard import Guard
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
def link(reviewed):
    """The program as a person starts it; the link it prints."""
    program = subprocess.Popen(
        [sys.executable, "-m", "blemish", "review", str(reviewed)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        yield re.search(r"http\S+", program.stdout.readline())[0]
    finally:
        program.terminate()
        program.wait(SLOW / 1000)


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
