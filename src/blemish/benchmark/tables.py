"""From rows to table.md: pairs of image and pixel figures by category, best in bold, runner-up underlined."""

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import isnan
from pathlib import Path
from statistics import mean, stdev

from blemish.benchmark.contamination import MODES
from blemish.benchmark.experiments.experiment import Experiment, Planned
from blemish.benchmark.published import MVTEC, Published, plain_name
from blemish.benchmark.results import COLUMNS, DONE, FAILED, Results
from blemish.disk import writing_to

TABLE, VIEW = "table.md", "results.csv"
TITLES = {"overlap": "Overlap", "no_overlap": "No overlap", "": ""}
MEANING = {
    "overlap": "Injected anomalies stay in the test set.",
    "no_overlap": "Injected anomalies leave the test set; the fit is the same.",
}
LACKING, LACKS = "\\*", "not of all runs that others have: some failed or are still to do."
MEAN, PUBLISHED, FUIAD_NAME = "mean", "published", "realiad_fuiad"
DECISIONS = {"F1": "f1", "F1 / best F1": "f1_share", "precision": "precision", "recall": "recall"}
COST_NAMES = {"fit s": "fit_seconds", "images/s": "images_per_second", "peak MiB": "peak_mib"}


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


def write_tables(
    experiment: Experiment,
    planned: Sequence[Planned],
    runs: Sequence[str],
    results: Results,
    folder: Path,
    *,
    notes: Sequence[str],
    plots: bool,
) -> Path:
    """Write table.md, the experiment's own results.csv and, if asked, its plots into `folder`; returns table.md."""
    entries = [Entry(each, row) for each, run in zip(planned, runs, strict=True) for row in results.of(run)]
    finished = {row["run"] for row in results.rows}
    missing = sum(run not in finished for run in dict.fromkeys(runs))
    with writing_to(folder.parent):
        folder.mkdir(parents=True, exist_ok=True)
        _write_view(entries, folder / VIEW)
        drawn = _draw(experiment, entries, folder) if plots else []
        text = render(experiment, entries, notes, missing, drawn)
        (folder / TABLE).write_text(text, encoding="utf-8")
    return folder / TABLE


def render(
    experiment: Experiment, entries: Sequence[Entry], notes: Sequence[str], missing: int, plots: Sequence[str] = ()
) -> str:
    """The page as Markdown."""
    parts = [f"# {experiment.name}: {experiment.about}", _about(entries, notes, missing)]
    done = [entry for entry in entries if entry.row["status"] == DONE]
    experiment = measured(experiment, done)
    if experiment.paired and done:
        spread = ", with the spread over seeds" if len({entry.row["seed"] for entry in done}) > 1 else ""
        parts.append(f"Cells hold {' / '.join(experiment.measures)} in per cent{spread}.")
        for mode in [mode for mode in (*MODES, "") if any(entry.row["mode"] == mode for entry in done)]:
            parts += _pairs(experiment, [entry for entry in done if entry.row["mode"] == mode], mode)
        published = _published(experiment, entries)
        if published and any(f"*{PUBLISHED}*" in part for part in parts):
            parts.insert(2, f"Published figures: {published.source}.")
    elif done:
        parts.append(f"Of the protocol {TITLES[experiment.protocol]}." if experiment.protocol else "")
        shown = [e for e in done if not experiment.protocol or e.row["mode"] == experiment.protocol]
        parts.append(_measures(experiment, shown))
    parts += [f"![{name}]({name})" for name in plots]
    parts += _decisions(experiment, done)
    parts += _costs(done) if "fit_seconds" not in experiment.measures.values() else []
    parts += _failed(entries)
    return "\n\n".join(part for part in parts if part) + "\n"


def measured(experiment: Experiment, entries: Sequence[Entry]) -> Experiment:
    """The experiment without the measures that no row has, such as those of pixels where there are no masks."""
    found = {name: m for name, m in experiment.measures.items() if any(e.value(m) is not None for e in entries)}
    return replace(experiment, measures=found) if found else experiment


def _about(entries: Sequence[Entry], notes: Sequence[str], missing: int) -> str:
    rows = [entry.row for entry in entries]
    seeds = sorted({row["seed"] for row in rows}, key=int)
    limits = sorted({str(entry.planned.cell.limit) for entry in entries if entry.planned.cell.category})
    said = [
        *notes,
        f"Seeds: {', '.join(seeds) or '-'}.",
        f"Of a category: {'; '.join(limits)}." if limits else "",
        _images(entries),
        f"blemish {version('blemish')}, {platform.machine()}, {os.cpu_count()} cores.",
    ]
    if missing:
        said.append(f"{missing} runs are still to do: the same command takes up where it stopped.")
    return " ".join(filter(None, said))


