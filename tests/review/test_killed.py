"""The page's program is killed at random moments: what it answered is kept, and nothing is there twice."""

import multiprocessing
import os
import random
import threading
import time
from collections import Counter

import httpx
import pytest
import uvicorn

from blemish.images import defect_boxes, labels
from blemish.machine.web import listening
from blemish.review.app import Guard, application
from blemish.review.gallery import Gallery

from .conftest import TOKEN

KILLS = 50


def serve(folder, taken):
    app = application(Gallery.open(folder), Guard(TOKEN, frozenset(), "blemish-1"), fill=False)
    uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off")).run(sockets=[taken])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a started program would import for seconds before each kill")
def test_fifty_random_kills_lose_and_double_neither_label_nor_box(reviewed, page):
    # what serving and drawing import is imported here, once: each of the forked programs would take a second over it
    assert page.post("/boxes", data={"row": 0, "type": "act 0", "stroke": "0,0", "radius": 2}).status_code == 200
    warm = uvicorn.Config(page.app, lifespan="off")
    warm.load()
    warm.get_loop_factory()
    chance, acts = random.Random(0), random.Random(1)  # noqa: S311 - no secret
    context = multiprocessing.get_context("fork")
    sent, kept, ends, wrong = 0, set(), [], []

    def click(address):
        """Label and draw until the program is gone; each act has a number of its own."""
        nonlocal sent
        # without certificates, which nobody asks for here and which take longer to read than an act
        with httpx.Client(base_url=address, cookies={"blemish-1": TOKEN}, timeout=60, verify=False) as http:  # noqa: S501
            try:
                version = http.get("/").text.split('data-version="')[1].split('"')[0]
                http.headers["X-Version"] = version
                while True:
                    sent += 1
                    row, name = sent % 10, f"act {sent}"
                    if acts.random() < 0.5:
                        data = {"row": row, "word": "bad", "type": name}
                        answer = http.post("/label", data=data)
                    else:
                        x, y = sent % 60, sent // 60 % 60
                        data = {"row": row, "type": name, "stroke": f"{x},{y}", "radius": 2}
                        answer = http.post("/boxes", data=data)
                    assert answer.status_code == 200
                    kept.add(name)
            except httpx.TransportError as error:
                ends.append(repr(error))
            except Exception as error:
                wrong.append(repr(error))

    for _ in range(KILLS):
        with listening("127.0.0.1", 0) as taken:
            process = context.Process(target=serve, args=(reviewed, taken))
            process.start()
            clicks = threading.Thread(target=click, args=(f"http://127.0.0.1:{taken.getsockname()[1]}",))
            clicks.start()
            before = len(kept)
            while len(kept) < before + 2 and clicks.is_alive():  # it answers
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.1))
            process.kill()
            process.join()
        clicks.join()
    assert wrong == []
    assert len(kept) >= 2 * KILLS, ends
    rows, broken = labels.read(reviewed / "labels.csv")
    boxes, broken_boxes = defect_boxes.read(reviewed / "boxes.csv")
    assert sum(len(each) for each in (broken, broken_boxes)) <= 2  # a sentence on rows that were cut short
    drawn = {box.type for box in boxes}
    found = {row.type for row in rows} | drawn
    assert kept <= found <= {f"act {number}" for number in range(sent + 1)}
    assert max(Counter(row.type for row in rows if row.type not in drawn).values()) == 1
    assert max(Counter(box.type for box in boxes).values()) == 1
