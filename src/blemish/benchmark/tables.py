"""The page of an experiment: its tables in every format, its rows, its plots, and what reruns and cites it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from blemish.benchmark.contamination import MODES
from blemish.benchmark.datasets.category import plain_name
from blemish.benchmark.experiments.experiment import Entry, Experiment, Planned
from blemish.benchmark.formats import FORMATS, rendered
from blemish.benchmark.published import MVTEC, Published
from blemish.benchmark.references import bibtex
from blemish.benchmark.results import COLUMNS, DONE, FAILED, Results
from blemish.benchmark.summary import (
    MEAN,
    PROTOCOLS,
    Figure,
    Table,
    beside_first,
    by_defect,
    compared,
    costs,
    decisions,
    frame,
    measured,
    wide,
)
from blemish.machine.errors import writing_to

VIEW, TESTS, DEFECTS, REFERENCES = "results.csv", "tests.csv", "defects", "references.bib"
FUIAD_NAME = "realiad_fuiad"
MEANING = {
    "overlap": "Injected anomalies stay in the test set.",
    "no_overlap": "Injected anomalies leave the test set; the fit is the same.",
}
MORE = {"image AP": "image_ap", "pixel AP": "pixel_ap", "AUPRO": "aupro"}  # beside the pair of an experiment
BOLD = (
    "Bold: better than each other variant of the row by a two-sided Wilcoxon signed-rank test over sets and seeds, "
    f"p < 0.05 after Holm's correction for the row ({TESTS}). The best is chosen by the same figures. N pairs give p = "
    "2 / 2^N at the least, which the correction multiplies by the number of other variants; where one lacks cells, "
    "none is bold."
)
LOOKED_IN = re.compile(r" \(looked in [^)]*\)")  # folders of one machine, in the reason of a failed run
SPREAD = "Figures are mean ± sample standard deviation (n - 1) over seeds, each of the mean over sets."
LACKS = "'lacks 1 of 4' stands where a variant has no figure for one of the row's 4 sets and seeds: no mean is made."


def write_tables(
    experiment: Experiment,
    planned: Sequence[Planned],
    runs: Sequence[str],
    results: Results,
    folder: Path,
    *,
    notes: Sequence[str],
    plots: bool,
    form: str = "md",
) -> Path:
    """Write the tables, the experiment's own results.csv and, with `plots`, all the rest into `folder`.

    Tables are Markdown, and `form` besides. The rest: plots, tables by kind of defect, the tests behind bold figures,
    and BibTeX of the detectors. Returns table.md, or the table in `form`.
    """
    by_run: dict[str, list[dict[str, str]]] = {}
    for row in results.rows:
        by_run.setdefault(row["run"], []).append(row)
    entries = [Entry(each, row) for each, run in zip(planned, runs, strict=True) for row in by_run.get(run, [])]
    missing = sum(run not in by_run for run in dict.fromkeys(runs))
    with writing_to(folder.parent):
        folder.mkdir(parents=True, exist_ok=True)
        _write_view(entries, folder / VIEW)
        drawn = _draw(experiment, entries, folder) if plots else []
        parts = page(experiment, entries, notes, missing, drawn)
        defects = defect_tables(experiment, entries)
        for each in dict.fromkeys(("md", form)):
            (folder / FORMATS[each]).write_text(rendered(parts, each), encoding="utf-8")
            if defects and plots:
                name = FORMATS[each].replace("table", DEFECTS)
                (folder / name).write_text(rendered(defects, each), encoding="utf-8")
        if plots:
            tests = [test for part in parts if isinstance(part, Table) for test in part.tests]
            pd.DataFrame(tests).to_csv(folder / TESTS, index=False, float_format="%.6g") if tests else None
            (folder / REFERENCES).write_text(bibtex([each.cell for each in planned]), encoding="utf-8")
    return folder / FORMATS[form]


def page(
    experiment: Experiment, entries: Sequence[Entry], notes: Sequence[str], missing: int, plots: Sequence[str] = ()
) -> list[str | Table]:
    """The page in parts, text as Markdown."""
    parts: list[str | Table] = [f"# {experiment.name}: {experiment.about}", _about(entries, notes, missing)]
    done = [entry for entry in entries if entry.row["status"] == DONE]
    data = frame(done)
    experiment = with_figures(experiment, data)
    if experiment.paired and done:
        several = data["seed"].nunique() > 1
        parts.append((f"{SPREAD} " if several else "") + f"{BOLD} {LACKS}")
        for mode in [mode for mode in (*MODES, "") if (data["mode"] == mode).any()]:
            parts += _protocol(experiment, data[data["mode"] == mode], mode)
        parts += _published(experiment, done)
        parts += beside_the_paper(experiment, done)
    elif done:
        shown = data[data["mode"] == experiment.protocol] if experiment.protocol else data
        caption = f"Protocol: {PROTOCOLS[experiment.protocol]}." if experiment.protocol else ""
        parts.append(SPREAD if shown["seed"].nunique() > 1 else "")
        if experiment.differences:
            parts.append(beside_first(shown, experiment.group, experiment.differences))
        parts.append(measured(shown, experiment.group, experiment.measures, caption))
    parts += [f"![{name}]({name})" for name in plots]
    decided, cost = decisions(data, experiment.group), costs(data)
    parts += ["## Decisions", decided] if decided and experiment.paired else []
    parts += ["## Cost", cost] if cost and "fit_seconds" not in experiment.measures.values() else []
    return [*parts, *_failed(entries)]


def _protocol(experiment: Experiment, data: pd.DataFrame, mode: str) -> list[str | Table]:
    """The tables of one protocol: categories by variants; with groups, their mean and then each category."""
    title = PROTOCOLS[mode]
    start = f"{title}. " if title else ""
    masks = _without_masks(data)
    labels, kinds = list(dict.fromkeys(data["label"])), sorted(set(data["kind"]) - {""})
    parts: list[str | Table] = [f"## {title}\n\n{MEANING[mode]}" if mode else ""]
    for measures in (experiment.measures, _more(experiment, data)):
        if not measures:
            continue
        if data["group"].nunique() <= 1:
            caption = f"{start}{masks}".strip()
            parts.append(compared(data, "label", "category", measures, caption=caption, mean=True))
            continue
        about = f"Mean over {len(labels)} sets." if len(labels) > 1 else f"Category {labels[0]}."
        caption = f"{start}{about} {masks}".strip()
        parts.append(compared(data, "group", experiment.group, measures, caption=caption))
        for kind in kinds if len(kinds) > 1 else []:
            part = data[data["kind"] == kind]
            about = f"{start}Mean over the {kind}."
            parts.append(compared(part, "group", experiment.group, measures, caption=about))
    if data["group"].nunique() > 1 and len(labels) > 1:
        for label in labels:
            part = data[data["label"] == label]
            table = compared(part, "group", experiment.group, experiment.measures, caption=f"{start}{label}.")
            parts += [f"### {label}", table]
    return [*parts, reached(data)]


def _more(experiment: Experiment, data: pd.DataFrame) -> dict[str, str]:
    """Measures that the rows have beyond those of the experiment."""
    own = set(experiment.measures.values())
    return {label: name for label, name in MORE.items() if name not in own and data[name].notna().any()}


def with_figures(experiment: Experiment, data: pd.DataFrame) -> Experiment:
    """The experiment without the measures that no row has, such as pixel measures where there are no masks."""
    found = {label: name for label, name in experiment.measures.items() if data[name].notna().any()}
    return replace(experiment, measures=found) if found else experiment


def _without_masks(data: pd.DataFrame) -> str:
    """The sets that have figures of images and none of pixels, or pixel figures of fewer images."""
    have = set(data.dropna(subset=["pixel_auroc"])["label"])
    without = [label for label in dict.fromkeys(data.dropna(subset=["image_auroc"])["label"]) if label not in have]
    said = f"Pixel figures are without {', '.join(without)}: no masks." if have and without else ""
    for label, part in data[data["pixel_images"] < data["test_images"]].groupby("label", sort=False):
        fewest = part.loc[(part["test_images"] - part["pixel_images"]).idxmax()]
        counts = f"{fewest['pixel_images']:.0f} of {fewest['test_images']:.0f}"
        said += f" Pixel figures of {label} are of {counts} images: masks are missing."
    return said.strip()


def defect_tables(experiment: Experiment, entries: Sequence[Entry]) -> list[str | Table]:
    """Tables by kind of defect: its images against all normal test images, for each set, protocol and group."""
    data = by_defect(entry for entry in entries if entry.row["status"] == DONE)
    if data.empty or not experiment.paired:
        return []
    measures = {**experiment.measures, "AUPRO": "aupro"}
    measures = {label: name for label, name in measures.items() if data[name].notna().any()}
    parts: list[str | Table] = [
        f"# {experiment.name}: by kind of defect",
        f"The images of one kind against all normal test images. {BOLD}",
    ]
    for (label, mode, group), part in data.groupby(["label", "mode", "group"], sort=False):
        caption = ", ".join(filter(None, (str(label), PROTOCOLS[str(mode)], str(group))))
        parts.append(compared(part, "defect", "defect", measures, caption=f"{caption}."))
    return parts


def _published(experiment: Experiment, entries: Sequence[Entry]) -> list[str | Table]:
    """Figures from papers, in a separate table: they are means over other data than the rows above."""
    known = published_of(experiment, entries)
    if known is None:
        return []
    variants = list(dict.fromkeys(each.planned.variant for each in entries))
    groups = list(dict.fromkeys(each.planned.group for each in entries))
    parts: list[str | Table] = []
    for mode in MODES:
        columns = [name for name in variants if any((name, group, mode) in known.figures for group in groups)]
        rows = [
            ([group or MEAN], [_printed(known.figures.get((name, group, mode)), experiment) for name in columns])
            for group in groups
            if any((name, group, mode) in known.figures for name in columns)
        ]
        if rows:
            caption = (
                f"Published, {PROTOCOLS[mode]}: {known.source}. Means of the whole published data set, not of ours."
            )
            parts.append(Table(caption, [experiment.group or "data", *columns], rows, list(experiment.measures)))
    return ["## Published figures", *parts] if parts else []


def beside_the_paper(experiment: Experiment, entries: Sequence[Entry]) -> list[str | Table]:
    """Means of ours beside the paper's where all of its categories were run; else what they lack."""
    known = published_of(experiment, entries)
    if known is None or experiment.tolerance is None:
        return []
    image, pixel = experiment.tolerance
    rows = []
    for (variant, group, mode), pair in known.figures.items():
        mine = [e for e in entries if (e.planned.variant, e.planned.group, e.row["mode"]) == (variant, group, mode)]
        data = frame(mine)
        for name in dict.fromkeys(data["variant"]):
            chosen = data[data["variant"] == name]
            found = chosen["label"].map(plain_name).isin(MVTEC)
            cells = len(MVTEC) * chosen["seed"].nunique()
            values = [wide(chosen[found], measure, chosen[found])[name] for measure in experiment.measures.values()]
            lacking = max(cells - int(each.notna().sum()) for each in values)
            means = [None if lacking else 100 * float(each.mean()) for each in values]
            apart = [None if a is None or b is None else a - b for a, b in zip(means, pair, strict=True)]
            within = all(
                each is not None and abs(each) <= most for each, most in zip(apart, (image, pixel), strict=True)
            )
            verdict = f"lacks {lacking} of {cells}" if lacking else "equal" if within else "differs"
            shown = (_pair(means), _pair(pair), _pair(apart), verdict)
            rows.append(([group, name, PROTOCOLS[mode]], [[Figure(text)] for text in shown]))
    about = (
        f"Image / pixel AUROC, means of all categories. Equal: within {image:g} / {pixel:g} points. The paper names no "
        "deviations; it chose its epoch on the test set, as the choice `oracle` here does."
    )
    heads = [experiment.group, "variant", "protocol", "ours", "the paper", "difference", "verdict"]
    return ["## Beside the paper", Table(about, heads, rows)] if rows else []


