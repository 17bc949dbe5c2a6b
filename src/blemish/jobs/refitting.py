"""`refit`: the fit of a Run once more, with the labels of its review."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from blemish.detectors import restored_detector
from blemish.images.labels import labels_of
from blemish.images.urls import is_url
from blemish.jobs.fitting import fit_as
from blemish.jobs.request import FitRequest
from blemish.machine.errors import RequestError
from blemish.runs.artifact import read_config
from blemish.runs.run import Run, folder_of


def refit(
    run: str | Path | Run,
    out: str | Path,
    *,
    images: Any = None,
    labels: str | Path | Mapping[str, str] | None = None,
    force: bool = False,
    progress: Any = None,
    tell: Callable[[str], None] | None = None,
) -> Run:
    """Fit the images of a Run again with the same detector, settings and options, and its labels; see `fit`.

    Parameters
    ----------
    run : the folder of the Run, or the Run; it stays as it is.
    out : folder to write the new Run to; its `labels.csv` begins with these labels.
    images : where the images are now, if they moved; or the images themselves, if the fit had them from memory.
    labels : as in `fit`; the labels of the Run by default.

    Raises
    ------
    RequestError, JobError
        Also if the Run does not hold the options of its fit, as scores of new images do not.
    """
    folder = folder_of(run)
    config = read_config(folder)
    request = FitRequest.from_json(folder, config, images)
    known = labels_of(folder, labels)
    if images is None and not is_url(request.images) and not Path(request.images).exists():
        raise RequestError(f"The images are no longer in '{request.images}'; name their folder with `images`.")
    try:
        detector = restored_detector(config["detector"]["name"], config["detector"]["settings"])
    except (KeyError, TypeError) as error:
        raise RequestError(f"'{folder}' is damaged ({type(error).__name__}: {error}); fit again.") from error
    again = replace(request, out=Path(out), detector=detector, labels=known, force=force)
    return fit_as(again, progress=progress, tell=tell)
