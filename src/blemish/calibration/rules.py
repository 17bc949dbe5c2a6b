"""The rules that find a threshold in unlabelled scores, by name."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.tail import FEWEST, low_tail
from blemish.machine.errors import RequestError
from blemish.scores.cuts import adaptive_mad, median_and_deviation, median_mad, mixture

K = 3.0  # deviations of the rule "mad"
FALSE_ALARMS = 0.01  # of the rule "tail" where no target is given
BETTER = 10.0  # by how much the Bayesian information criterion must prefer two kinds of images to one
PYTHRESH = "pythresh:"
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Cut:
    """What a rule says of scores: a threshold, or why there is none.

    Attributes
    ----------
    threshold : None where the scores support none.
    how : the sentence on how it was found, or on why there is none.
    contamination : the rule's own estimate, 0..1; None for the share above the threshold.
    """

    threshold: float | None
    how: str
    contamination: float | None = None


@dataclass(frozen=True)
class Rule:
    """A way from scores (N,) to a `Cut`, and the sentence on what it assumes."""

    name: str
    assumption: str
    cut: Callable[[Array], Cut]


def rule_called(name: str, false_alarms: float | None = None) -> Rule:
    """The rule of a name, "pythresh:NAME" among them. Raises `RequestError`, with near names.

    `false_alarms`, a share of the good images, is what the rule "tail" aims at.
    """
    if name.startswith(PYTHRESH):
        return _of_pythresh(name)
    if name == "tail":
        target = FALSE_ALARMS if false_alarms is None else false_alarms
        return Rule("tail", TAIL_ASSUMES, lambda scores: _tail(scores, target))
    if name not in RULES:
        near = get_close_matches(name, [*RULES, "tail"], n=2) or [*RULES, "tail"]
        raise RequestError(f"There is no rule '{name}'; did you mean {' or '.join(near)}? pythresh:NAME works, too.")
    return RULES[name]


def _adaptive(scores: Array) -> Cut:
    threshold, k = adaptive_mad(scores)
    return Cut(
        threshold,
        f"The threshold is the median score plus {k:.2f} scaled median absolute deviations, a number between 2 and 4 "
        "that depends on how far the highest scores stand out.",
    )


def _mad(scores: Array) -> Cut:
    how = f"The threshold is the median score plus {K:g} scaled median absolute deviations."
    return Cut(median_mad(scores, K), how)


def _mixture(scores: Array) -> Cut:
    """Two Gaussians on the log of the scores, if they explain them clearly better than one."""
    from sklearn.mixture import GaussianMixture

    middle, deviation = median_and_deviation(scores)
    shift = float(np.min(scores)) - max(deviation, 1e-9)
    logs = np.log(np.asarray(scores, dtype=np.float64) - shift)
    one, two = (GaussianMixture(k, random_state=0).fit(logs[:, None]).bic(logs[:, None]) for k in (1, 2))
    if one - two < BETTER:
        return Cut(None, "The scores look like one kind of image: two kinds do not explain them better.")
    threshold = float(np.exp(mixture(logs)) + shift)
    if threshold <= middle:
        return Cut(None, "Two kinds of scores were found, but the higher one holds more than half of the images.")
    return Cut(threshold, "The threshold is where the higher of two kinds of scores becomes the likelier one.")


TAIL_ASSUMES = (
    "The lowest 70 % of the scores are nearly all good images, and the scores of good images follow the law of a "
    "maximum of many (Gumbel)."
)


def _tail(scores: Array, false_alarms: float) -> Cut:
    tail = low_tail(scores)
    if tail is None:
        return Cut(None, "The low part of the scores does not look like that of good images.")
    how = (
        f"The threshold is the score that {false_alarms:.2g} of the good images are expected to exceed, from the tail "
        "of the low part of the scores."
    )
    return Cut(tail.threshold(false_alarms), how, max(0.0, 1 - tail.good / len(scores)))


def _of_pythresh(name: str) -> Rule:
    kind = name.removeprefix(PYTHRESH).upper()
    try:
        from importlib import import_module

        made = getattr(import_module(f"pythresh.thresholds.{kind.lower()}"), kind)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("pythresh.thresholds"):
            raise RequestError(f"PyThresh has no rule '{kind}'; its documentation lists them.") from None
        raise RequestError(f"The rule '{name}' needs PyThresh: pip install 'blemish[pythresh]'.") from None
    except AttributeError:
        raise RequestError(f"PyThresh has no rule '{kind}'; its documentation lists them.") from None

    def cut(scores: Array) -> Cut:
        ordered = np.sort(np.asarray(scores, dtype=np.float64))  # some of its rules look at the order
        with warnings.catch_warnings():  # about its own scaling; what matters is whether there is a threshold
            warnings.simplefilter("ignore")
            flags = np.asarray(made().eval(ordered)) > 0
        at = int(np.argmax(flags))  # the lowest one that is flagged
        if not flags.any() or at == 0:
            return Cut(None, f"The rule {kind} of PyThresh flags {'all' if flags.any() else 'none'} of these scores.")
        return Cut(
            float(ordered[at - 1 : at + 1].mean()), f"The threshold is what the rule {kind} of PyThresh cuts at."
        )

    return Rule(name, f"What the rule {kind} of PyThresh assumes; see its documentation.", cut)


EVEN = "Most images are good, their scores spread about evenly around the median, and bad images score higher."
RULES = {
    "adaptive": Rule("adaptive", EVEN, _adaptive),
    "mad": Rule("mad", EVEN, _mad),
    "mixture": Rule(
        "mixture", "Good and bad images each have scores whose logarithm is Gaussian, and more are good.", _mixture
    ),
}
DEFAULT_RULE = "adaptive"  # benchmarks/threshold.md
NAMES = (*RULES, "tail")

__all__ = ["DEFAULT_RULE", "FEWEST", "NAMES", "Cut", "Rule", "rule_called"]
