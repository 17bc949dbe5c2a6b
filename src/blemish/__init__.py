"""blemish finds defects in a folder of unlabelled images.

>>> import blemish
>>> run = blemish.fit("path/to/images", out="run")  # doctest: +SKIP
>>> scores = blemish.load("run").score(["new.png"])  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blemish.images import ImageSet
    from blemish.jobs import fit, purify, refit, score
    from blemish.jobs.evaluation import compare, evaluate
    from blemish.purification import Purification, PurifySettings
    from blemish.runs.run import Run, load
    from blemish.scores import Scores

__version__ = "0.1.0"
__all__ = [
    "ImageSet",
    "Purification",
    "PurifySettings",
    "Run",
    "Scores",
    "__version__",
    "compare",
    "evaluate",
    "fit",
    "load",
    "purify",
    "refit",
    "score",
]

_HOMES = {
    "compare": "jobs.evaluation",
    "evaluate": "jobs.evaluation",
    "ImageSet": "images",
    "Scores": "scores",
    "Run": "runs.run",
    "load": "runs.run",
    "fit": "jobs",
    "purify": "jobs",
    "refit": "jobs",
    "score": "jobs",
    "Purification": "purification",
    "PurifySettings": "purification",
}


def __getattr__(name: str) -> Any:
    """Import a part when it is first asked for, so that `import blemish` is quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'blemish' has no attribute '{name}'")
    return getattr(import_module(f"blemish.{_HOMES[name]}"), name)
