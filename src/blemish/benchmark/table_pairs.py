"""Tables of image / pixel pairs: best in bold, runner-up underlined, the published figure below."""

from collections.abc import Mapping, Sequence

from blemish.benchmark.datasets.category import plain_name
from blemish.benchmark.experiments.experiment import Experiment
from blemish.benchmark.published import MVTEC, Published
from blemish.benchmark.table_entries import Entry, line, over_seeds

TITLES = {"overlap": "Overlap", "no_overlap": "No overlap", "": ""}
MEANING = {
    "overlap": "Injected anomalies stay in the test set.",
    "no_overlap": "Injected anomalies leave the test set; the fit is the same.",
}
LACKING, LACKS = "\\*", "not of all runs that others have: some failed or are still to do."
MEAN, PUBLISHED, FUIAD_NAME = "mean", "published", "realiad_fuiad"


def pairs(experiment: Experiment, entries: Sequence[Entry], mode: str) -> list[str]:
    """The tables of one protocol: categories by variants; with groups, their mean and then each category."""
    groups = list(dict.fromkeys(entry.group for entry in entries))
    labels = list(dict.fromkeys(entry.planned.label for entry in entries))
    parts = [f"## {TITLES[mode]}\n\n{MEANING[mode]}" if mode else ""]
    if len(groups) <= 1:
        rows = {label: [e for e in entries if e.planned.label == label] for label in labels}
        parts.append(_table(experiment, "category", rows, entries, mode))
        return [*parts, reached(entries)]
    by_group = {group: [e for e in entries if e.group == group] for group in groups}
    parts += [
        "Mean over the categories." if len(labels) > 1 else f"Category {labels[0]}.",
        _table(experiment, experiment.group, by_group, (), mode),
    ]
    kinds = sorted({entry.planned.kind for entry in entries} - {""})
    for kind in kinds if len(kinds) > 1 else []:
        rows = {group: [e for e in each if e.planned.kind == kind] for group, each in by_group.items()}
        parts += [f"Mean over the {kind}.", _table(experiment, experiment.group, rows, (), "")]
    if len(labels) > 1:
        for label in labels:
            rows = {group: [e for e in each if e.planned.label == label] for group, each in by_group.items()}
            parts += [f"### {label}", _table(experiment, experiment.group, rows, (), "")]
    return [*parts, reached(entries)]


def _table(
    experiment: Experiment, head: str, rows: Mapping[str, Sequence[Entry]], together: Sequence[Entry], mode: str
) -> str:
    """Rows by variants, each cell a pair of means with their spread over seeds; `together` gives the mean row."""
    variants = list(dict.fromkeys(entry.variant for entries in rows.values() for entry in entries))
    pair = list(experiment.measures.values())
    lines = [line([head, *variants]), "|" + " --- |" * (len(variants) + 1)]
    with_mean = {**rows, **({MEAN: together} if together and len(rows) > 1 else {})}
    some_lack = False
    for name, entries in with_mean.items():
        by_variant = {v: [e for e in entries if e.variant == v] for v in variants}
        whole = _whole(by_variant)
        some_lack = some_lack or not all(whole)
        marked = [_marked([over_seeds(by_variant[v], measure) for v in variants], whole) for measure in pair]
        lines.append(line([name, *(" / ".join(cell) for cell in zip(*marked, strict=True))]))
        lines += _published_line(experiment, by_variant, mode, single=len(with_mean) == 1 or name == MEAN)
    return "\n".join(lines) + (f"\n\n{LACKING} {LACKS}" if some_lack else "")


def _whole(by_variant: Mapping[str, Sequence[Entry]]) -> list[bool]:
    """Whether each variant has a figure for every category and seed that another one has a figure for."""
    covered = [{(e.planned.label, e.row["seed"]) for e in entries} for entries in by_variant.values()]
    everything = set().union(*covered)
    return [not each or each == everything for each in covered]


def _published_line(
    experiment: Experiment, by_variant: Mapping[str, Sequence[Entry]], mode: str, *, single: bool
) -> list[str]:
    """The published figures of a row, if any: those of a group, or of the mean over categories."""
    found = []
    for entries in by_variant.values():
        where = (entries[0].planned.variant, entries[0].planned.group, mode) if entries and mode else None
        known = published_of(experiment, entries)
        figures = known.figures.get(where) if known and where and (where[1] or single) else None
        shown = ["-" if f is None else f"{f:.1f}" for f in (figures or ())[: len(experiment.measures)]]
        found.append(f"*{' / '.join(shown)}*" if shown else "")
    return [line([f"*{PUBLISHED}*", *found])] if any(found) else []


def published_of(experiment: Experiment, entries: Sequence[Entry]) -> Published | None:
    """The figures for the dataset of the entries; FUIAD's levels are one dataset each, and one table.

    What is only laid out like MVTec AD has none.
    """
    cells = [entry.planned.cell.category.partition("/") for entry in entries]
    families = {FUIAD_NAME if dataset.startswith(FUIAD_NAME) else dataset for dataset, _, _ in cells}
    if families == {"mvtec"} and not any(plain_name(name) in MVTEC for _, _, name in cells):
        return None
    return experiment.published.get(families.pop()) if len(families) == 1 else None


def _marked(values: Sequence[tuple[float, float | None] | None], whole: Sequence[bool]) -> list[str]:
    """Per cent; the best in bold, the runner-up underlined, as they are printed; `LACKING` where runs are missing."""
    printed = [None if value is None else round(100 * value[0], 1) for value in values]
    ranked = sorted(
        {value for value, fair in zip(printed, whole, strict=True) if fair and value is not None}, reverse=True
    )
    texts = []
    for value, shown, fair in zip(values, printed, whole, strict=True):
        if value is None or shown is None:
            texts.append("-")
            continue
        text = f"{shown:.1f}" + (f" ± {100 * value[1]:.1f}" if value[1] is not None else "")
        if not fair:
            text += LACKING
        elif len(printed) > 1 and shown == ranked[0]:
            text = f"**{text}**"
        elif len(ranked) > 2 and shown == ranked[1]:
            text = f"<u>{text}</u>"
        texts.append(text)
    return texts


def reached(entries: Sequence[Entry]) -> str:
    """The ratios that were asked for and reached."""
    seen: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        row = entry.row
        if row["reached"] and row["ratio"] != row["reached"]:
            seen.setdefault((row["category"], row["ratio"]), set()).add(f"{float(row['reached']):.3f}")
    said = [f"{category} at {float(ratio):g}: {', '.join(sorted(found))}" for (category, ratio), found in seen.items()]
    policies = ", ".join(sorted({entry.row["policy"] for entry in entries}))
    return f"Reached ratios (policy {policies}): {'; '.join(said)}." if said else ""
