"""From unlabelled scores, and labels where there are some, to a `Decision` and how sure it is."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from blemish.calibration.anchoring import Labels, best_expected, boundary, known_chance
from blemish.calibration.decision import Decision, Interval
from blemish.calibration.rules import DEFAULT_RULE, PYTHRESH, Cut, Rule, rule_called
from blemish.images import ANOMALOUS, NORMAL, UNKNOWN
from blemish.machine.errors import RequestError
from blemish.scores.cuts import LONE, median_and_deviation

RESAMPLES = {"mixture": 40, "tail": 100, PYTHRESH: 20}  # they take longer
MOST_RESAMPLES = 200
COVERED = (5.0, 95.0)  # percentiles
FEWEST = 8  # different scores
UNRELIABLE = 0.5  # share of the bootstrap samples that may find no threshold
Array = NDArray[np.floating]


def decide(
    scores: Array,
    *,
    rule: str | None = None,
    false_alarms: float | None = None,
    labels: Labels | None = None,
    interval: bool = True,
) -> Decision:
    """Draw the line on the training scores (N,) of an unlabelled pile.

    Parameters
    ----------
    rule : a name of `rules.NAMES` or "pythresh:NAME"; the default of `rules` if none is given.
    false_alarms : the share of the good images that may be flagged; needs the rule "tail", its default then.
    labels : (N,) `NORMAL` or `ANOMALOUS` where a person reviewed an image, else `UNKNOWN`: they move the line.
    interval : whether the bootstrap is run.

    Raises `RequestError` for a rule there is not.
    """
    if false_alarms is not None and rule not in (None, "tail"):
        raise RequestError(
            f"`false_alarms` is an aim of the rule 'tail'; got the rule '{rule}'. Leave one of them out."
        )
    chosen = rule_called(rule or ("tail" if false_alarms is not None else DEFAULT_RULE), false_alarms)
    known = np.full(len(scores), UNKNOWN) if labels is None else np.asarray(labels)
    # An aim for false alarms is the person's own: what was reviewed does not move such a line.
    reviewed = int(np.isin(known, (NORMAL, ANOMALOUS)).sum()) if false_alarms is None else 0
    enough = len(np.unique(scores)) >= FEWEST
    few = Cut(None, f"There are fewer than {FEWEST} different scores.")
    found = _cut(chosen, scores, known, bool(reviewed)) if enough else few
    samples = _resampled(chosen, scores, known, bool(reviewed)) if interval and found.threshold is not None else []
    sound = [each for each in samples if each.threshold is not None]
    if len(sound) < UNRELIABLE * len(samples):
        found = Cut(None, "Drawn again from these scores, most samples have no threshold.")
    assumption = chosen.assumption
    if found.threshold is None:
        return _unsupported(chosen, scores, found.how)
    if reviewed:
        assumption += f" The {reviewed} reviewed images are like the others of their scores."
    share = float((scores > found.threshold).mean())
    return Decision(
        found.threshold,
        share if found.contamination is None else found.contamination,
        found.how,
        assumption,
        name=chosen.name,
        threshold_interval=_interval([each.threshold for each in sound if each.threshold is not None]),
        contamination_interval=_interval([each.contamination for each in sound if each.contamination is not None]),
        reviewed=reviewed,
    )


def for_listed(decision: Decision, listed: int, total: int) -> Decision:
    """The decision with the contamination of the `listed` images alone, of `total` with known normals beside them."""
    factor = total / max(listed, 1)
    interval = decision.contamination_interval
    return replace(
        decision,
        contamination=min(1.0, decision.contamination * factor),
        contamination_interval=interval and (min(1.0, interval[0] * factor), min(1.0, interval[1] * factor)),
    )


def _cut(rule: Rule, scores: Array, labels: Labels, anchor: bool) -> Cut:
    found = rule.cut(scores)
    if anchor:
        return _anchored(found, scores, labels)
    if found.threshold is not None and float((scores > found.threshold).mean()) > 0.5:
        return Cut(None, "More than half of the images would be flagged, which no rule without labels can tell apart.")
    return found


def _anchored(found: Cut, scores: Array, labels: Labels) -> Cut:
    middle, deviation = median_and_deviation(scores)
    deviation = deviation or float(np.std(scores))
    line = middle + LONE * deviation if found.threshold is None else found.threshold
    chance = known_chance(boundary(scores, labels, line, deviation, deviation).probability(scores), labels)
    threshold = best_expected(scores, chance)
    start = found.how if found.threshold is None else f"Without labels the threshold would be {line:.4g}."
    return Cut(
        threshold,
        f"The threshold is where the reviewed images lead one to expect the best balance of found and false. {start}",
        float(chance.mean()),
    )


def _unsupported(rule: Rule, scores: Array, why: str) -> Decision:
    told = f"No threshold is supported by these scores: {why[0].lower()}{why[1:]} Nothing is flagged."
    return Decision(float(np.max(scores)), 0.0, told, rule.assumption, supported=False, name=rule.name)


def _resampled(rule: Rule, scores: Array, labels: Labels, anchor: bool) -> list[Cut]:
    count = RESAMPLES.get(PYTHRESH if rule.name.startswith(PYTHRESH) else rule.name, MOST_RESAMPLES)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count // (4 if anchor else 1)):
        rows = rng.integers(0, len(scores), len(scores))
        cut = _cut(rule, scores[rows], labels[rows], anchor)
        if cut.threshold is not None and cut.contamination is None:
            cut = replace(cut, contamination=float((scores[rows] > cut.threshold).mean()))
        found.append(cut)
    return found


def _interval(values: list[float]) -> Interval | None:
    if not values:
        return None
    low, high = np.percentile(values, COVERED)
    return float(low), float(high)
