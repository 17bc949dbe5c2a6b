"""The pictures of the README: four drawn products, some with a defect, blemish's heatmaps, the report and the page.

Every image is drawn here, so nothing needs a licence. Four folders of 60 images, 5 of them bad, are fitted as anyone
would; the picture shows the most unusual image of each. With Chromium and Playwright the report and the review page of
one of them are photographed too.

    python benchmarks/pictures.py docs/images --keep FOLDER
"""

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy.ndimage import gaussian_filter

import blemish
from blemish.images import synthesis
from blemish.scores import heatmaps

SIDE, FINE = 256, 2  # pixels of an image; drawn twice as large
COUNT, BAD = 60, 5
Random = np.random.Generator
Picture = Image.Image
Array = NDArray[np.floating]


def _noise(rng: Random, size: int, blur: float) -> Array:
    smooth = gaussian_filter(rng.standard_normal((size, size), dtype=np.float32), blur, mode="wrap")
    return smooth / smooth.std()


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def casting(rng: Random, bad: bool) -> Picture:
    """A machined ring with six holes on a cast plate; bad ones have a burr or lack a hole."""
    size = SIDE * FINE
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    x, y = x + rng.normal(0, 0.006), y + rng.normal(0, 0.006)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    cast = 96 + 9 * _noise(rng, size, 1.5) + 6 * _noise(rng, size, 6)
    turned = 168 + 7 * np.sin(radius * 620 + rng.uniform(0, 6)) + 26 * np.cos(2 * (angle - 0.7)) ** 3
    turned = turned + 4 * _noise(rng, size, 0.7)
    level = np.where((radius < 0.43) & (radius > 0.15), turned, cast)
    level = np.where(radius < 0.135, 28 + 3 * _noise(rng, size, 2), level)
    for edge in (0.43, 0.15):
        level -= 70 * np.exp(-(((radius - edge) / 0.007) ** 2))
    turn = rng.uniform(0, np.pi / 3)
    missing = int(rng.integers(6)) if bad and rng.random() < 0.4 else -1
    for number in range(6):
        if number == missing:
            continue
        at = turn + number * np.pi / 3
        away = np.hypot(x - 0.29 * np.cos(at), y - 0.29 * np.sin(at))
        level = np.where(away < 0.038, 34, level) + 45 * np.exp(-(((away - 0.043) / 0.005) ** 2))
    rgb = (level[:, :, None] * np.array([1.0, 1.0, 1.03])).clip(0, 255).astype(np.uint8)
    if bad and missing < 0:
        where = rng.uniform(0, 6.28)
        middle = np.array([0.5 + 0.36 * np.cos(where), 0.5 + 0.36 * np.sin(where)]) * size
        draw = ImageDraw.Draw(picture := Image.fromarray(rgb))
        for _ in range(9):
            cx, cy = middle + rng.normal(0, 9, 2)
            r = rng.uniform(3, 8)
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=(40, 38, 38))
        return picture.filter(ImageFilter.GaussianBlur(0.8))
    return Image.fromarray(rgb)


