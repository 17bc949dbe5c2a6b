"""From rows to figures, on pandas: means over the same sets and seeds for all, or what a variant lacks.

A figure is the mean over seeds of the mean over sets, with the sample standard deviation (n - 1) over seeds. It is
printed only where a variant has all sets and seeds that the table has: nothing is averaged over different cells.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pandas as pd

from blemish.benchmark.experiments.experiment import Entry
from blemish.benchmark.results import COSTS, MEASURES
from blemish.benchmark.significance import LEVEL, compare_with_best, holm, wilcoxon

MEAN = "mean"
CELL = ["label", "group", "seed"]  # what is paired between variants
PLACE = ("variant", "group", "label", "kind", "mode", "seed")
TEXTS = ("run", "dataset", "category", "machine", "ratio", "reached", "policy")
NUMBERS = (*MEASURES, *COSTS, "cpu_seconds", "contamination", "train_images", "test_images")
DECISIONS = {"F1": "f1", "F1 / best F1": "f1_share", "precision": "precision", "recall": "recall"}
COST_NAMES = {"fit s": "fit_seconds", "images/s": "images_per_second", "peak MiB": "peak_mib"}
HOW_TO_READ = (
    "Mean over seeds of the mean over sets, ± sample standard deviation (n - 1) over seeds. Bold: p < 0.05 against "
    "each other column by a two-sided Wilcoxon signed-rank test over sets and seeds after Holm's correction for the "
    "row. 'lacks': no mean is made where cells are missing. Ratios are anomalies / normal training images."
)
PROTOCOLS = {"overlap": "Overlap", "no_overlap": "No overlap", "": ""}


@dataclass(frozen=True)
class Figure:
    """One number of a table, as it is printed; `value` and `deviation` as they are."""

    text: str
    value: float | None = None
    deviation: float | None = None
    bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table as every format prints it.

    Attributes
    ----------
    heads : of the columns that name a row, then of the others.
    measures : what the numbers of a cell are, in turn; empty where each column is a measure.
    rows : the names of a row, and its cells of one or more figures.
    tests : the comparisons behind the bold figures.
    note : what has to stand with the table wherever it is taken: how its figures are to be read.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[Sequence[Figure]]]]
    measures: Sequence[str] = ()
    tests: Sequence[Mapping[str, Any]] = field(default=())
    note: str = ""


def frame(entries: Iterable[Entry]) -> pd.DataFrame:
    """A row an entry: its place in the table, and its numbers, NaN where they are empty.

    Categories that would share a place in the table are named DATASET/CATEGORY.
    """
    entries = list(entries)
    sharing: dict[tuple[str, str], set[str]] = {}
    for each in entries:
        sharing.setdefault((each.planned.label, each.group), set()).add(each.planned.cell.category)
    shared = {label for (label, _), categories in sharing.items() if len(categories) > 1}
    rows = [
        {
            "variant": each.variant,
            "group": each.group,
            "label": each.planned.cell.category if each.planned.label in shared else each.planned.label,
            "kind": each.planned.kind,
            **{name: each.row.get(name, "") for name in ("mode", "seed", *TEXTS, *NUMBERS)},
        }
        for each in entries
    ]
    data = pd.DataFrame(rows, columns=[*PLACE, *TEXTS, *NUMBERS])
    data[list(NUMBERS)] = data[list(NUMBERS)].apply(pd.to_numeric, errors="coerce")
    return data


def by_defect(entries: Iterable[Entry]) -> pd.DataFrame:
    """As `frame`, a row for each kind of defect of an entry, named in `defect`."""
    found = []
    for each in entries:
        for kind, measures in json.loads(each.row.get("by_defect") or "{}").items():
            # Without the measures of all kinds together: a kind that has no masks has no figure of pixels.
            own = {**dict.fromkeys(MEASURES, ""), **{name: str(value) for name, value in measures.items()}}
            found.append(frame([Entry(each.planned, {**each.row, **own})]).assign(defect=kind))
    return pd.concat(found, ignore_index=True) if found else frame([]).assign(defect="")


def wide(data: pd.DataFrame, measure: str, scope: pd.DataFrame | None = None) -> pd.DataFrame:
    """(sets x groups x seeds, variants) of a measure, NaN where a variant lacks a cell.

    The cells are every set that has the measure at all, with every seed, of `scope` (`data` by default): a set or seed
    that only one variant has, or that a row of the table misses, is lacking everywhere else.
    """
    known = (data if scope is None else scope).dropna(subset=[measure])
    pivot = data.pivot(index=CELL, columns="variant", values=measure)  # raises for two figures of one cell
    axes = [list(dict.fromkeys(part)) for part in (known["label"], data["group"], known["seed"])]
    cells = pd.MultiIndex.from_product(axes, names=CELL)
    return pivot.reindex(index=cells, columns=list(dict.fromkeys(data["variant"])))


def figure(column: "pd.Series[float]", *, per_cent: bool = True, digits: str = ".4g") -> Figure:
    """The figure of a column of `wide`, or what it lacks."""
    count, lacking = len(column), int(column.isna().sum())
    if lacking == count:
        return Figure("-")
    if lacking:
        return Figure(f"lacks {lacking} of {count}")
    by_seed = column.groupby(level="seed").mean()
    value = float(by_seed.mean())
    deviation = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else None
    scale, form = (100, ".1f") if per_cent else (1, digits)
    text = format(scale * value, form) + ("" if deviation is None else f" ± {format(scale * deviation, form)}")
    return Figure(text, value, deviation)


def compared(
    data: pd.DataFrame, row: str, head: str, measures: Mapping[str, str], *, caption: str, mean: bool = False
) -> Table:
    """A row for each value of the column `row` (and for their mean), a column for each variant.

    The best figure is bold only where it is better than every other by Wilcoxon's signed-rank test over sets and
    seeds, with Holm's correction, and no other lacks a cell.
    """
    variants = list(dict.fromkeys(data["variant"]))
    names = list(dict.fromkeys(data[row]))
    shown = [*names, MEAN] if mean and len(names) > 1 else names
    whole = {measure: wide(data, measure) for measure in measures.values()} if row in CELL else {}
    rows, tests = [], []
    for name in shown:
        columns: dict[str, list[Figure]] = {variant: [] for variant in variants}
        for measure in measures.values():
            if row not in CELL:
                values = wide(data[data[row] == name], measure).reindex(columns=variants)
            elif name == MEAN:
                values = whole[measure]
            else:
                values = _part(whole[measure], row, name)
            comparisons = compare_with_best(values.dropna(axis=1))
            tests += [{"table": caption, "row": name, "measure": measure, **asdict(each)} for each in comparisons]
            better = {each.best for each in comparisons if all(other.p_holm < LEVEL for other in comparisons)}
            if values.isna().any(axis=None):  # a variant that lacks cells may be the better one
                better = set()
            for variant in variants:
                found = figure(values[variant])
                columns[variant].append(Figure(found.text, found.value, found.deviation, variant in better))
        rows.append(([name], list(columns.values())))
    return Table(caption, [head, *variants], rows, list(measures), tests, HOW_TO_READ)


def measured(data: pd.DataFrame, group: str, measures: Mapping[str, str], caption: str) -> Table:
    """A row for each set, variant and group, and for the sets' mean; a column for each measure."""
    keys = ["variant", *(["group"] if data["group"].any() else [])]
    heads = ["category", "variant", *([group] if len(keys) > 1 else []), *measures]
    labels = list(dict.fromkeys(data["label"]))
    order = data.drop_duplicates(["label", *keys])[["label", *keys]].itertuples(index=False)
    named = [(tuple(names), data[(data[["label", *keys]] == list(names)).all(axis=1)], None) for names in order]
    if len(labels) > 1:
        for names in data.drop_duplicates(keys)[keys].itertuples(index=False):
            part = data[(data[keys] == list(names)).all(axis=1)]
            if part["label"].nunique() > 1:
                named.append(((MEAN, *names), part, data))
    rows = [
        # a part is of one variant, and so has one column
        (names, [[figure(wide(part, each, scope).iloc[:, 0], per_cent=False)] for each in measures.values()])
        for names, part, scope in named
    ]
    return Table(caption, heads, rows)