def _images(entries: Sequence[Entry]) -> str:
    """How many images the figures rest on."""
    ranges = []
    for name in ("train_images", "test_images"):
        counts = [int(entry.row[name]) for entry in entries if entry.row.get(name)]
        ranges.append(f"{min(counts)} to {max(counts)}" if len(set(counts)) > 1 else str(counts[0]) if counts else "")
    return f"Trained on {ranges[0]} images, tested on {ranges[1]}." if all(ranges) else ""


def _pairs(experiment: Experiment, entries: Sequence[Entry], mode: str) -> list[str]:
    """The tables of one protocol: categories by variants; with groups, their mean and then each category."""
    groups = list(dict.fromkeys(entry.group for entry in entries))
    labels = list(dict.fromkeys(entry.planned.label for entry in entries))
    parts = [f"## {TITLES[mode]}\n\n{MEANING[mode]}" if mode else ""]
    if len(groups) <= 1:
        rows = {label: [e for e in entries if e.planned.label == label] for label in labels}
        parts.append(_table(experiment, "category", rows, entries, mode))
        return [*parts, _reached(entries)]
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
    return [*parts, _reached(entries)]


def _table(
    experiment: Experiment, head: str, rows: Mapping[str, Sequence[Entry]], together: Sequence[Entry], mode: str
) -> str:
    """Rows by variants, each cell a pair of means with their spread over seeds; `together` gives the mean row."""
    variants = list(dict.fromkeys(entry.variant for entries in rows.values() for entry in entries))
    pair = list(experiment.measures.values())
    lines = [_line([head, *variants]), "|" + " --- |" * (len(variants) + 1)]
    with_mean = {**rows, **({MEAN: together} if together and len(rows) > 1 else {})}
    some_lack = False
    for name, entries in with_mean.items():
        by_variant = {v: [e for e in entries if e.variant == v] for v in variants}
        whole = _whole(by_variant)
        some_lack = some_lack or not all(whole)
        marked = [_marked([_over_seeds(by_variant[v], measure) for v in variants], whole) for measure in pair]
        lines.append(_line([name, *(" / ".join(cell) for cell in zip(*marked, strict=True))]))
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
        known = _published(experiment, entries)
        figures = known.figures.get(where) if known and where and (where[1] or single) else None
        shown = ["-" if f is None else f"{f:.1f}" for f in (figures or ())[: len(experiment.measures)]]
        found.append(f"*{' / '.join(shown)}*" if shown else "")
    return [_line([f"*{PUBLISHED}*", *found])] if any(found) else []


def _published(experiment: Experiment, entries: Sequence[Entry]) -> Published | None:
    """The figures for the dataset of the entries; FUIAD's levels are one dataset each, and one table.

    What is only laid out like MVTec AD has none.
    """
    cells = [entry.planned.cell.category.partition("/") for entry in entries]
    families = {FUIAD_NAME if dataset.startswith(FUIAD_NAME) else dataset for dataset, _, _ in cells}
    if families == {"mvtec"} and not any(plain_name(name) in MVTEC for _, _, name in cells):
        return None
    return experiment.published.get(families.pop()) if len(families) == 1 else None


def _over_seeds(entries: Sequence[Entry], measure: str) -> tuple[float, float | None] | None:
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


def _measures(experiment: Experiment, entries: Sequence[Entry]) -> str:
    """A row for each category, variant and group, and for the categories' mean; a column for each measure."""
    grouped = any(entry.group for entry in entries)
    named: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        key = (entry.planned.label, entry.variant, *((entry.group,) if grouped else ()))
        named.setdefault(key, []).append(entry)
    heads = ["category", "variant", *((experiment.group,) if grouped else ())]
    lines = [_line([*heads, *experiment.measures]), "|" + " --- |" * (len(heads) + len(experiment.measures))]
    for key in list(named):
        alike = [e for other, each in named.items() if other[1:] == key[1:] for e in each]
        if len({e.planned.label for e in alike}) > 1:
            named[MEAN, *key[1:]] = alike
    for key, each in named.items():
        values = [_over_seeds(each, measure) for measure in experiment.measures.values()]
        lines.append(_line([*key, *("-" if value is None else f"{value[0]:.4g}" for value in values)]))
    return "\n".join(lines)


