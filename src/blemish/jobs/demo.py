"""The demo: plant defects in a folder of sample photos, run the main job, and see how many it finds.

The folder is of exposed-aggregate tiles, some of them with a defect. The pictures are cut from sample photos inside
scikit-image's wheel, all under CC0 1.0 according to the docstrings of `skimage.data` (nothing is downloaded):

- `gravel` (the tiles): CC0Textures, https://cc0textures.com/view.php?tex=Gravel04
- `brick` (foreign material): CC0Textures, https://cc0textures.com/view.php?tex=Bricks25
- `grass` (foreign material): DeviantArt, https://www.deviantart.com/linolafett/art/Grass-01-434853879
- `coffee` (foreign material): photographed by Rachel Michetti at Pikolo Espresso Bar
"""

import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from blemish.images import synthesis
from blemish.images.decoding import Pixels
from blemish.images.synthesis import Draw, Drawn
from blemish.jobs.fitting import fit
from blemish.machine.errors import RequestError
from blemish.machine.runtime import Progress
from blemish.report import HTML

IMAGES, RUN = "images", "run"
OURS = re.compile(r"tile-\d+\.(png|jpg)")
SIDE = 256  # pixels along a tile
NOTE = (
    "Made from sample photos that come with scikit-image, all CC0 1.0: gravel and brick (CC0Textures), grass "
    "(linolafett, DeviantArt), coffee (Rachel Michetti, Pikolo Espresso Bar)."
)
STONE = np.array([1.06, 0.99, 0.88], dtype=np.float32)  # the photo is grey; sandstone is warm


def run_demo(out: Path, *, count: int, seed: int, force: bool, threads: int | None, progress: Progress) -> list[str]:
    """Make `out/images`, fit to `out/run`; returns the lines to print."""
    folder, run_folder = out / IMAGES, out / RUN
    if folder.exists() and not force:
        raise RequestError(f"'{folder}' exists; give another folder with `out`, or replace the demo with `force`.")
    if folder.exists():
        if foreign := [path.name for path in folder.iterdir() if not OURS.fullmatch(path.name)]:
            raise RequestError(f"'{folder}' holds '{foreign[0]}', which the demo did not make; give another folder.")
        shutil.rmtree(folder)
    planted = make_demo_folder(folder, count=count, seed=seed)
    run = fit(folder, run_folder, force=force, seed=seed, threads=threads, progress=progress)
    ranking = run.scores.ranking()
    top = set(ranking[: len(planted)]).intersection(planted)
    flagged = run.scores.flagged
    return [
        NOTE,
        f"{len(planted)} of the {count} images have a planted defect; blemish does not know which.",
        f"{len(top)} of these {len(planted)} are among the {len(planted)} top-ranked images.",
        f"{len(flagged)} images were flagged, {len(set(flagged).intersection(planted))} of them with a planted defect.",
        f"Report: {run_folder / HTML}",
    ]


def make_demo_folder(folder: str | Path, count: int = 120, bad_share: float = 0.08, seed: int = 0) -> dict[str, str]:
    """Fill `folder` with `count` photos of tiles, about `bad_share` of them defective, under neutral names.

    Parameters
    ----------
    folder : made if it is not there; must be empty.
    count : number of images, 1 or more; 256 x 256 pixels, two thirds PNG, one third JPEG.
    bad_share : share with a defect, 0..1, rounded to whole images.
    seed : the same seed gives the same files.

    Returns
    -------
    kind of defect by id (the file's name), for the planted defects only; `list()` of it are their ids.

    Raises `RequestError` if the folder holds anything already or a number is out of range.
    """
    target = Path(folder)
    if count < 1 or not 0 <= bad_share <= 1:
        raise RequestError(f"Got count {count} and bad_share {bad_share}; count must be 1 or more, bad_share 0..1.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RequestError(f"'{target}' is not an empty folder; give a new one, so that nothing of yours is mixed in.")
    target.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    bad = set(rng.choice(count, round(count * bad_share), replace=False).tolist())
    order = list(_defects())
    kinds: dict[str, str] = {}
    for index in range(count):
        rgb = _tile(rng)
        # Every file draws its format before its defect is known: the suffix gives nothing away.
        suffix = "jpg" if rng.random() < 1 / 3 else "png"
        name = f"tile-{index + 1:04d}.{suffix}"
        if index in bad:
            kinds[name] = order[len(kinds) % len(order)]
            rgb, _ = _defects()[kinds[name]](rgb, rng)
        rgb = _photographed(rgb, rng)
        Image.fromarray(rgb).save(target / name, quality=92, compress_level=3)
    return kinds


def _tile(rng: np.random.Generator) -> Pixels:
    """Cut a square of the surface: anywhere, either way round, slightly turned, its colour varying."""
    photo = _photo("gravel")
    height, width = photo.shape[:2]
    reach = SIDE * 0.62  # the corner of a square turned by up to 8 degrees stays on the photo
    x, y = rng.uniform(reach, width - reach), rng.uniform(reach, height - reach)
    turn, zoom = np.deg2rad(rng.uniform(-8, 8)), rng.uniform(0.94, 1.06)
    cos, sin = np.cos(turn) * zoom, np.sin(turn) * zoom
    half = SIDE / 2
    affine = (cos, -sin, x - (cos - sin) * half, sin, cos, y - (sin + cos) * half)
    square = Image.fromarray(photo).transform((SIDE, SIDE), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC)
    rgb = np.asarray(square)
    rgb = np.rot90(rgb, int(rng.integers(0, 4)))
    rgb = rgb[:, ::-1] if rng.random() < 0.5 else rgb
    colour = STONE * rng.normal(1, 0.012, 3)
    return np.asarray((rgb * colour).clip(0, 255), dtype=np.uint8)


def _photographed(rgb: Pixels, rng: np.random.Generator) -> Pixels:
    """Add what a camera adds, to good and bad alike: exposure, uneven light, focus, noise."""
    ramp = np.linspace(-1, 1, SIDE, dtype=np.float32)
    light = 1 + rng.normal(0, 0.03) * ramp[:, None] + rng.normal(0, 0.03) * ramp[None, :]
    exposed = rgb * (light * rng.normal(1.05, 0.04))[:, :, None]
    photo = Image.fromarray(exposed.clip(0, 255).astype(np.uint8))
    focus = np.asarray(photo.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.0, 0.7)))))
    return np.asarray((focus + rng.normal(0, 2.5, focus.shape)).round().clip(0, 255), dtype=np.uint8)


def _defects() -> dict[str, Draw]:
    return {
        "stain": synthesis.stain,
        "scratch": synthesis.scratch,
        "hole": synthesis.hole,
        "foreign material": _foreign,
        "crack": synthesis.crack,
        "smear": synthesis.smear,
    }


def _foreign(rgb: Pixels, rng: np.random.Generator) -> Drawn:
    photo = _photo(str(rng.choice(["brick", "grass", "coffee"])))
    y, x = (int(rng.integers(0, side - 160)) for side in photo.shape[:2])
    return synthesis.foreign(rgb, rng, photo[y : y + 160, x : x + 160])


@cache
def _photo(name: str) -> Pixels:
    """Read a sample photo as uint8 RGB, from the wheel itself: `skimage.data` might reach for the network."""
    import skimage

    path = Path(skimage.__file__).parent / "data" / f"{name}.png"
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))
