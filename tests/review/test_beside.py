"""Two Runs of the same images, side by side."""

import os
import re
import subprocess
import sys

import pytest

import blemish
from blemish.machine.errors import RequestError
from blemish.review.gallery import Gallery
from conftest import fill

from .browsing import CONTRAST, SHOTS, UNNAMED, reads, until
from .conftest import client_of


@pytest.fixture
def other(reviewed, tmp_path, small):
    """A Run of the same images by another detector setting, which lacks one of them."""
    images = reviewed.parent / "images"
    (images / "part-09.png").rename(tmp_path / "kept.png")
    blemish.fit(images, tmp_path / "other", detector=small.clone(smoothing=3.0, image_score="max"), threads=1)
    (tmp_path / "kept.png").rename(images / "part-09.png")
    return tmp_path / "other"


@pytest.fixture
def both(gallery, other):
    return client_of(gallery, beside=other)


def shown(page, query):
    return [int(row) for row in re.findall(r'id="card-(\d+)"', page.get(f"/cards?{query}").text)]


def test_each_card_has_both_ranks_and_scores_and_both_heatmaps(both, gallery, other):
    there = Gallery.open(other)
    text = both.get("/").text
    for row in range(len(gallery)):
        card = text.split(f'id="card-{row}"')[1].split("</li>")[0]
        if gallery.name(row) == "part-09.png":
            assert "not in other" in card
            assert both.get(f"/heat/{row}?beside=1").status_code == 404
            continue
        at = there.scores.ids.index(gallery.name(row))
        assert f'other: rank <span class="rank">{at + 1}</span>, score {there.scores.image[at]:.3g}' in card
    mine, its = both.get("/heat/0").content, both.get("/heat/0?beside=1").content
    assert mine[:4] == its[:4] == b"\x89PNG"
    assert mine != its
    assert both.get("/outline/0?beside=1").text.startswith("<svg")


def test_images_are_ordered_by_how_far_apart_the_runs_rank_them(both, gallery, other):
    there = Gallery.open(other).scores.ids
    apart = [abs(there.index(name) - row) if name in there else 0 for row, name in enumerate(gallery.scores.ids)]
    order = shown(both, "order=differ")
    assert sorted(order) == list(range(len(gallery)))
    assert [apart[row] for row in order] == sorted(apart, reverse=True)


def test_a_run_alone_has_nothing_beside(page):
    assert page.get("/heat/0?beside=1").status_code == 404
    assert page.get("/cards?order=differ").status_code == 400
    assert "differ" not in page.get("/").text


def test_a_run_of_other_images_is_refused(gallery, tmp_path, small):
    blemish.fit(fill(tmp_path / "others", 10, start=50), tmp_path / "strange", detector=small, threads=1)
    with pytest.raises(RequestError, match=r"none of the images.*`beside`"):
        client_of(gallery, beside=tmp_path / "strange")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 380])
def test_two_runs_are_looked_at_and_labelled(browser, reviewed, other, width):
    program = subprocess.Popen(
        [sys.executable, "-m", "blemish", "review", str(reviewed), "--beside", str(other)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.set_default_timeout(60_000)
        tab.goto(re.search(r"http\S+", program.stdout.readline())[0])
        until(tab, "document.getElementById('flagged-count').textContent !== ''")
        assert tab.locator("#card-0 .picture").count() == 2
        first, second = (tab.locator("#card-0 .picture").nth(at).bounding_box() for at in (0, 1))
        assert second["x"] >= first["x"] + first["width"]
        tab.select_option("select[name=order]", "differ")
        until(tab, "document.querySelectorAll('.card').length === 10")
        tab.wait_for_timeout(1500)
        top = tab.locator(".card").first.get_attribute("data-row")
        tab.locator(f"#card-{top} .say .bad").click()
        reads(tab, "1 bad")
        assert tab.locator(f"#card-{top} .picture").count() == 2
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            tab.emulate_media(color_scheme=scheme)
            assert tab.evaluate(CONTRAST) == []
            if SHOTS:
                tab.screenshot(path=f"{SHOTS}/beside-{width}-{scheme}.png")
        tab.locator("#card-0 .picture").first.click()
        tab.wait_for_selector("#zoom[open] #stage-beside:not([hidden]) img.heat")
        tab.keyboard.press("h")
        until(tab, "[...document.querySelectorAll('.stage .heat')].every(e => getComputedStyle(e).opacity === '0.8')")
        tab.wait_for_selector("#zoom .reason")
        sources = tab.evaluate("[...document.querySelectorAll('.stage .pixels')].map(e => new URL(e.src).pathname)")
        assert sources == ["/picture/0", "/picture/0"]
        assert tab.evaluate(UNNAMED) == []
        if SHOTS:
            tab.wait_for_timeout(500)
            tab.screenshot(path=f"{SHOTS}/beside-zoom-{width}.png")
        tab.close()
    finally:
        program.terminate()
        program.wait(60)
