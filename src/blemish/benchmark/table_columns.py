"""Tables with a column a measure: those of an experiment, what decisions are worth, what runs cost."""

from collections.abc import Sequence
from math import isnan

from blemish.benchmark.experiments.experiment import Experiment
from blemish.benchmark.table_entries import Entry, line, mean_of, over_seeds
from blemish.benchmark.table_pairs import MEAN

DECISIONS = {"F1": "f1", "F1 / best F1": "f1_share", "precision": "precision", "recall": "recall"}
COST_NAMES = {"fit s": "fit_seconds", "images/s": "images_per_second", "peak MiB": "peak_mib"}


def measures(experiment: Experiment, entries: Sequence[Entry]) -> str:
    """A row for each category, variant and group, and for the categories' mean; a column for each measure."""
    grouped = any(entry.group for entry in entries)
    named: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        key = (entry.planned.label, entry.variant, *((entry.group,) if grouped else ()))
        named.setdefault(key, []).append(entry)
    heads = ["category", "variant", *((experiment.group,) if grouped else ())]
    lines = [line([*heads, *experiment.measures]), "|" + " --- |" * (len(heads) + len(experiment.measures))]
    for key in list(named):
        alike = [e for other, each in named.items() if other[1:] == key[1:] for e in each]
        if len({e.planned.label for e in alike}) > 1:
            named[MEAN, *key[1:]] = alike
    for key, each in named.items():
        values = [over_seeds(each, measure) for measure in experiment.measures.values()]
        lines.append(line([*key, *("-" if value is None else f"{value[0]:.4g}" for value in values)]))
    return "\n".join(lines)


def decisions(experiment: Experiment, entries: Sequence[Entry]) -> list[str]:
    """What the label-free threshold is worth, and the contamination it estimates, for each value of what is swept."""
    kept = [entry for entry in entries if entry.value("f1") is not None]
    if not kept:
        return []
    swept = experiment.paired and len({entry.group for entry in kept}) > 1
    heads = [*([experiment.group] if swept else []), "variant", *DECISIONS, "estimate", "truth"]
    lines = [line(heads), "|" + " --- |" * len(heads)]
    named: dict[tuple[str, ...], list[Entry]] = {}
    for entry in kept:
        named.setdefault((entry.group, entry.variant) if swept else (entry.variant,), []).append(entry)
    for names, each in named.items():
        shares = [mean_of(each, measure) for measure in DECISIONS.values()]
        rest = [mean_of(each, "estimate"), mean_of(each, "contamination")]
        lines.append(line([*names, *(f"{value:.3f}" for value in (*shares, *rest))]))
    about = "At the threshold that was read from unlabelled training scores; mean over categories, seeds and protocols."
    return ["## Decisions", about, "\n".join(lines)]


def costs(entries: Sequence[Entry]) -> list[str]:
    """Seconds, images a second and memory of each variant."""
    kept = [entry for entry in entries if entry.value("fit_seconds") is not None]
    if not kept:
        return []
    lines = [line(["variant", *COST_NAMES]), "|" + " --- |" * (len(COST_NAMES) + 1)]
    by_variant: dict[str, list[Entry]] = {}
    for entry in kept:
        by_variant.setdefault(entry.variant, []).append(entry)
    for variant, each in by_variant.items():
        lines.append(line([variant, *(_short(mean_of(each, measure)) for measure in COST_NAMES.values())]))
    return ["## Cost", "Mean over all rows; features apart.", "\n".join(lines)]


def _short(value: float) -> str:
    return "-" if isnan(value) else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
