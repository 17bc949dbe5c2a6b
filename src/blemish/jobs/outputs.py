"""What jobs share: the time they take, what they refuse, what they write."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blemish.images import ImageSet
from blemish.machine.errors import JobError, RequestError, UnreadableImageError
from blemish.machine.runtime import in_threads, runtime
from blemish.report.pictures import Picture, pictures_of
from blemish.runs.artifact import SCORES
from blemish.runs.run import Run
from blemish.runs.stored_scores import write_maps
from blemish.scores import Scores
from blemish.scores.heatmaps import MapScale, write_heatmaps
from blemish.scores.regions import write_regions

HEATMAPS, SKIPPED = "heatmaps", "skipped.csv"
FEWEST_RANKED = 5  # different images, with fewer equal scores or flat images may well be right
LOOKED_AT = 12  # images that are looked at before a fit
MOSTLY_FLAT = 0.9  # of these


@dataclass
class Stopwatch:
    """Seconds by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


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


def write_scores(
    images: ImageSet, scores: Scores, run: Run, folder: Path, *, masks: bool, labels: NDArray[np.int64] | None = None
) -> None:
    """Write the scores and their maps, what was skipped, and regions and heatmaps of the images that do not pass.

    `scores` have their decision; `labels` (N,) are what a person found; with `masks` the regions have theirs.
    """
    decision = scores.decision
    if decision is None:
        raise RuntimeError("scores are written with their decision")
    bands, chances = decision.bands(scores.image, labels), decision.chances(scores.image, labels)
    unusual = [name for name, band in scores.bands.items() if band != "pass"]
    scores.to_csv(folder / SCORES, decision.threshold, chances, bands)
    write_maps(folder, scores, images.content)
    write_skipped({**images.left_out, **scores.skipped}, folder)
    if run.pixel_threshold is not None and not images.features_alone:
        write_regions(scores, unusual, run.pixel_threshold, folder, masks=masks)
    (folder / HEATMAPS).mkdir()
    write_heatmaps(images, scores, unusual, run.map_scale, folder / HEATMAPS)


def write_skipped(skipped: Mapping[str, str], folder: Path) -> None:
    """Write `skipped.csv`: `path,reason` of each file that was not scored."""
    pd.DataFrame(sorted(skipped.items()), columns=["path", "reason"]).to_csv(folder / SKIPPED, index=False)


def pictures_of_report(images: ImageSet, scores: Scores, scale: MapScale) -> dict[str, Picture]:
    """The pictures of a report, the most unusual images first; none of features alone."""
    return {} if images.features_alone else pictures_of(images, scores.ranking(), scores, scale)


def peak_memory_mib() -> float | None:
    """The most memory this process has held, MiB; None where the system does not tell."""
    try:  # Linux: what getrusage says there is never less than what the process that started this one held
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return round(int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 2**10, 1)
    except (OSError, StopIteration, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)