def beside_first(data: pd.DataFrame, group: str, measures: Mapping[str, str]) -> Table:
    """The first variant of each group, and by how much each other one differs from it, in points.

    Groups may end in what they are measured at, such as "k, 10 %": these stand side by side. Bold are differences with
    a two-sided p < 0.05 by Wilcoxon's signed-rank test over sets and seeds, after Holm's correction for the column.
    """
    named = {name: name.partition(", ") for name in dict.fromkeys(data["group"])}
    rows: dict[tuple[str, str], dict[str, Figure]] = {}
    tests: list[dict[str, Any]] = []
    columns = [", ".join(filter(None, (m, at))) for m in measures for at in dict.fromkeys(e[2] for e in named.values())]
    for label, measure in measures.items():
        for name, (what, _, at) in named.items():
            values = wide(data[data["group"] == name], measure, data)
            column, first = ", ".join(filter(None, (label, at))), values.columns[0]
            rows.setdefault((what, str(first)), {})[column] = figure(values[first])
            for variant in values.columns[1:]:
                apart = values[variant] - values[first]
                found = figure(apart)
                if found.value is not None:
                    found = replace(found, text=f"{100 * found.value:+.1f}")
                    p = wilcoxon(apart.to_numpy())
                    tests.append({"table": what, "row": variant, "measure": column, "pairs": len(apart), "p": p})
                rows.setdefault((what, str(variant)), {})[column] = found
    for column in columns:
        of_column = [test for test in tests if test["measure"] == column]
        for test, corrected in zip(of_column, holm([test["p"] for test in of_column]), strict=True):
            test["p_holm"] = corrected
            cells = rows[test["table"], test["row"]]
            cells[column] = replace(cells[column], bold=corrected < LEVEL)
    shown = [(list(names), [[cells.get(each, Figure("-"))] for each in columns]) for names, cells in rows.items()]
    about = (
        "The first of each group in per cent, the others by how many points they differ from it; means over sets and "
        "seeds. Bold: p < 0.05 by a two-sided Wilcoxon signed-rank test over sets and seeds, after Holm's correction "
        "for the column."
    )
    return Table(about, [group, "variant", *columns], shown, tests=tests)


