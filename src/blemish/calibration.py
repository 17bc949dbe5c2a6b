"""How many images are bad, and above which score: decided from unlabelled scores alone."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.cuts import adaptive_mad
from blemish.errors import RequestError

LARGEST = 1e6  # scores are deviations; nothing real comes near


@dataclass(frozen=True)
class Decision:
    """Where the line is drawn and what it assumes.

    Attributes
    ----------
    threshold : images with a higher score are flagged.
    contamination : estimated share of bad images among those learned from, 0..1.
    rule : how the threshold was found, one sentence.
    assumption : what has to be true for it to be right, one sentence.
    """

    threshold: float
    contamination: float
    rule: str
    assumption: str

    def to_json(self) -> dict[str, Any]:
        """As it stands in `config.json`."""
        return asdict(self)


def check(threshold: float | None, contamination: float | None) -> None:
    """Refuse what a person cannot mean. Raises `RequestError`."""
    if threshold is not None and contamination is not None:
        raise RequestError("--threshold and --contamination exclude each other; give one.")
    if threshold is not None and not abs(threshold) <= LARGEST:
        raise RequestError(f"--threshold must be a number between -{LARGEST:.0e} and {LARGEST:.0e}; got {threshold}.")
    if contamination is not None and not 0 <= contamination < 1:
        raise RequestError(f"--contamination is a share of the images, 0 up to less than 1; got {contamination}.")


def decide(scores: NDArray[np.float32]) -> Decision:
    """The default rule on the training scores (N,) of an unlabelled pile: `cuts.adaptive_mad`."""
    threshold, k = adaptive_mad(scores)
    rule = (
        f"The threshold is the median score plus {k:.2f} scaled median absolute deviations, a number between 2 and 4 "
    )
    rule += "that depends on how far the highest scores stand out."
    assumption = (
        "Most images are good, their scores spread about evenly around the median, and bad images score higher."
    )
    return Decision(threshold, float((scores > threshold).mean()), rule, assumption)


def at_threshold(scores: NDArray[np.float32], threshold: float) -> Decision:
    """A threshold a person chose, and the contamination that it implies."""
    share = float((scores > threshold).mean())
    return Decision(float(threshold), share, "The threshold was set by hand.", "You know where your line lies.")


def at_contamination(scores: NDArray[np.float32], contamination: float) -> Decision:
    """The threshold that flags a share of the training images that a person expects to be bad."""
    ordered = np.sort(scores)
    kept = len(ordered) - round(contamination * len(ordered))
    threshold = float(ordered[-1]) if kept >= len(ordered) else float((ordered[kept - 1] + ordered[kept]) / 2)
    rule = f"The threshold flags the share of images said to be bad, {contamination:.1%}."
    return Decision(threshold, contamination, rule, "That share is right, and the bad images score highest.")
