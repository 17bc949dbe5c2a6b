"""From rows to table.md, the results.csv of an experiment, and its plots."""

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from blemish.benchmark.contamination import MODES
from blemish.benchmark.experiments.experiment import Experiment, Planned
from blemish.benchmark.results import COLUMNS, DONE, FAILED, Results
from blemish.benchmark.table_columns import costs, decisions, measures
from blemish.benchmark.table_entries import Entry
from blemish.benchmark.table_pairs import PUBLISHED, TITLES, pairs, published_of, reached
from blemish.machine.disk import writing_to

TABLE, VIEW = "table.md", "results.csv"


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
            parts += pairs(experiment, [entry for entry in done if entry.row["mode"] == mode], mode)
        published = published_of(experiment, entries)
        if published and any(f"*{PUBLISHED}*" in part for part in parts):
            parts.insert(2, f"Published figures: {published.source}.")
    elif done:
        parts.append(f"Of the protocol {TITLES[experiment.protocol]}." if experiment.protocol else "")
        shown = [e for e in done if not experiment.protocol or e.row["mode"] == experiment.protocol]
        parts.append(measures(experiment, shown))
    parts += [f"![{name}]({name})" for name in plots]
    parts += decisions(experiment, done)
    parts += costs(done) if "fit_seconds" not in experiment.measures.values() else []
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
    return ["## Failed", "\n".join(lines), reached(failed)]


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
