"""A Run whose images may be damaged, and the page over it without a network."""

import shutil

import pytest
from starlette.testclient import TestClient

from blemish.artifact import read_config, write_config
from blemish.review.app import application
from blemish.review.gallery import Gallery
from blemish.review.guard import Guard

TOKEN, HOST = "right", "127.0.0.1:1"


@pytest.fixture
def reviewed(tmp_path, run):
    """A Run with a copy of its images, both free to be changed."""
    config = read_config(run)
    images = shutil.copytree(config["image_root"], tmp_path / "images")
    asked = {**config["asked"], "images": str(images)}
    write_config(run, {**config, "image_root": str(images), "asked": asked})
    return run


@pytest.fixture
def gallery(reviewed):
    return Gallery.open(reviewed)


def client_of(gallery, **headers):
    app = application(gallery, Guard(TOKEN, frozenset({HOST}), "blemish-1"), fill=False)
    headers = {"X-Version": app.state.page.version, **headers}  # as htmx sends it with every request
    return TestClient(app, base_url=f"http://{HOST}", headers=headers, cookies={"blemish-1": TOKEN})


@pytest.fixture
def page(gallery):
    return client_of(gallery)
