"""What jobs refuse to go on with: skipped files with `strict`, images without content, scores that rank nothing."""

from collections.abc import Mapping
from contextlib import closing

import numpy as np

from blemish.images import ImageSet
from blemish.machine.errors import JobError, RequestError, UnreadableImageError
from blemish.machine.runtime import in_threads, runtime
from blemish.scores import Scores

FEWEST_RANKED = 5  # different images, with fewer equal scores or flat images may well be right
LOOKED_AT = 12  # images that are looked at before a fit
MOSTLY_FLAT = 0.9  # of these


def refuse_skipped(skipped: Mapping[str, str]) -> None:
    """What `strict` is for. Raises `RequestError` if anything was skipped."""
    if skipped:
        name, reason = next(iter(skipped.items()))
        raise RequestError(
            f"`strict` refuses files that cannot be used: {len(skipped)}, such as '{name}' ({reason}); fix that, or "
            "leave out `strict` to skip such files."
        )


def refuse_equal(scores: Scores, images: ImageSet) -> None:
    """Raise `JobError` where different images, more than a few, all have one score: that ranks nothing."""
    if len({images.content[name] for name in scores.ids}) < FEWEST_RANKED:
        return
    low, high = float(scores.image.min()), float(scores.image.max())
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        raise JobError(
            f"All {len(scores)} images have the same score, {low:.4g}, so nothing is ranked: they look alike as they "
            "are read. Look at one of them; for images deeper than 8 bits give `levels`."
        )


def refuse_flat(images: ImageSet) -> None:
    """Raise `JobError` where nearly all images are the same flat colour as they are read; some are looked at."""
    if images.features_alone or len(images) < FEWEST_RANKED:
        return
    names = [images.ids[at] for at in np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).astype(int)]

    def ends(name: str) -> tuple[float, float] | None:
        try:
            low, high = np.percentile(images.read(name), (0.05, 99.95), axis=(0, 1)).mean(axis=1)
        except UnreadableImageError:  # it is reported when its features are made
            return None
        return float(low), float(high)

    with closing(in_threads(ends, names, runtime().threads)) as results:
        found = [each for each in results if each is not None]
    middle = np.median([low for low, _ in found]) if found else 0.0
    flat = sum(abs(low - middle) <= 1 and high - low <= 1 for low, high in found)
    if found and flat >= MOSTLY_FLAT * len(found):
        how = images.decoding.range
        levels = f"; levels of {how[0]:g} to {how[1]:g} become black to white, `levels` sets others" if how else ""
        raise JobError(
            f"{flat} of {len(found)} images looked at are the same flat colour as they are read{levels}. There is "
            "nothing to compare: give a folder whose images show something."
        )