def _pair(values: Sequence[float | None]) -> str:
    return " / ".join("-" if value is None else f"{value:.2f}" for value in values)


def _printed(figures: tuple[float, float | None] | None, experiment: Experiment) -> list[Figure]:
    shown = (figures or (None, None))[: len(experiment.measures)]
    return [Figure("-" if value is None else f"{value:.1f}", None if value is None else value / 100) for value in shown]


def published_of(experiment: Experiment, entries: Sequence[Entry]) -> Published | None:
    """The figures for the dataset of the entries; FUIAD's levels are one dataset each, and one table.

    What is only laid out like MVTec AD has none.
    """
    cells = [entry.planned.cell.category.partition("/") for entry in entries]
    families = {FUIAD_NAME if dataset.startswith(FUIAD_NAME) else dataset for dataset, _, _ in cells}
    if not any(plain_name(name) in MVTEC for dataset, _, name in cells if dataset == "mvtec"):
        families.discard("mvtec")
    known = [experiment.published[each] for each in families if each in experiment.published]
    return known[0] if len(known) == 1 else None


def _about(entries: Sequence[Entry], notes: Sequence[str], missing: int) -> str:
    rows = [entry.row for entry in entries]
    seeds = sorted({row["seed"] for row in rows}, key=int)
    limits = sorted({str(entry.planned.cell.limit) for entry in entries if entry.planned.cell.category})
    said = [
        *notes,
        f"Seeds: {', '.join(seeds) or '-'}.",
        f"Of a category: {'; '.join(limits)}." if limits else "",
        _images(entries),
        made_by(rows),
    ]
    if missing:
        said.append(f"{missing} runs are still to do: the same command takes up where it stopped.")
    return " ".join(filter(None, said))