def decisions(data: pd.DataFrame, group: str) -> Table | None:
    """What the label-free threshold is worth, and the contamination it estimates, each protocol by itself."""
    kept = data.dropna(subset=["f1"])
    if kept.empty:
        return None
    groups = list(dict.fromkeys(kept["group"]))
    swept = len(groups) > 1
    heads = ["protocol", *([group] if swept else []), "variant", *DECISIONS, "estimate", "truth"]
    rows = []
    for mode in dict.fromkeys(kept["mode"]):
        part = kept[kept["mode"] == mode]
        values = [wide(part, name) for name in (*DECISIONS.values(), "estimate", "contamination")]
        for level in groups:
            of_level = [_part(each, "group", level) for each in values]
            for variant in [name for name in values[0] if of_level[0][name].notna().any()]:
                cells = [
                    [figure(each[variant], per_cent=False, digits=".3f") if variant in each else Figure("-")]
                    for each in of_level
                ]
                rows.append(([PROTOCOLS[mode], *([level] if swept else []), variant], cells))
    about = "Decisions at the threshold that was read from unlabelled training scores: mean over sets and seeds."
    return Table(about, heads, rows)


def costs(data: pd.DataFrame) -> Table | None:
    """Seconds, images per second and memory of each variant, of each machine by itself."""
    kept = data.dropna(subset=["fit_seconds"]).drop_duplicates(["run", "variant", "group", "label", "seed"])
    if kept.empty:
        return None
    keys = ["variant", *(["machine"] if kept["machine"].nunique() > 1 else [])]
    rows = []
    for names in kept.drop_duplicates(keys)[keys].itertuples(index=False):
        part = kept[(kept[keys] == list(names)).all(axis=1)]
        means = [part[name].mean() for name in COST_NAMES.values()]
        rows.append(([*names, str(len(part))], [[Figure(_short(value), float(value))] for value in means]))
    return Table("Mean cost of a run; features apart.", [*keys, "runs", *COST_NAMES], rows)


def _part(values: pd.DataFrame, axis: str, name: str) -> pd.DataFrame:
    """The cells of one set or one group."""
    return values[values.index.get_level_values(axis) == name]


def _short(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
