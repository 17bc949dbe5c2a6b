"""FUN-AD's tables: T1 to T7, and L1, its stated limit (spec/fun-ad.md, section 10)."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from blemish.benchmark.contamination import TEST_SHARE
from blemish.benchmark.datasets import Category
from blemish.benchmark.datasets.category import plain_name
from blemish.benchmark.experiment_names import ABOUT
from blemish.benchmark.experiments.experiment import Experiment, Planned, Size, defective, on_each
from blemish.benchmark.published import BANK_SHARES, FUNAD_STAR, MASK_LABELS, MEDS, TEXTURES, ablation
from blemish.detectors import detector_class

BASELINES = ("nearest_images", "patchcore", "softpatch", "simplenet", "inreach")
SYNTHETIC = {"synthetic": 0.05}  # FUN-AD*: images with a synthetic defect, as a share of the folder
ALONE = {"distance_weight": 0.0}  # the network by itself, as published
RATIOS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
SNAPSHOTS = {"snapshots": 5}  # that the oracle may choose from, but for the full form
LIMIT_RATIOS = (0.05, 0.1, 0.2, 0.4, 0.8)
TAU_NORMAL, TAU_CONFIDENT = (0.3, 0.4, 0.5, 0.6, 0.7), (0.7, 0.8, 0.9, 1.0)
LAMBDAS = (0.0, 0.5, 1.0, 2.5, 5.0)
SHARES = (0.25, 0.5, 0.75, 1.0)


def per_cent(ratio: float) -> str:
    """A ratio as tables print it."""
    return f"{100 * ratio:g} %"


def _main(categories: Sequence[Category], size: Size) -> list[Planned]:
    cells: dict[str, Mapping[str, Any]] = {
        "funad": {"settings": {} if size.name == "full" else SNAPSHOTS, "extra": {"choices": True}},
        "funad*": {"settings": SYNTHETIC},
        **{name: {"detector": name} for name in BASELINES},
    }
    if size.name == "full":
        cells["funad, paper"] = {"preset": "paper", "extra": {"choices": True}}
    listed = [(variant, "", {"detector": "funad", **own}) for variant, own in cells.items()]
    return [
        each
        for category in defective(categories, size.categories)
        # 1:10 needs nearly all of VisA's anomalies
        for share in [0.0 if category.dataset == "visa" else TEST_SHARE]
        for each in on_each([category], size, listed, limit=size.limit, test_share=share)
    ]


def _ratios(categories: Sequence[Category], size: Size) -> list[Planned]:
    detectors: dict[str, tuple[str, Mapping[str, Any]]] = {
        "funad": ("funad", {}),
        "funad*": ("funad", SYNTHETIC),
        "nearest_images": ("nearest_images", {}),
        "patchcore": ("patchcore", {}),
        "softpatch": ("softpatch", {}),
    }
    cells = [
        (variant, per_cent(ratio), {"detector": name, "settings": settings, "ratio": ratio})
        for ratio in size.swept(RATIOS, 0.1)
        for variant, (name, settings) in detectors.items()
    ]
    return [
        replace(each, kind="textures" if plain_name(category.name) in TEXTURES else "objects")
        for category in defective(categories, size.ablated)
        for each in on_each([category], size, cells, limit=size.sweep_limit)
    ]


Variants = Mapping[str, Mapping[str, Any]]


def _sweep(size: Size, name: str, setting: str, values: Sequence[float]) -> Variants:
    """The values of a setting that are run, as variants with the given name."""
    return {
        f"{name} {value:g}": {setting: value}
        for value in size.swept(values, detector_class("funad")().settings()[setting])
    }


def _ablation(variants_of: Callable[[Size], Variants]) -> Any:
    """A plan that runs FUN-AD* alone at 10 % with each of the settings."""

    def plan(categories: Sequence[Category], size: Size) -> list[Planned]:
        variants = variants_of(size)
        usual = detector_class("funad")().settings()
        asked = {name: {**ALONE, **SYNTHETIC, **settings} for name, settings in variants.items()}
        # Without those that change nothing: so the usual settings are one run in all tables.
        changed = {name: {n: v for n, v in given.items() if usual[n] != v} for name, given in asked.items()}
        cells = [(variant, "", {"settings": changed[variant]}) for variant in variants]
        return on_each(defective(categories, size.ablated), size, cells, detector="funad", limit=size.sweep_limit)

    return plan


def _one_kind(categories: Sequence[Category], size: Size) -> list[Planned]:
    """One kind of defect, the most frequent, at a rising ratio, beside all kinds at the same ratio."""
    entries: list[Planned] = []
    for category in defective(categories, size.ablated):
        kind = Counter(sample.defect for sample in category.anomalies).most_common(1)[0][0]
        for ratio in size.swept(LIMIT_RATIOS, 0.1):
            cells = [
                (f"{name}, {said}", per_cent(ratio), {"detector": name, "defects": defects})
                for name in ("funad", "nearest_images")
                for defects, said in (((kind,), "one kind"), (None, "all kinds"))
            ]
            found = on_each([category], size, cells, ratio=ratio, limit=size.sweep_limit)
            entries += [replace(each, row=f"{category.name} ({kind})") for each in found]
    return entries


NO_SMOOTHNESS, NO_NOISE = {"smoothness": 0.0}, {"noise": "none"}
PARTS: Variants = {
    "whole": {},
    "no smoothness": NO_SMOOTHNESS,
    "no augmentation": NO_NOISE,
    "neither": {**NO_SMOOTHNESS, **NO_NOISE},
}


def _parts(size: Size) -> Variants:
    return {name: PARTS[name] for name in size.some(list(PARTS))}


def _taus(size: Size) -> Variants:
    of_normal = _sweep(size, "tau_n", "tau_normal", TAU_NORMAL)
    return {**of_normal, **_sweep(size, "tau_c", "tau_confident", TAU_CONFIDENT)}


EXPERIMENTS = (
    Experiment(
        "T1",
        ABOUT["T1"],
        _main,
        published=ablation({"funad*": FUNAD_STAR}),
    ),
    Experiment(
        "T2",
        ABOUT["T2"],
        _ratios,
        group="ratio",
        published={"mvtec": MEDS},
    ),
    Experiment(
        "T3",
        ABOUT["T3"],
        _ablation(_parts),
        published=ablation({"whole": FUNAD_STAR}),
    ),
    Experiment("T4", ABOUT["T4"], _ablation(_taus)),
    Experiment(
        "T5",
        ABOUT["T5"],
        _ablation(lambda size: _sweep(size, "lambda", "smoothness", LAMBDAS)),
        published=ablation({"lambda 2.5": FUNAD_STAR}),
    ),
    Experiment(
        "T6",
        ABOUT["T6"],
        _ablation(lambda size: _sweep(size, "share", "bank_share", SHARES)),
        published=ablation({f"share {share}": pair for share, pair in BANK_SHARES.items()}),
    ),
    Experiment(
        "T7",
        ABOUT["T7"],
        _ablation(
            lambda _: {"pseudo-labels": {"synthetic_labels": "pseudo"}, "mask labels": {"synthetic_labels": "mask"}}
        ),
        published=ablation({"pseudo-labels": FUNAD_STAR, "mask labels": MASK_LABELS}),
    ),
    Experiment("L1", ABOUT["L1"], _one_kind, group="ratio"),
)