def made_by(rows: Sequence[Mapping[str, str]]) -> str:
    """The versions and machines of the rows, and a warning where there are several."""
    names = {
        "blemish": sorted({_version(row) for row in rows if row.get("version")}),
        "machine": sorted({row["machine"] for row in rows if row.get("machine")}),
    }
    said = [f"{what}: {', '.join(found)}." for what, found in names.items() if found]
    if len(names["blemish"]) > 1:
        said.append("Rows are of several versions: figures of one row may differ for that alone.")
    return " ".join(said)


def _version(row: Mapping[str, str]) -> str:
    return " ".join(filter(None, (row["version"], row.get("commit", ""))))


def _images(entries: Sequence[Entry]) -> str:
    """How many images the figures rest on."""
    ranges = []
    for name in ("train_images", "test_images"):
        counts = [int(entry.row[name]) for entry in entries if entry.row.get(name)]
        ranges.append(f"{min(counts)} to {max(counts)}" if len(set(counts)) > 1 else str(counts[0]) if counts else "")
    return f"Trained on {ranges[0]} images, tested on {ranges[1]}." if all(ranges) else ""


def reached(data: pd.DataFrame) -> str:
    """The contamination requested in each cell, and what was reached, of each policy by itself."""
    seen: dict[tuple[str, str, str], set[str]] = {}
    for row in data[["policy", "category", "ratio", "reached"]].drop_duplicates().itertuples(index=False):
        if row.reached and row.ratio != row.reached:
            seen.setdefault((row.policy, row.category, row.ratio), set()).add(f"{float(row.reached):.3f}")
    parts = []
    for policy in dict.fromkeys(policy for policy, *_ in seen):
        said = [f"{c} at {float(r):g}: {', '.join(sorted(found))}" for (p, c, r), found in seen.items() if p == policy]
        parts.append(f"Reached ratios (policy {policy}): {'; '.join(said)}.")
    return " ".join(parts)