def fabric(rng: Random, bad: bool) -> Picture:
    """Twill of two yarns; bad ones have a pulled yarn or an oil stain."""
    size, pitch = SIDE * FINE, 16
    y, x = np.mgrid[:size, :size].astype(np.float32)
    x, y = x + 2.5 * _noise(rng, size, 40) + rng.uniform(0, 64), y + 2.5 * _noise(rng, size, 40) + rng.uniform(0, 64)
    warp, weft = (x // pitch).astype(int), (y // pitch).astype(int)
    over = (warp + weft) % 4 < 2
    tone = rng.normal(0, 1, (2, 200))
    across = np.where(over, (x % pitch) / pitch, (y % pitch) / pitch) - 0.5
    body = np.sqrt(np.clip(1 - (1.9 * across) ** 2, 0.05, 1))
    yarn = np.where(over, tone[0][warp % 200], tone[1][weft % 200])
    if bad and (pulled := rng.random() < 0.5):
        body = np.where((weft == int(rng.integers(10, 22))) & over, 0.25 * body, body)
    level = body * (1 + 0.035 * yarn) + 0.05 * _noise(rng, size, 0.8)
    blue, sand = np.array([62, 88, 140]), np.array([196, 184, 160])
    rgb = (np.where(over[:, :, None], blue, sand) * level[:, :, None]).clip(0, 255).astype(np.uint8)
    if bad and not pulled:
        rgb, _ = synthesis.stain(rgb, rng)
    return Image.fromarray(rgb)


def label(rng: Random, bad: bool) -> Picture:
    """A printed label on a brown box; bad ones lost part of the barcode or have smeared print."""
    size = SIDE * FINE
    box = np.array([176, 142, 100]) + (5 * _noise(rng, size, 2) + 4 * _noise(rng, size, 12))[:, :, None]
    sheet = Image.fromarray(box.clip(0, 255).astype(np.uint8))
    paper = Image.new("RGB", (430, 330), (244, 243, 238))
    draw = ImageDraw.Draw(paper)
    draw.rectangle((0, 0, 430, 64), fill=(32, 92, 150))
    draw.text((18, 12), "NORDMARK", font=_font(38), fill=(250, 250, 250))
    draw.text((18, 80), "Ball bearing 6204-2RS", font=_font(26), fill=(30, 30, 30))
    draw.text((18, 118), "20 x 47 x 14 mm    10 pcs", font=_font(22), fill=(60, 60, 60))
    draw.text((18, 290), "4 006381 333931", font=_font(24), fill=(30, 30, 30))
    bars, at = np.random.default_rng(6204), 18
    while at < 300:
        width = int(bars.choice([3, 3, 6, 9]))
        draw.rectangle((at, 165, at + width - 1, 282), fill=(15, 15, 15))
        at += width + int(bars.choice([3, 6]))
    draw.ellipse((335, 170, 405, 240), outline=(190, 40, 40), width=8)
    draw.text((353, 185), "QC", font=_font(28), fill=(190, 40, 40))
    if bad and rng.random() < 0.5:
        left, top = int(rng.integers(60, 200)), int(rng.integers(165, 215))
        draw.rectangle((left, top, left + 70, top + 45), fill=(244, 243, 238))
    elif bad:
        place = (int(rng.integers(10, 150)), 76, int(rng.integers(220, 400)), 146)
        part = np.asarray(paper.crop(place), dtype=np.float32)
        for step in range(1, 9):
            part = 0.72 * part + 0.28 * np.roll(part, (step, 5 * step), axis=(0, 1))
        paper.paste(Image.fromarray(part.round().astype(np.uint8)), place[:2])
    angle = float(rng.normal(0, 1.2))
    turned = paper.convert("RGBA").rotate(angle, expand=True, resample=Image.Resampling.BICUBIC)
    corner = (36 + int(rng.normal(0, 4)), 84 + int(rng.normal(0, 4)))
    shade = Image.new("RGBA", turned.size, (40, 30, 20, 90))
    shade.putalpha(turned.getchannel("A").point(lambda level: level // 3))
    sheet.paste(shade, (corner[0] + 5, corner[1] + 6), shade)
    sheet.paste(turned, corner, turned)
    return sheet


def board(rng: Random, bad: bool) -> Picture:
    """A circuit board; bad ones lack a part, or two pins are bridged with solder."""
    size, fixed = SIDE * FINE, np.random.default_rng(42)
    base = np.array([24, 92, 58]) + 2.5 * _noise(rng, size, 1)[:, :, None]
    picture = Image.fromarray(base.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for _ in range(26):  # tracks
        x, y = fixed.integers(20, size - 20, 2)
        dx, dy = int(fixed.integers(-160, 160)), int(fixed.integers(-160, 160))
        draw.line([(x, y), (x + dx, y), (x + dx, y + dy)], fill=(44, 124, 78), width=7)
        draw.ellipse((x - 8, y - 8, x + 8, y + 8), fill=(188, 168, 96))
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(20, 40, 30))
    parts = [(80 + 120 * (n % 4), 60 + 340 * (n // 4)) for n in range(8)]
    missing = int(rng.integers(8)) if bad and rng.random() < 0.5 else -1
    bridge = int(rng.integers(7)) if bad and missing < 0 else -1
    for number, (x, y) in enumerate(parts):  # resistors
        x, y = x + rng.normal(0, 1), y + rng.normal(0, 1)
        for side in (-26, 26):
            draw.rectangle((x + side - 11, y - 15, x + side + 11, y + 15), fill=(196, 198, 202))
        if number != missing:
            draw.rectangle((x - 27, y - 13, x + 27, y + 13), fill=(26, 26, 28))
            draw.text((x - 17, y - 10), ("103", "472")[number % 2], font=_font(18), fill=(226, 226, 226))
        draw.text((x - 14, y + 20), f"R{number + 1}", font=_font(16), fill=(224, 230, 224))
    left, top = 150 + rng.normal(0, 1.5), 150 + rng.normal(0, 1.5)
    for pin in range(8):  # the chip
        x = left + 12 + 26 * pin
        shine = int(rng.normal(200, 8))
        for y in (top - 22, top + 172):
            draw.rectangle((x, y, x + 12, y + 28), fill=(shine, shine, shine + 4))
    if bridge >= 0:
        x, y = left + 12 + 26 * bridge, top + 178
        draw.ellipse((x - 2, y - 4, x + 42, y + 24), fill=(206, 208, 212))
    draw.rectangle((left, top, left + 218, top + 178), fill=(34, 34, 38))
    draw.ellipse((left + 14, top + 14, left + 34, top + 34), fill=(52, 52, 56))
    draw.text((left + 40, top + 62), "BL-2041", font=_font(36), fill=(206, 206, 206))
    return picture


DOMAINS: dict[str, Callable[[Random, bool], Picture]] = {
    "casting": casting,
    "fabric": fabric,
    "label": label,
    "board": board,
}


def photographed(picture: Picture, rng: Random) -> Picture:
    """As a camera would see it: exposure, uneven light, focus, noise, for good and bad alike."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7)))
    ramp = np.linspace(-1, 1, SIDE)
    light = rng.normal(1, 0.03) + 0.03 * rng.normal() * ramp[:, None] + 0.03 * rng.normal() * ramp[None, :]
    levels = np.asarray(small) * light[:, :, None] + rng.normal(0, 2.5, (SIDE, SIDE, 3))
    return Image.fromarray(levels.clip(0, 255).round().astype(np.uint8))


def fill(folder: Path, domain: str, seed: int = 0) -> set[str]:
    """Draw a folder of images; returns the names of those with a defect."""
    rng = np.random.default_rng([seed, *domain.encode()])
    bad = set(rng.choice(COUNT, BAD, replace=False).tolist())
    folder.mkdir(parents=True)
    for number in range(COUNT):
        photographed(DOMAINS[domain](rng, number in bad), rng).save(folder / f"{number:03d}.png")
    return {f"{number:03d}.png" for number in bad}


def gallery(runs: dict[str, Path], out: Path) -> None:
    """A column a domain: the most unusual image and its heatmap."""
    rows = ("the most unusual of 60 images", "where it is unusual")
    margin, head = 10, 34
    sheet = Image.new("RGB", (len(runs) * (SIDE + margin) + margin, head + 2 * (SIDE + head)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (domain, folder) in enumerate(runs.items()):
        run = blemish.load(folder)
        names = [line.split(",")[0] for line in (folder / "scores.csv").read_text().splitlines()[1:]]
        images = Path(json.loads((folder / "config.json").read_text())["image_root"])
        first = names[0]
        scores = run.score([images / first])
        rgb = np.asarray(Image.open(images / first))
        drawn = heatmaps.overlay(rgb, scores.map(scores.ids[0]), run.map_scale)
        shown = (Image.fromarray(rgb), drawn)
        x = margin + column * (SIDE + margin)
        draw.text((x, 8), domain, font=_font(18), fill=(20, 20, 20))
        for row, picture in enumerate(shown):
            y = head + row * (SIDE + head)
            sheet.paste(picture.resize((SIDE, SIDE)), (x, y))
            if column == 0:
                draw.text((x, y + SIDE + 6), rows[row], font=_font(16), fill=(90, 90, 90))
    sheet.save(out / "gallery.jpg", quality=88)


def photographs(run: Path, out: Path) -> None:
    """The report and the review page of a Run, as a browser shows them."""
    from playwright.sync_api import sync_playwright

    program = subprocess.Popen(
        [sys.executable, "-u", "-m", "blemish", "review", str(run)], stdout=subprocess.PIPE, text=True
    )
    try:
        found = re.search(r"http\S+", program.stdout.readline() if program.stdout else "")
        if not found:
            raise SystemExit("the review page printed no link")
        with sync_playwright() as driver:
            chromium = shutil.which("chromium")
            flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
            browser = driver.chromium.launch(executable_path=chromium, args=flags)
            tab = browser.new_page(viewport={"width": 1100, "height": 760})
            tab.goto((run / "report.html").absolute().as_uri())
            tab.wait_for_timeout(1500)
            tab.screenshot(path=str(out / "report.jpg"), type="jpeg", quality=85)
            tab.goto(found[0])
            tab.wait_for_timeout(4000)
            tab.screenshot(path=str(out / "review.jpg"), type="jpeg", quality=85)
            browser.close()
    finally:
        program.terminate()
        program.wait(30)


def main() -> None:
    """Draw, fit, and make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--keep", type=Path, required=True, help="a folder for the drawn images and the Runs")
    parser.add_argument("--photograph", choices=list(DOMAINS), default="board")
    given = parser.parse_args()
    out = given.out.absolute()
    for folder in (out, given.keep):
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(given.keep):  # the report names the Run as the fit does, and not where this machine had it
        runs = {domain: Path(f"run-{domain}") for domain in DOMAINS}
        for domain, folder in runs.items():
            if not folder.exists():
                bad = fill(Path(domain), domain)
                run = blemish.fit(domain, folder)
                top = run.scores.ranking()[:BAD] if run.scores else []
                print(f"{domain}: {len(bad.intersection(top))} of {BAD} bad ones are the {BAD} most unusual")
        gallery(runs, out)
        photographs(runs[given.photograph], out)


if __name__ == "__main__":
    main()
