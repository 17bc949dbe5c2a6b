"""How long the review page takes in a real browser: first view, slider, a key, a filter, more images.

Makes a Run of generated images with the project's own writers (no detector: nothing is learned), starts
`blemish review` on it, and looks at it in headless Chromium. Each time is from the person's act to what they see of it,
pictures included; of cards also until they are in place.

    python benchmarks/review_page.py --images 10000 --work results/review_page
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from blemish import calibration
from blemish.images.decoding import Decoding
from blemish.images.labels import LABELS
from blemish.runs.artifact import SCORES, write_config
from blemish.runs.stored_scores import write_maps
from blemish.scores import Scores
from blemish.scores.heatmaps import MapScale
from markdown_table import markdown

WIDTH, HEIGHT, GRID = 640, 480, (48, 64)
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Only of cards in the window: to ask where a picture in another card is lays that card out, a third of the time.
SEEN = """() => [...document.querySelectorAll('.card')].filter(c => {
    const box = c.getBoundingClientRect(); return box.bottom > 0 && box.top < innerHeight;
    }).flatMap(c => [...c.querySelectorAll('img')]).filter(i => {
    const box = i.getBoundingClientRect(); return box.bottom > 0 && box.top < innerHeight; })"""
ALL_SEEN = f"(seen => seen.length > 0 && seen.every(i => i.complete && i.naturalWidth > 0))(({SEEN})())"
UNTIL = """async () => {{ const start = performance.now(), frame = () => new Promise(requestAnimationFrame), times = [];
    {act};
    for (const holds of [() => {first}, () => {condition}]) {{
        while (!holds()) {{ await frame(); if (performance.now() - start > 60000) throw 'never'; }}
        await frame(); times.push(performance.now());
    }}
    return [times[1] - start, times[0] - start, times[1]]; }}"""
LOOKING = 700  # ms that a person looks at what came before the next act
PRESS = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}', bubbles: true}}))"


def make(folder: Path, count: int) -> Path:
    """A Run of `count` images in ten folders, 5 % of them bad."""
    run, images = folder / "run", folder / "images"
    rng = np.random.default_rng(0)
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    base = (120 + 40 * np.sin(down / 9) + 40 * np.sin(across / 13))[:, :, None]
    base = (base + rng.normal(0, 6, (HEIGHT, WIDTH, 3))).clip(0, 255).astype(np.uint8)
    bad = rng.random(count) < 0.05
    image = rng.gumbel(size=count) + 12 * bad * rng.random(count)
    maps = rng.normal(0, 1, (count, *GRID)).astype(np.float32)
    ids, content = [], {}
    for row in range(count):
        name = f"line-{row % 10}/part-{row:05d}.jpg"
        pixels = np.roll(base, row, axis=1)
        pixels[:16, :16] = rng.integers(0, 256, (16, 16, 3))  # no two images are equal
        y, x = int(rng.integers(HEIGHT - 60)), int(rng.integers(WIDTH - 60))
        if bad[row]:
            pixels[y : y + 40, x : x + 50] = 255
            maps[row, y * GRID[0] // HEIGHT :, x * GRID[1] // WIDTH :][:4, :5] = image[row]
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(images / name, quality=85)
        content[name] = sha256((images / name).read_bytes()).hexdigest()
        ids.append(name)
    boxes, sizes = np.tile(np.float32([0, 0, 1, 1]), (count, 1)), np.tile((WIDTH, HEIGHT), (count, 1))
    scores = Scores(tuple(ids), image.astype(np.float32), maps, boxes, sizes)
    run.mkdir()
    decision = calibration.decide(scores.image)
    scores.to_csv(run / SCORES, decision.threshold)
    write_maps(run, scores, content)
    about = {"image_root": str(images.resolve()), "decision": decision.to_json(), "decoding": asdict(Decoding()),
             "map_scale": asdict(MapScale.of(scores, decision.threshold))}  # fmt: skip
    write_config(run, about)
    return run


@contextmanager
def served(run: Path) -> Iterator[tuple[str, float]]:
    """The link of `blemish review`, and the milliseconds until it could be opened."""
    start = time.perf_counter()
    program = subprocess.Popen(
        [sys.executable, "-m", "blemish", "review", str(run)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        told = program.stdout.readline() if program.stdout else ""
        yield told.split()[-1], 1000 * (time.perf_counter() - start)
    finally:
        program.terminate()
        program.wait(60)


def timed(tab: Page, act: str, condition: str, then: str = "true") -> tuple[float, float]:
    """Milliseconds from an act until a condition holds and is painted, and until another one does, too."""
    pictures, cards, _ = tab.evaluate(UNTIL.format(act=act, first=condition, condition=then))
    return float(cards), float(pictures)


def first_view(browser: Browser, link: str) -> tuple[Page, float]:
    """A new tab without a cache, and the milliseconds from the navigation until the pictures in view are there."""
    tab = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    tab.wait_for_timeout(2 * LOOKING)  # the browser has made its window
    tab.goto(link, wait_until="commit")
    return tab, float(tab.evaluate(UNTIL.format(act="", first="true", condition=ALL_SEEN))[2])


def acts(tab: Page) -> dict[str, float]:
    """Milliseconds of what a person does on a page that is there, looking a moment at what comes of each act."""
    found: dict[str, list[float]] = {}

    def note(what: str, times: tuple[float, float]) -> None:
        cards, pictures = times
        found.setdefault(what, []).append(pictures)
        if "pictures" in what:
            found.setdefault(what.replace("pictures", "cards"), []).append(cards)
        tab.wait_for_timeout(LOOKING)

    count = "document.getElementById('flagged-count').textContent"
    status = "document.getElementById('status').textContent"
    for each in range(9):
        move = (
            f"const was = {count}; const s = document.getElementById('slider'); s.value = {500 + 40 * each}; "
            "s.dispatchEvent(new Event('input'))"
        )
        note("slider moves the count and the histogram", timed(tab, move, f"{count} !== was"))
    tab.evaluate("document.querySelector('#card-0 .picture').focus()")
    for key in "arararara":
        press = f"const was = {status}; {PRESS.format(key=key)}"
        note("a key (accept, reject) is kept and counted", timed(tab, press, f"{status} !== was"))
    for _ in range(20):
        note(
            "scrolling on by a window",
            timed(tab, "scrollBy(0, 0.9 * innerHeight)", f"{SEEN}().length > 9", ALL_SEEN),
        )
    for _ in range(9):
        scroll = (
            "const was = document.querySelectorAll('.card').length; document.querySelector('.more').scrollIntoView()"
        )
        more = "document.querySelectorAll('.card').length > was"
        note("60 more images at the end of the page, pictures", timed(tab, scroll, more, ALL_SEEN))
    for folder in range(9):
        choose = (
            "scrollTo(0, 0); const s = document.querySelector('[name=folder]'); "
            f"s.value = 'line-{folder}'; s.dispatchEvent(new Event('change', {{bubbles: true}}))"
        )
        shown = f"document.querySelector('.card bdi')?.textContent.startsWith('line-{folder}/')"
        note("another folder, pictures", timed(tab, choose, shown, ALL_SEEN))
    plane, row = "document.querySelector('#stage .plane')", "document.querySelector('.zoomed')?.dataset.row"
    drawn = "[...document.querySelectorAll('#stage img')].every(i => i.complete && i.naturalWidth)"
    for each in range(9):
        act = "document.querySelector('.card .picture').click()" if not each else PRESS.format(key="j")
        enlarged = f"document.getElementById('zoom').open && {plane} && {row} !== was && {drawn}"
        note("an image enlarged, and the next", timed(tab, f"const was = {row}; {act}", enlarged))
    for _ in range(9):
        act = f"const was = {plane}.style.transform; {PRESS.format(key='+')}"
        note("zooming in by a step", timed(tab, act, f"{plane}.style.transform !== was"))
        tab.keyboard.press("0")
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Make the Run, measure with no thumbnails made yet and with all of them, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--work", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--patience", type=float, default=1800, help="seconds for all thumbnails to be made")
    given = parser.parse_args()
    given.work.mkdir(parents=True)
    run = make(given.work, given.images)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    rows: list[dict[str, Any]] = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=list(FLAGS))
        with served(run) as (link, ready):
            tab, view = first_view(browser, link)
            rows += [{"what": "program starts", "fresh": ready}, {"what": "first view", "fresh": view}]
            rows += [{"what": name, "fresh": each} for name, each in acts(tab).items()]
            tab.context.close()
            start = time.monotonic()
            while len(list((run / "review").glob("*/*/*.jpg"))) < given.images:
                if time.monotonic() - start > given.patience:
                    sys.exit("The thumbnails are not made in time; raise --patience.")
                time.sleep(2)
            print(f"{given.images} thumbnails took {time.monotonic() - start:.0f} s more in the background.")
        (run / LABELS).unlink()  # the same keys shall say something new
        with served(run) as (link, ready):
            views = []
            for _ in range(5):
                tab, view = first_view(browser, link)
                views.append(view)
            for name, each in {"program starts": ready, "first view": statistics.median(views), **acts(tab)}.items():
                next(row for row in rows if row["what"] == name)["made"] = each
        browser.close()
    frame = pd.DataFrame(rows).rename(columns={"fresh": "no thumbnails yet, ms", "made": "all made, ms"})
    print(markdown(frame, digits=0))


if __name__ == "__main__":
    main()
