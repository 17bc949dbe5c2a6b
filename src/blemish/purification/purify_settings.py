"""How to purify: every choice of LLBNAD by name (spec/llbnad.md)."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from blemish.detectors import detector_class
from blemish.detectors.settings import check_least, check_numbers, check_words
from blemish.machine.errors import RequestError

Aggregate = Literal["mean", "max", "max_variance"]
OwnSubset = Literal["cross_fit", "include", "exclude"]
ImageScore = Literal["detector", "map"]
Scale = Literal["raw", "deviations"]
Cut = Literal["mad", "far_out", "mixture"]


@dataclass(frozen=True, kw_only=True)
class PurifySettings:
    """Settings of a purification; the defaults are for cleaning a folder.

    Where a tenth of the images is bad they set 93 % of those aside, where 40 % are bad 75 %, and up to a quarter of the
    good images with them (docs/methods/purify.md). `fit(purify=True)` is more cautious: it takes `cut="far_out"`.

    Attributes
    ----------
    by : name of the detector whose sub-models purify; empty for the detector that is purified for.
    subsets : parts the images are split into, one sub-model each, 3 as published; 1 trains one sub-model on all of
        them, which is no LLBNAD but what it is compared with.
    repeats : independent splits; their scores are averaged, as the scores of the sub-models are.
    aggregate : what is made of an image's scores: "mean" as published, "max", or "max_variance", the highest score
        above the lowest of all images, times the variance.
    own_subset : how the sub-model that learned from an image's own subset scores it: "include" as any other, as
        published; "exclude", not at all; or "cross_fit", with its own training score, for which it left the image and
        its group out, and not at all where a detector has none.
    image_score : the detector's own image score, or that of its map as published: the mean of the top 1 % after a
        Gaussian of sigma 4 at 224 pixels.
    scale : what a sub-model's scores are measured in: "raw" as published, or its "deviations" from the median of the
        images that it did not learn from.
    keep : share of the images to keep, the lowest-scored; None lets `cut` decide.
    cut : label-free rule: "mad" is the median plus `k` scaled median absolute deviations, "far_out" that plus 4 or 6,
        and "mixture" where the upper of two Gaussians becomes likelier.

    Examples
    --------
    >>> PurifySettings(subsets=3, keep=0.8).keep
    0.8
    """

    by: str = ""
    subsets: int = 2
    repeats: int = 1
    aggregate: Aggregate = "mean"
    own_subset: OwnSubset = "cross_fit"
    image_score: ImageScore = "detector"
    scale: Scale = "deviations"
    keep: float | None = None
    cut: Cut = "mad"
    k: float = 0.67  # of a Gaussian's standard deviations: three quarters of evenly spread scores are below

    def __post_init__(self) -> None:
        """Check what a person can get wrong. Raises `RequestError`."""
        if self.by:
            detector_class(self.by)
        check_numbers(self)
        check_words(self)
        check_least(self, subsets=1, repeats=1)
        if self.subsets == 1 and self.own_subset != "include":
            raise RequestError(
                "With one subset every image is in the sub-model's own; take 2 subsets or more, or set 'own_subset' to "
                "include."
            )
        if self.keep is not None and not 0 < self.keep <= 1:
            raise RequestError(
                f"'keep' is the share of the images to keep, above 0 up to 1; got {self.keep:g}, which leaves nothing "
                "to learn from."
                if self.keep == 0
                else f"'keep' is the share of the images to keep, above 0 up to 1; got {self.keep:g}."
            )
        if not 0 <= self.k <= 100:
            raise RequestError(f"'k' is a number of deviations, 0 to 100; got {self.k:g}.")

    def changed(self, **changes: Any) -> "PurifySettings":
        """With single settings changed. `k` is of the cut "mad", and chooses it where no other is named.

        Raises `RequestError` for a change without effect.
        """
        changed = replace(self, **({"cut": "mad"} if "k" in changes else {}) | changes)
        idle = ["cut", "k"] if changed.keep is not None else ["k"] if changed.cut != "mad" else []
        if unused := [name for name in idle if name in changes]:
            kept = "'keep' says how many images are kept"
            reason = kept if changed.keep is not None else f"the cut '{changed.cut}' has no 'k'"
            raise RequestError(f"'{unused[0]}' would change nothing: {reason}; leave one of them out.")
        return changed

    @classmethod
    def names(cls) -> set[str]:
        """All settings."""
        return {each.name for each in fields(cls)}


BEFORE_FIT = PurifySettings(cut="far_out")
"""What `fit(purify=True)` takes by default: only images with very high scores are set aside.

A good image that a detector never saw the like of is an anomaly to it, so a low cut makes a detector of a clean folder
worse than none would (benchmarks/purification.md, where this one does so least).
"""
