"""Decisions from unlabelled scores, and the ones a person makes."""

import numpy as np
import pytest

from blemish.calibration import at_contamination, at_threshold, check, decide
from blemish.machine.errors import RequestError

SCORES = np.concatenate([np.random.default_rng(0).normal(size=95), [9, 10, 11, 12, 13]]).astype(np.float32)


def test_the_default_finds_the_bad_ones_and_says_how_and_why() -> None:
    decision = decide(SCORES)
    assert decision.contamination == pytest.approx(0.05, abs=0.011)
    assert "median" in decision.rule
    assert "good" in decision.assumption


def test_the_share_above_a_chosen_threshold_is_the_contamination() -> None:
    assert at_threshold(SCORES, 9.5).contamination == pytest.approx(0.04)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.05, 0.4])
def test_a_chosen_contamination_flags_that_share(share: float) -> None:
    decision = at_contamination(SCORES, share)
    assert (decision.threshold < SCORES).sum() == round(share * 100)


@pytest.mark.parametrize(
    ("threshold", "contamination", "word"),
    [
        (1.0, 0.1, "exclude"),
        (float("nan"), None, "got nan"),
        (1e18, None, "between"),
        (None, 1.0, "less than 1"),
        (None, -0.1, "got -0.1"),
    ],
)
def test_what_cannot_be_meant_is_refused(threshold: float | None, contamination: float | None, word: str) -> None:
    with pytest.raises(RequestError, match=word):
        check(threshold, contamination)
