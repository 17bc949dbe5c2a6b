"""How a person wants the threshold found, and where it then lies."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish import calibration
from blemish.calibration import Decision
from blemish.images import UNKNOWN, ImageSet
from blemish.jobs.request import NORMALS_PREFIX
from blemish.machine.errors import RequestError
from blemish.scores import Scores


@dataclass(frozen=True)
class Line:
    """How a person wants the line drawn: by a rule, or a number in its place; see `fit`. Raises `RequestError`."""

    rule: str | None
    false_alarms: float | None
    threshold: float | None
    contamination: float | None

    def __post_init__(self) -> None:
        """Check them."""
        calibration.check(self.threshold, self.contamination, self.false_alarms)
        if self.rule is not None:
            calibration.rule_called(self.rule)
            if self.threshold is not None or self.contamination is not None:
                raise RequestError("--rule finds the threshold; leave out --threshold and --contamination.")

    def drawn(self, scores: Scores, listed: Scores, reviewed: NDArray[np.int64]) -> Decision:
        """The decision for the images `listed`, from the scores of all that were learned from and their labels (N,)."""
        if self.threshold is not None:
            return calibration.at_threshold(listed.image, self.threshold)
        if self.contamination is not None:
            return calibration.at_contamination(listed.image, self.contamination)
        found = calibration.decide(scores.image, rule=self.rule, false_alarms=self.false_alarms, labels=reviewed)
        return calibration.for_listed(found, len(listed), len(scores))


def labels_of(images: ImageSet, ids: tuple[str, ...]) -> NDArray[np.int64]:
    """The labels (N,) of the pile's own images: those from `normals` were not picked from its ranking."""
    found = [UNKNOWN if name.startswith(NORMALS_PREFIX) else images.labels.get(name, UNKNOWN) for name in ids]
    return np.array(found, dtype=np.int64)
