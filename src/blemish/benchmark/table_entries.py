"""A row of results.csv in its place in a table, and the means of many."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from blemish.benchmark.experiments.experiment import Planned


@dataclass(frozen=True)
class Entry:
    """A row of results.csv in its place in the table."""

    planned: Planned
    row: Mapping[str, str]

    @property
    def variant(self) -> str:
        """The column: what is compared, and for iterative detectors what chose the epoch."""
        choice = self.row.get("choice", "")
        return f"{self.planned.variant} ({choice})" if choice else self.planned.variant

    @property
    def group(self) -> str:
        """What is swept: planned, or a part of the run that has figures of its own."""
        return self.row.get("part", "") or self.planned.group

    def value(self, measure: str) -> float | None:
        """A measure, None where it is empty."""
        text = self.row.get(measure, "")
        return float(text) if text else None


def over_seeds(entries: Sequence[Entry], measure: str) -> tuple[float, float | None] | None:
    """Mean over seeds of the mean over categories, and the spread over seeds (standard deviation)."""
    by_seed: dict[str, list[float]] = {}
    for entry in entries:
        value = entry.value(measure)
        if value is not None:
            by_seed.setdefault(entry.row["seed"], []).append(value)
    means = [mean(values) for values in by_seed.values()]
    if not means:
        return None
    return mean(means), stdev(means) if len(means) > 1 else None


def mean_of(entries: Sequence[Entry], measure: str) -> float:
    """The mean of what is there of a measure; NaN where nothing is."""
    values = [value for value in (entry.value(measure) for entry in entries) if value is not None]
    return mean(values) if values else float("nan")


def line(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(cells) + " |"