def _reached(entries: Sequence[Entry]) -> str:
    """The ratios that were asked for and reached."""
    seen: dict[tuple[str, str], set[str]] = {}
    for entry in entries:
        row = entry.row
        if row["reached"] and row["ratio"] != row["reached"]:
            seen.setdefault((row["category"], row["ratio"]), set()).add(f"{float(row['reached']):.3f}")
    said = [f"{category} at {float(ratio):g}: {', '.join(sorted(found))}" for (category, ratio), found in seen.items()]
    policies = ", ".join(sorted({entry.row["policy"] for entry in entries}))
    return f"Reached ratios (policy {policies}): {'; '.join(said)}." if said else ""


def _decisions(experiment: Experiment, entries: Sequence[Entry]) -> list[str]:
    """What the label-free threshold is worth, and the contamination it estimates, for each value of what is swept."""
    kept = [entry for entry in entries if entry.value("f1") is not None]
    if not kept:
        return []
    swept = experiment.paired and len({entry.group for entry in kept}) > 1
    heads = [*([experiment.group] if swept else []), "variant", *DECISIONS, "estimate", "truth"]
    lines = [_line(heads), "|" + " --- |" * len(heads)]
    named: dict[tuple[str, ...], list[Entry]] = {}
    for entry in kept:
        named.setdefault((entry.group, entry.variant) if swept else (entry.variant,), []).append(entry)
    for names, each in named.items():
        shares = [_mean(each, measure) for measure in DECISIONS.values()]
        rest = [_mean(each, "estimate"), _mean(each, "contamination")]
        lines.append(_line([*names, *(f"{value:.3f}" for value in (*shares, *rest))]))
    about = "At the threshold that was read from unlabelled training scores; mean over categories, seeds and protocols."
    return ["## Decisions", about, "\n".join(lines)]


def _costs(entries: Sequence[Entry]) -> list[str]:
    kept = [entry for entry in entries if entry.value("fit_seconds") is not None]
    if not kept:
        return []
    lines = [_line(["variant", *COST_NAMES]), "|" + " --- |" * (len(COST_NAMES) + 1)]
    by_variant: dict[str, list[Entry]] = {}
    for entry in kept:
        by_variant.setdefault(entry.variant, []).append(entry)
    for variant, each in by_variant.items():
        lines.append(_line([variant, *(_short(_mean(each, measure)) for measure in COST_NAMES.values())]))
    return ["## Cost", "Mean over all rows; features apart.", "\n".join(lines)]


def _failed(entries: Sequence[Entry]) -> list[str]:
    failed = [entry for entry in entries if entry.row["status"] == FAILED]
    if not failed:
        return []
    said: dict[str, list[str]] = {}
    for entry in failed:
        where = " ".join(filter(None, (entry.planned.label, entry.variant, entry.group, entry.row["mode"])))
        said.setdefault(entry.row["reason"], []).append(f"{where}, seed {entry.row['seed']}")
    lines = [
        f"- {reason} ({len(places)}: {'; '.join(places[:3])}{'; ...' if len(places) > 3 else ''})"
        for reason, places in said.items()
    ]
    return ["## Failed", "\n".join(lines), _reached(failed)]


def _mean(entries: Sequence[Entry], measure: str) -> float:
    values = [value for value in (entry.value(measure) for entry in entries) if value is not None]
    return mean(values) if values else float("nan")


def _short(value: float) -> str:
    return "-" if isnan(value) else f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _write_view(entries: Sequence[Entry], path: Path) -> None:
    """The rows of this experiment, with its names for them; columns that are empty throughout are left out."""
    import csv

    used = [n for n in COLUMNS if any(entry.row.get(n) for entry in entries)]
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("variant", "group", "row", *used))
        for entry in entries:
            names = (entry.variant, entry.group, entry.planned.label)
            table.writerow((*names, *(entry.row.get(name, "") for name in used)))


def _draw(experiment: Experiment, entries: Sequence[Entry], folder: Path) -> list[str]:
    from blemish.benchmark import plots

    done = [entry for entry in entries if entry.row["status"] == DONE]
    if not done:
        return []
    return plots.draw(measured(experiment, done), done, folder)
