"""The pictures of a report as data URIs, so that one file needs no other: as many as it has room for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blemish.images import ImageSet
from blemish.images.notebook_cards import QUALITY, data_uri
from blemish.machine.errors import RequestError, UnreadableImageError, writing_to
from blemish.machine.runtime import runtime
from blemish.scores import Scores
from blemish.scores.heatmaps import MapScale, heatmap_path, overlay, shown

EMBEDDED = 200  # images shown; the rest is listed
PICTURE_BYTES = 17_500_000  # of the file's 20 MB: 1.5 MB are for the list, 1 MB for the rest
THUMBNAIL = 288  # pixels, longer side


@dataclass(frozen=True)
class Picture:
    """An image as data URIs, alone and under its heatmap; without them, `error` says why."""

    shape: str = "square"
    plain: str = ""
    heated: str = ""
    hottest: str = ""
    error: str = ""


def pictures_of(
    images: ImageSet, names: Sequence[str], scores: Scores | None = None, scale: MapScale | None = None
) -> dict[str, Picture]:
    """By id, the pictures of the first of `names`; with `scores` and their `scale` the heatmaps, too."""
    left = PICTURE_BYTES
    found: dict[str, Picture] = {}
    for name in names[:EMBEDDED]:
        picture = _picture(images, name, scores, scale)
        left -= len(picture.plain) + len(picture.heated) + 1_500 + 12 * len(name)
        if left < 0:
            break
        found[name] = picture
    return found


def _picture(images: ImageSet, name: str, scores: Scores | None, scale: MapScale | None) -> Picture:
    if name not in images.sources:
        return Picture(error="there is no image of this name")
    try:
        rgb = images.read(name)
    except UnreadableImageError as error:
        return Picture(error=str(error))
    plain = shown(rgb, THUMBNAIL)
    ratio = plain.width / plain.height
    shape = "wide" if ratio > 2 else "tall" if ratio < 0.5 else "square"
    if scores is None or scale is None:
        return Picture(shape, data_uri(plain))
    levels = scores.map(name, plain.size)
    return Picture(shape, data_uri(plain), data_uri(overlay(rgb, levels, scale, THUMBNAIL)), _hottest(levels))


def write_thumbnails(images: ImageSet, names: Sequence[str], folder: Path) -> None:
    """Leave a small picture of each of `names` that can be read in `folder`, which is made."""
    with writing_to(folder):
        folder.mkdir()
    for done, name in enumerate(names, start=1):
        target = heatmap_path(folder, name, ".jpg")
        if not target.resolve().is_relative_to(folder.resolve()):
            raise RequestError(f"'{target}' leads out of '{folder}'; remove the link or name a new folder.")
        try:
            thumbnail = shown(images.read(name), THUMBNAIL)
        except UnreadableImageError:
            continue
        with writing_to(folder):
            target.parent.mkdir(parents=True, exist_ok=True)
            thumbnail.save(target, "JPEG", quality=QUALITY)
        runtime().progress("thumbnails", done, len(names))


def _hottest(levels: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    """Say where the map peaks, in words, for those who do not see it."""
    y, x = np.unravel_index(int(np.argmax(np.nan_to_num(levels, nan=-np.inf))), levels.shape)
    down = ("upper", "middle", "lower")[int(3 * y // levels.shape[0])]
    across = ("left", "centre", "right")[int(3 * x // levels.shape[1])]
    return "centre" if (down, across) == ("middle", "centre") else f"{down} {across}"
