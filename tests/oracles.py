"""Detectors that only pretend to learn, and images for them."""

from zlib import crc32

import numpy as np

from blemish.detectors.nearest_images import NearestImages
from blemish.detectors.parts.views import View
from blemish.images import ImageSet

BAD = frozenset(f"image-{number:06d}" for number in range(0, 60, 7))


def noise(count: int, copies: int = 0) -> ImageSet:
    """Images of noise, all of different content but for copies of the first."""
    rng = np.random.default_rng(0)
    arrays = list(rng.integers(0, 255, (count, 8, 8, 3), dtype=np.uint8))
    return ImageSet.of([*arrays, *[arrays[0]] * copies])


def tiny_detector() -> NearestImages:
    return NearestImages(backbone="efficientnet_lite0", views=(View(96, ("16", "32")),))


class Oracle:
    """Knows the truth, and counts what it is asked."""

    fits = 0

    def __init__(self, bad=BAD):
        self.bad = bad

    def fit(self, images):
        type(self).fits += 1
        self.learned = set(images.ids)
        return self

    def score(self, images):
        return {name: float(name in self.bad) for name in images.ids}


class Memoriser(Oracle):
    """Gives what it learned from a score of -5."""

    def score(self, images):
        return {name: -5.0 if name in self.learned else float(name in self.bad) for name in images.ids}


class Gambler(Oracle):
    def score(self, images):
        seed = crc32("".join(sorted(self.learned)).encode())
        return np.random.default_rng(seed).normal(size=len(images))


class Recorder(Oracle):
    seen: list[set[str]]

    def fit(self, images):
        self.seen.append(set(images.ids))
        return super().fit(images)
