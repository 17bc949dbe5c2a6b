"""`fit_each`: a Run for each product, one folder each, in one call that can be taken up."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from blemish.images.finding import find
from blemish.images.urls import folders_in, located
from blemish.jobs.fitting import fit_as
from blemish.jobs.request import FitRequest
from blemish.machine.errors import BlemishError, RequestError, replacing, writing_to
from blemish.machine.progress import progress_of
from blemish.runs.run import Run, load
from blemish.scores import above

TABLE = "subfolders.csv"


@dataclass(frozen=True)
class Fitted:
    """What became of one subfolder: counts of its Run, or why there is none. `kept` if it was there already."""

    name: str
    images: int = 0
    flagged: int = 0
    threshold: float = 0.0
    kept: bool = False
    error: str = ""


def fit_each(images: str | Path, out: str | Path, *, progress: Any = None, **options: Any) -> list[Fitted]:
    """Fit each folder in `images` alone, into a folder of that name in `out`; `options` are the options of `fit`.

    A folder that fails does not stop the others; one that is done already is kept unless `force` is set. Leaves
    `subfolders.csv`. Raises `RequestError` if there is no folder with images in `images`.
    """
    request = FitRequest.of({"images": images, "out": Path(out).expanduser(), **options})
    root, out = located(images), Path(out).expanduser()
    folders = {name: each for name, each in _inside(root, out).items() if _holds_images(each)}
    if not folders:
        raise RequestError(f"'{root}' holds no folder with images; leave out `each_subfolder` for the images in it.")
    done: list[Fitted] = []
    with progress_of(progress) as shown:
        for number, (name, folder) in enumerate(folders.items()):
            shown("folders", number, len(folders))
            copy, link = (each and each / name for each in (request.copy, request.link))
            one = replace(request, images=folder, out=out / name, copy=copy, link=link)
            done.append(_fitted(name, one, shown))
            _write(out, done)
    return done


def _inside(root: str | Path, out: Path) -> dict[str, str | Path]:
    """The folders in a folder or a URL by name, without hidden ones and `out`."""
    if isinstance(root, str):
        return {name: url for name, url in folders_in(root).items() if not name.startswith(".")}
    if not root.is_dir():
        raise RequestError(f"'{root}' is not a folder; `each_subfolder` takes a folder of folders.")
    inside = [each for each in sorted(root.iterdir()) if each.is_dir() and not each.name.startswith(".")]
    return {each.name: each for each in inside if each.resolve() != out.resolve()}


def _fitted(name: str, request: FitRequest, progress: Any) -> Fitted:
    if not request.force and request.out and os.path.lexists(request.out):
        try:
            return _counted(name, load(request.out), kept=True)
        except RequestError as error:
            return Fitted(name, error=f"{error} (set `force` to replace it)")
    try:
        return _counted(name, fit_as(request, progress=progress))
    except BlemishError as error:
        return Fitted(name, error=str(error))


def _counted(name: str, run: Run, *, kept: bool = False) -> Fitted:
    flagged = int(above(run.training_scores, run.threshold_).sum())
    return Fitted(name, len(run.training_scores), flagged, run.threshold_, kept)


def _holds_images(folder: str | Path) -> bool:
    try:
        return bool(find(folder).files)
    except RequestError:
        return False


def _write(out: Path, done: list[Fitted]) -> None:
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / TABLE) as partial:
            pd.DataFrame(done).astype({"kept": int}).to_csv(partial, index=False)
