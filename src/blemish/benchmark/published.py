"""Figures that papers print, in per cent, to stand beside ours; and how our data differ from theirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.benchmark.contamination import NO_OVERLAP, OVERLAP
from blemish.benchmark.datasets import Category
from blemish.benchmark.datasets.category import plain_name


@dataclass(frozen=True)
class Published:
    """Figures in per cent by (variant, group, protocol): image AUROC, and pixel AUROC or None."""

    source: str
    figures: Mapping[tuple[str, str, str], tuple[float, float | None]]


LEVELS = ("0 %", "10 %", "20 %", "40 %")


def _at_levels(
    protocol: str, by_variant: Mapping[str, Sequence[float]]
) -> dict[tuple[str, str, str], tuple[float, None]]:
    return {
        (variant, level, protocol): (figure, None)
        for variant, figures in by_variant.items()
        for level, figure in zip(LEVELS, figures, strict=True)
    }


# AUPRO and pixel AP of both tables stand in spec/protocols.md and spec/llbnad.md.
MEDS = Published(
    "MeDS (arXiv 2605.26676), MVTec AD, image AUROC",
    _at_levels(
        OVERLAP,
        {
            "softpatch": (98.80, 98.10, 96.89, 93.58),
            "inreach": (92.00, 87.41, 78.80, 73.57),
            "funad": (81.89, 95.49, 96.06, 97.70),
            "dinomaly": (99.64, 95.19, 92.16, 87.38),
        },
    ),
)
FUIAD = Published(
    "LLBNAD (arXiv 2508.07441), Real-IAD FUIAD, image AUROC",
    _at_levels(NO_OVERLAP, {
        "padim": (84.6, 81.9, 80.1, 77.0),
        "patchcore": (91.3, 90.4, 89.5, 88.1),
        "softpatch": (91.4, 90.9, 90.5, 89.3),
        "simplenet": (89.8, 83.3, 79.6, 74.7),
        "dinomaly, purified": (93.4, 91.5, 89.8, 87.0),
    }),
)  # fmt: skip

ABLATIONS = "FUN-AD (arXiv 2411.16110), mean of MVTec AD, 10 %, DINO ViT-B/8, epoch chosen on the test set"
FUNAD_STAR = (98.95, 98.55)
BANK_SHARES = {"0.25": (98.83, 98.66), "0.5": FUNAD_STAR, "0.75": (99.11, 98.51), "1": (98.84, 98.53)}
MASK_LABELS = (97.83, 97.51)


def ablation(figures: Mapping[str, tuple[float, float]]) -> dict[str, Published]:
    """Figures of FUN-AD's ablations, for No overlap: the paper does not say which protocol they are of."""
    return {"mvtec": Published(ABLATIONS, {(variant, "", NO_OVERLAP): pair for variant, pair in figures.items()})}


# MVTec AD as published: images (train, test normal, test anomalous) by category, PNG, 700 to 1024 pixels.
MVTEC = {
    "bottle": (209, 20, 63), "cable": (224, 58, 92), "capsule": (219, 23, 109), "carpet": (280, 28, 89),
    "grid": (264, 21, 57), "hazelnut": (391, 40, 70), "leather": (245, 32, 92), "metal_nut": (220, 22, 93),
    "pill": (267, 26, 141), "screw": (320, 41, 119), "tile": (230, 33, 84), "toothbrush": (60, 12, 30),
    "transistor": (213, 60, 40), "wood": (247, 19, 60), "zipper": (240, 32, 119),
}  # fmt: skip
TEXTURES = frozenset({"carpet", "grid", "leather", "tile", "wood", "magnetic_tile"})


# One class against the nine others: images (train, test normal, test anomalous) of each class.
CLASSES = {"cifar10": (5000, 1000, 9000), "stl10": (500, 800, 7200)}


def differences(categories: Sequence[Category]) -> str:
    """How the data differ from the data of the papers, a plain sentence; "" if they do not, or are of no paper here."""
    said = _of_mvtec([each for each in categories if each.dataset == "mvtec"])
    for name, counts in CLASSES.items():
        other = {_counts(each) for each in categories if each.dataset == name} - {counts}
        if other:
            ours, theirs = (" / ".join(map(str, each)) for each in (min(other), counts))
            said.append(f"{name} has {ours} training, normal and anomalous test images a class, not {theirs}")
    return (
        f"The data differ from the paper's: {'; '.join(said)}. Figures are not comparable to the last digit."
        if said
        else ""
    )


def _of_mvtec(ours: Sequence[Category]) -> list[str]:
    """How these categories differ from MVTec AD as published."""
    if not ours:
        return []
    known = [each for each in ours if plain_name(each.name) in MVTEC]
    other = [each.name for each in ours if each not in known]
    said = []
    if 0 < len(known) < len(MVTEC):
        names = ", ".join(plain_name(each.name) for each in known)
        said.append(f"they hold {len(known)} of the {len(MVTEC)} categories of MVTec AD ({names})")
    if other:
        said.append(f"{', '.join(other)} {'is' if len(other) == 1 else 'are'} not part of MVTec AD")
    counts = [each for each in known if _counts(each) != MVTEC[plain_name(each.name)]]
    if counts:
        said.append(f"{len(counts)} categories have other numbers of images")
    if any(_is_jpeg(each) for each in known):
        said.append("the images are JPEG copies, not the published PNGs")
    return said


def _counts(category: Category) -> tuple[int, int, int]:
    return len(category.train), len(category.normals), len(category.anomalies)


def _is_jpeg(category: Category) -> bool:
    source = category.train[0].source if category.train else None
    return isinstance(source, Path) and source.suffix.lower() in (".jpg", ".jpeg")
