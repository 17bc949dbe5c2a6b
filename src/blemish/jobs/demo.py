"""The demo: plant defects in a folder of sample photos, run the main job, and see how many it finds."""

import re
import shutil
from pathlib import Path

from blemish import jobs
from blemish.jobs.demo_images import NOTE, make_demo_folder
from blemish.machine.errors import RequestError
from blemish.machine.runtime import Progress
from blemish.report import HTML

IMAGES, RUN = "images", "run"
OURS = re.compile(r"tile-\d+\.(png|jpg)")


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
    run = jobs.fit(folder, run_folder, force=force, seed=seed, threads=threads, progress=progress)
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