def _failed(entries: Sequence[Entry]) -> list[str | Table]:
    failed = [entry for entry in entries if entry.row["status"] == FAILED]
    if not failed:
        return []
    said: dict[str, list[str]] = {}
    for entry in failed:
        where = " ".join(filter(None, (entry.planned.label, entry.variant, entry.group, entry.row["mode"])))
        reason = LOOKED_IN.sub("", entry.row["reason"]).replace(str(Path.home()), "~")  # read on other machines, too
        said.setdefault(reason, []).append(f"{where}, seed {entry.row['seed']}")
    lines = [
        f"- {reason} ({len(places)}: {'; '.join(places[:3])}{'; ...' if len(places) > 3 else ''})"
        for reason, places in said.items()
    ]
    return ["## Failed", "\n".join(lines), reached(frame(failed))]


def _write_view(entries: Sequence[Entry], path: Path) -> None:
    """The rows of this experiment, with its names for them; columns that are empty throughout are left out."""
    used = [n for n in COLUMNS if any(entry.row.get(n) for entry in entries)]
    rows = [
        (each.variant, each.group, each.planned.label, *(each.row.get(name, "") for name in used)) for each in entries
    ]
    pd.DataFrame(rows, columns=["variant", "group", "row", *used]).to_csv(path, index=False)


def _draw(experiment: Experiment, entries: Sequence[Entry], folder: Path) -> list[str]:
    from blemish.benchmark import plots

    done = [entry for entry in entries if entry.row["status"] == DONE]
    if not done:
        return []
    return plots.draw(with_figures(experiment, frame(done)), done, folder)
