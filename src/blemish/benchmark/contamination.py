"""Draw a contaminated training set by seed; see `manifest` for what comes of it."""

from collections.abc import Sequence

import numpy as np

from blemish.benchmark.datasets import Category, Sample
from blemish.benchmark.manifest import (
    MODES,
    NO_OVERLAP,
    OVERLAP,
    Manifest,
    TrainingImage,
    in_order,
    part_of,
    ratio_of,
    read_manifest,
)
from blemish.images import ANOMALOUS, NORMAL
from blemish.machine.errors import RequestError

POLICIES = ("shrink", "cap", "resample")
TEST_SHARE = 0.4  # of the anomalies, kept out of the training images for the test without overlap
ROTATION, SHIFT = 3.0, 0.03  # degrees and share of the side: SoftPatch's way of making more anomalies

__all__ = ["MODES", "NO_OVERLAP", "OVERLAP", "POLICIES", "TrainingImage", "Manifest", "contaminate", "read_manifest"]


def contaminate(
    category: Category,
    ratio: float,
    *,
    seed: int = 0,
    policy: str = "shrink",
    test_share: float = TEST_SHARE,
    defects: Sequence[str] | None = None,
) -> Manifest:
    """Choose training images: all normal ones and `ratio` times as many anomalies drawn from the test set.

    Both are taken from the front of one seeded order, so that a lower ratio injects a subset of what a higher one
    does. `test_share` of the anomalies (rounded up) are never injected, nor other views of their parts. A split that
    ships contaminated is taken as it is, with a `ratio` of 0.

    Parameters
    ----------
    policy : if fewer anomalies can be injected than asked for: `shrink` drops normal images until the ratio holds,
        `cap` injects all there are, `resample` adds copies turned by up to 3 degrees and shifted by up to 3 %.
    defects : draw from these kinds only.

    Raises
    ------
    RequestError : for a wrong argument, without normal training images, or with nothing to inject.
    """
    _check(category, ratio, seed, policy, test_share, defects)
    rng_anomalies, rng_normals, rng_copies = (np.random.default_rng([seed, stream]) for stream in range(3))
    pool = _injectable(
        [s for s in category.anomalies if defects is None or s.defect in defects], test_share, rng_anomalies
    )
    normals = [category.train[i] for i in rng_normals.permutation(len(category.train))]
    wanted = round(ratio * len(normals))
    if wanted and not pool:
        raise RequestError(
            f"{category} has no anomaly to inject: {len(category.anomalies)} test anomalies, of which a share of "
            f"{test_share:g} is kept for the test; bring more of them, or use a ratio of 0."
        )
    copies: list[TrainingImage] = []
    if wanted > len(pool) and policy == "shrink":
        normals = normals[: round(len(pool) / ratio)]
        if not normals:
            raise RequestError(
                f"{category} cannot reach a ratio of {ratio:g}: {len(pool)} anomalies can be injected, and no normal "
                f"image would be left beside them; take a ratio below {2 * len(pool)}."
            )
    elif wanted > len(pool) and policy == "resample":
        copies = [_copy(pool[i % len(pool)], 1 + i // len(pool), rng_copies) for i in range(wanted - len(pool))]
    injected = [TrainingImage(each.path, anomalous=True, defect=each.defect) for each in pool[:wanted]] + copies
    training = [TrainingImage(each.path, each.label == ANOMALOUS, each.defect) for each in normals] + injected
    return Manifest(
        category.dataset,
        category.name,
        ratio,
        ratio_of(training),
        seed,
        policy,
        test_share,
        tuple(sorted(training, key=in_order)),
        tuple(defects) if defects is not None else None,
    )


def _injectable(anomalies: list[Sample], test_share: float, rng: np.random.Generator) -> list[Sample]:
    """Anomalies in random order, views of a part together, less those kept for the test."""
    parts: dict[str, list[Sample]] = {}
    for each in anomalies:
        parts.setdefault(part_of(each), []).append(each)
    ordered = [parts[name] for name in (list(parts)[i] for i in rng.permutation(len(parts)))]
    room = len(anomalies) - int(np.ceil(test_share * len(anomalies)))
    pool: list[Sample] = []
    for views in ordered:
        if len(pool) + len(views) > room:
            break
        pool += views
    return pool


def _check(
    category: Category, ratio: float, seed: int, policy: str, test_share: float, defects: Sequence[str] | None
) -> None:
    if not 0 <= ratio < float("inf"):
        raise RequestError(f"The ratio must be 0 or more, anomalies / normal images; got {ratio:g}.")
    if policy not in POLICIES:
        raise RequestError(f"The policy must be one of {', '.join(POLICIES)}; got '{policy}'.")
    if not 0 <= test_share < 1:
        raise RequestError(f"The test share must be at least 0 and below 1; got {test_share:g}.")
    if seed < 0:
        raise RequestError(f"The seed must be 0 or more; got {seed}.")
    normal = sum(each.label == NORMAL for each in category.train)
    if not normal:
        raise RequestError(f"{category} has no normal training images; nothing can be trained on it.")
    if ratio and normal < len(category.train):
        raise RequestError(
            f"{category} ships contaminated, at a ratio of {len(category.train) / normal - 1:.3g}; use a ratio of 0 to "
            "take it as it is."
        )
    kinds = {each.defect for each in category.anomalies}
    if unknown := sorted(set(defects or ()) - kinds):
        raise RequestError(f"{category} has no defect '{unknown[0]}'; it has {', '.join(sorted(kinds))}.")


def _copy(sample: Sample, number: int, rng: np.random.Generator) -> TrainingImage:
    rotation, across, down = rng.uniform(-1, 1, 3) * (ROTATION, SHIFT, SHIFT)
    # Rounded, so that what the file holds is what was done.
    return TrainingImage(
        sample.path,
        anomalous=True,
        defect=sample.defect,
        copy=number,
        rotation=round(float(rotation), 4),
        shift_x=round(float(across), 6),
        shift_y=round(float(down), 6),
    )
