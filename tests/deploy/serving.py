"""What the tests of `serve` share: requests with images, and limits that are quick to reach."""

import io

import pytest
from PIL import Image

pytest.importorskip("fastapi")
from blemish.deploy.uploads import Limits

LIMITS = Limits(body=200_000, pixels=20_000, images=4, seconds=60, requests=40)


def png(pixels):
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def sent(client, data, kind="image/png", **words):
    return client.post("/score", content=data, headers={"content-type": kind}, **words)
