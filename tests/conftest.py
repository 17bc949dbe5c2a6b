"""Small generated images, and a cache of its own for every test."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

# Threads that wait for each other sleep. By default they spin, and with a worker a core they take the time of those
# that work: of the tests of FUN-AD's training five sixths. OpenMP reads this when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import blemish
from blemish.detectors import Detector, detector_class
from blemish.machine.runtime import Runtime, use_runtime

# A shell that starts the tests behind it (`make test &`) has them and their programs ignore Ctrl-C, which some send.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tests_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that the tests share, those of all workers, so that the backbone sees each picture once."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache" / "blemish"


@pytest.fixture(autouse=True)
def _no_cache_of_the_user(tests_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache; programs that a test starts do not, either."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tests_cache.parent))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _no_cache_of_the_user: None) -> Path:
    """An empty cache, for a test of what is made and kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "blemish"


def picture(index: int) -> NDArray[np.uint8]:
    """A soft 64 x 64 pattern under noise that depends on `index`; index 0 has a bright square."""
    rng = np.random.default_rng(index)
    wave = np.sin(np.arange(64) / 5)
    pattern = 120 + 40 * wave[:, None] + 40 * wave[None, :]
    rgb = (pattern[:, :, None] + rng.normal(0, 8, (64, 64, 3))).clip(0, 255).astype(np.uint8)
    if index == 0:
        rgb[20:40, 20:40] = 255
    return rgb


def fill(folder: Path, count: int, start: int = 0) -> Path:
    """Write `count` pictures to `folder`, `part-00.png` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        Image.fromarray(picture(index)).save(folder / f"part-{index:02d}.png")
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of ten pictures."""
    return fill(tmp_path / "photos", 10)


def small_detector() -> Detector:
    """A detector that fits ten pictures in a moment."""
    return detector_class("nearest_images")()


@pytest.fixture
def small() -> Detector:
    """See `small_detector`."""
    return small_detector()


@pytest.fixture(scope="session")
def _fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted")
    blemish.fit(
        fill(folder / "photos", 10), folder / "run", detector=small_detector(), threads=1, cache=folder / "cache"
    )
    return folder / "run"


@pytest.fixture
def run(tmp_path: Path, _fitted: Path) -> Path:
    """A copy of the Run that `small` leaves of `photos`, free to be damaged."""
    return Path(shutil.copytree(_fitted, tmp_path / "run"))


@pytest.fixture
def backbone_passes(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> list[int]:
    """How many images each call of the backbone took, a list that grows; the cache is empty at first."""
    from blemish.features.extract import PatchExtractor

    passes: list[int] = []
    forward = PatchExtractor.forward

    def counted(self: PatchExtractor, images: object) -> object:
        passes.append(len(images))  # type: ignore[arg-type]
        return forward(self, images)  # type: ignore[arg-type]

    monkeypatch.setattr(PatchExtractor, "forward", counted)
    return passes


@pytest.fixture
def cached(own_cache: Path) -> Iterator[Runtime]:
    """The test runs in a runtime whose cache is `own_cache`."""
    with use_runtime(cache=own_cache, threads=2) as runtime:
        yield runtime
