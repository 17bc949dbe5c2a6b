"""blemish finds defects in a folder of unlabelled images.

    import blemish

    run = blemish.fit("path/to/images", out="run")     # learn, rank, decide; writes a report in run/
    run.scores.flagged                                  # ids of the images to look at, the worst first
    run.show(8)                                         # these, with heatmaps
    scores = run.score("new.png")                       # new images: a path, an array, a folder, or many
    run = blemish.load("run")                           # another day

Jobs: `fit`, `score`, `purify`, `refit`, `evaluate`, `compare`. What they return: `Run`, `Scores`, `Purification`. What
they take: `ImageSet`, or anything it can be made of. `OutlierDetector` is a scikit-learn estimator for arrays of
features.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from blemish.runs import provide

if TYPE_CHECKING:
    from blemish.images import ImageSet
    from blemish.jobs.estimator import OutlierDetector
    from blemish.jobs.evaluation import compare, evaluate
    from blemish.jobs.fitting import fit
    from blemish.jobs.purifying import purify
    from blemish.jobs.refitting import refit
    from blemish.jobs.scoring import score
    from blemish.machine.errors import JobError, RequestError
    from blemish.purification import Purification, PurifySettings
    from blemish.review.label_export import export_labels
    from blemish.review.label_import import import_labels
    from blemish.runs.run import Run, load
    from blemish.scores import Scores

__version__ = "0.1.0"
__all__ = [
    "ImageSet",
    "JobError",
    "OutlierDetector",
    "Purification",
    "PurifySettings",
    "RequestError",
    "Run",
    "Scores",
    "__version__",
    "compare",
    "evaluate",
    "export_labels",
    "fit",
    "import_labels",
    "load",
    "purify",
    "refit",
    "score",
]

_HOMES = {
    "OutlierDetector": "jobs.estimator",
    "compare": "jobs.evaluation",
    "evaluate": "jobs.evaluation",
    "export_labels": "review.label_export",
    "import_labels": "review.label_import",
    "ImageSet": "images",
    "JobError": "machine.errors",
    "RequestError": "machine.errors",
    "Scores": "scores",
    "Run": "runs.run",
    "load": "runs.run",
    "fit": "jobs.fitting",
    "purify": "jobs.purifying",
    "refit": "jobs.refitting",
    "score": "jobs.scoring",
    "Purification": "purification",
    "PurifySettings": "purification",
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first used, so that `import blemish` is quick."""
    if name not in _HOMES:
        here = sys.modules[__name__]  # from which Python tells what may have been meant
        raise AttributeError(f"module 'blemish' has no attribute '{name}'", name=name, obj=here)
    return getattr(import_module(f"blemish.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The names that are meant to be used."""
    return sorted(__all__)


provide("review", lambda: import_module("blemish.review.server").review)
provide("export", lambda: import_module("blemish.deploy.export").export)
