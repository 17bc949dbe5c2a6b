"""LLBNAD around any detector: which images of an unlabelled pile to learn from (spec/llbnad.md)."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.cuts import median_and_deviation
from blemish.detectors import Detector
from blemish.detectors.settings import check_names
from blemish.errors import RequestError
from blemish.images import ANOMALOUS, NORMAL, ImageSet
from blemish.purification.keeping import Choice, chosen
from blemish.purification.kept_scores import KEPT_SCORES, KeptScores
from blemish.purification.settings import PurifySettings
from blemish.purification.sub_models import SubModel, name_of, planned, score_all

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KEPT_SCORES", "Purification", "PurifySettings", "purify"]


@dataclass(frozen=True)
class Purification:
    """Which images to learn from, and why.

    Attributes
    ----------
    ids : the images.
    scores : (N,) float64, aggregated over the sub-models, higher is more anomalous.
    spread : (N,) float64, standard deviation between the sub-models.
    kept : (N,) bool.
    limit : the highest score that is kept; images known to be good are kept above it, too.
    rule : how the limit was found, one sentence.
    notes : sentences a person should read, such as what was done about a cut that kept too few.
    settings : of the purification, with the seed and the detector.
    skipped : files that could not be used, with the reason; a job fills it in.
    partial : what an interrupted purification would take up from, see `forget`.
    """

    ids: tuple[str, ...]
    scores: NDArray[np.float64]
    spread: NDArray[np.float64]
    kept: NDArray[np.bool_]
    limit: float
    rule: str
    notes: tuple[str, ...]
    settings: dict[str, Any]
    skipped: Mapping[str, str] = field(default_factory=dict)
    partial: KeptScores | None = None

    @property
    def kept_ids(self) -> tuple[str, ...]:
        """The images to learn from, in the order of `ids`."""
        return tuple(name for name, kept in zip(self.ids, self.kept, strict=True) if kept)

    @property
    def set_aside_ids(self) -> tuple[str, ...]:
        """The others, the highest score first."""
        return tuple(self.ids[row] for row in self._ranking() if not self.kept[row])

    def _ranking(self) -> list[int]:
        return sorted(range(len(self.ids)), key=lambda row: (-self.scores[row], self.ids[row]))

    def subset(self, ids: Iterable[str]) -> "Purification":
        """The same for `ids` only, in their order here."""
        wanted = set(ids)
        rows = [row for row, name in enumerate(self.ids) if name in wanted]
        arrays = {name: getattr(self, name)[rows] for name in ("scores", "spread", "kept")}
        return replace(self, ids=tuple(self.ids[row] for row in rows), **arrays)

    def forget(self) -> None:
        """Remove what was kept on disk to take up from: the result is safe."""
        if self.partial is not None:
            self.partial.remove()

    def to_json(self) -> dict[str, Any]:
        """As it stands in `config.json`: settings and outcome."""
        outcome = {"images": len(self.ids), "kept": int(self.kept.sum()), "limit": self.limit, "rule": self.rule}
        return {**self.settings, **outcome, "notes": list(self.notes)}

    def to_frame(self) -> "pd.DataFrame":
        """A table `path,score,spread,kept` (kept is 0 or 1), the highest score first."""
        import pandas as pd

        order = self._ranking()
        columns = {"score": self.scores[order], "spread": self.spread[order], "kept": self.kept[order].astype(int)}
        return pd.DataFrame({"path": [self.ids[row] for row in order], **columns})

    def to_csv(self, path: Path) -> None:
        """Write `to_frame` as UTF-8 CSV."""
        self.to_frame().to_csv(path, index=False, encoding="utf-8", float_format="%.9g")


def purify(
    images: Any,
    detector: Any,
    settings: PurifySettings | None = None,
    *,
    seed: int = 0,
    sub_model: Any = None,
    resume: Path | None = None,
    **changes: Any,
) -> Purification:
    """Find out which images of an unlabelled pile a detector should learn from.

    The images are split into subsets at random; a sub-model learns from each and scores all images; what scores low
    on average is kept. Models learn the consistent, normal patterns first and answer unstably to rare ones, so an
    anomaly that few sub-models saw stands out (LLBNAD, arXiv 2508.07441). Everything is keyed by the images' ids.

    Parameters
    ----------
    images : an `ImageSet`, or whatever it can be made of.
    detector : any object with `fit(images)` and `score(images)`. It is handed `ImageSet`s; `score` returns
        `Scores`, a mapping from id to score, or numbers in the order of `images.ids`; higher is more anomalous. It
        is copied with `copy.deepcopy` and never fitted itself. A `Detector` is asked for its `budget()` and each
        sub-model gets a seed of its own. An attribute `runs_side_by_side = True` lets sub-models run in threads.
    settings, changes : how; `changes` are single settings by name, such as `subsets=4`.
    seed : of the splits and sub-models.
    sub_model : used in place of the detector's budget, such as the detector itself for full training.
    resume : a folder in which finished sub-models' scores are kept until `KeptScores.remove`.

    Raises
    ------
    RequestError : for wrong settings, or subsets too small for the detector.
    JobError : if a sub-model fails; the others' scores are kept.
    """
    check_names(PurifySettings.names(), changes)
    settings = replace(settings or PurifySettings(), **changes)
    if seed < 0:
        raise RequestError(f"The seed must be 0 or more; got {seed}.")
    for method in ("fit", "score"):
        if not callable(getattr(detector, method, None)):
            raise RequestError(f"A detector needs fit(images) and score(images); {name_of(detector)} has no {method}.")
    images = ImageSet.of(images).settled()
    if sub_model is None:
        sub_model = detector.budget() if isinstance(detector, Detector) else detector
    plan = planned(images, sub_model, settings, seed)
    kept = KeptScores.at(resume, images, sub_model, settings, seed) if resume else None
    matrix = score_all(images, plan, settings, kept)
    scores, spread = aggregated(matrix, _own(images, plan), settings)
    choice = _choose(images, scores, settings, detector)
    return Purification(
        images.ids,
        scores,
        spread,
        choice.kept,
        choice.limit,
        choice.rule,
        choice.notes,
        {**asdict(settings), "seed": seed, "detector": name_of(detector)},
        partial=kept,
    )


def aggregated(
    matrix: NDArray[np.float64], own: NDArray[np.bool_], settings: PurifySettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score and spread (N,) of the scores (M, N) by all sub-models; `own` (M, N) marks each one's own subset."""
    used = np.ones_like(own) if settings.own_subset == "include" else ~own
    if settings.scale == "deviations":
        matrix = np.stack([_in_deviations(row, ~mine) for row, mine in zip(matrix, own, strict=True)])
    counted = np.where(used, matrix, np.nan)
    spread = np.nanstd(counted, axis=0)
    if settings.aggregate == "mean":
        return np.nanmean(counted, axis=0), spread
    highest = np.nanmax(counted, axis=0)
    return (highest if settings.aggregate == "max" else (highest - np.nanmin(counted)) * spread**2), spread


def _in_deviations(scores: NDArray[np.float64], strange: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Scores (N,) in deviations from the median of the images that the sub-model did not learn from."""
    reference = scores[strange] if strange.any() else scores
    middle, deviation = median_and_deviation(reference)
    if deviation <= 1e-12 * max(1.0, abs(middle)):
        deviation = float(reference.std()) or 1.0
    return (scores - middle) / deviation


def _own(images: ImageSet, plan: list[SubModel]) -> NDArray[np.bool_]:
    return np.array([[name in each.subset for name in images.ids] for each in plan])


def _choose(images: ImageSet, scores: NDArray[np.float64], settings: PurifySettings, detector: Any) -> Choice:
    """Which images to keep; what a person said of an image overrules its score."""
    labels = np.array([images.labels.get(name, -1) for name in images.ids])
    least = int(getattr(detector, "min_images", 1))
    return chosen(scores, labels == NORMAL, labels == ANOMALOUS, settings, least)
