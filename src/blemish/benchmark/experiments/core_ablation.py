"""core-ablation: each choice of `nearest_images` changed alone, with everything else at its default."""

from collections.abc import Mapping, Sequence
from typing import Any

from blemish.benchmark.contamination import OVERLAP
from blemish.benchmark.datasets import Category
from blemish.benchmark.experiment_names import ABOUT
from blemish.benchmark.experiments.experiment import Experiment, Planned, Size, defective, on_each
from blemish.benchmark.experiments.fun_ad import per_cent

NAME = "core-ablation"
RATIOS = (0.1, 0.4)  # what k is worth depends on how many images share a defect
ALL = 2000  # as many as are ever compared with: retrieval by layout then leaves nothing out


def _view(**changed: Any) -> Mapping[str, Any]:
    """The default view with some of its attributes changed, as `config.json` holds it."""
    return {"views": [{"pixels": 256, "stages": ["16", "32"], **changed}]}


# By what is changed: the settings. The default has none, so that it is one run in all of them.
SWEEPS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "k": {"label-free": {}, **{f"k {k}": {"k": k} for k in (1, 2, 3, 4, 6, 8)}},
    "images compared with": {
        "the nearest 20": {},
        **{f"the nearest {count}": {"retrieved": count} for count in (8, 40)},
        "all": {"retrieved": ALL},
    },
    "embedding": {"whitened in part": {}, "standardised": _view(rooted=False)},
    "stages": {"1/16 and 1/32": {}, "1/16": _view(stages=["16"]), "1/8 and 1/16": _view(stages=["8", "16"])},
    "patches": {"as they are": {}, "mean of 3 x 3": _view(pool=3)},
    "pixels": {"256": {}, **{f"{pixels}": _view(pixels=pixels) for pixels in (192, 320, 384)}},
    "image score": {"top 5 %": {}, "maximum": {"image_score": "max"}, "extents": {"image_score": "extents"}},
    "smoothing": {"0.3 patches": {}, "none": {"smoothing": 0.0}, "1 patch": {"smoothing": 1.0}},
}


def _plan(categories: Sequence[Category], size: Size) -> list[Planned]:
    chosen = defective(categories, None if size.name == "standard" else size.ablated)
    cells = [
        (variant, f"{name}, {per_cent(ratio)}", {"ratio": ratio, "settings": sweep[variant]})
        for name, sweep in SWEEPS.items()
        for ratio in size.swept(RATIOS)
        for variant in size.some(list(sweep))
    ]
    return on_each(chosen, size, cells, detector="nearest_images", limit=size.sweep_limit)


EXPERIMENTS = (
    Experiment(
        NAME,
        ABOUT[NAME],
        _plan,
        measures={
            "image AUROC": "image_auroc",
            "image AP": "image_ap",
            "F1": "f1",
            "pixel AUROC": "pixel_auroc",
            "pixel AP": "pixel_ap",
            "AUPRO": "aupro",
            "fit s": "fit_seconds",
        },
        paired=False,
        group="changed alone",
        protocol=OVERLAP,
    ),
)
