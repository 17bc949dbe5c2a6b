"""The page of the record, made from stored rows: nothing is run, and nothing is written by hand."""

import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from blemish.benchmark.contamination import MODES
from blemish.benchmark.experiments import record
from blemish.benchmark.experiments.experiment import Entry
from blemish.benchmark.experiments.record import detectors_of, draw, entry_of, groups_of
from blemish.benchmark.formats import rendered
from blemish.benchmark.provenance import machine, slug
from blemish.benchmark.results import DONE, RESULTS, Results
from blemish.benchmark.significance import LEVEL, compare_with_best
from blemish.benchmark.summary import PROTOCOLS, Table, frame, wide
from blemish.benchmark.tables import page
from blemish.detectors import DEFAULT_DETECTOR
from blemish.machine.errors import RequestError, writing_to

FOLDER = "record_"
CLOCK, BUSY = ("feature_seconds", "fit_seconds", "score_seconds", "metric_seconds"), 1.5
QUICK_IS = "The quick form has few images and one seed: differences of a few points are chance."
LED = ("10 %", "20 %", "40 %")  # where the page says who leads
NOT_COMPARABLE = (
    "Seconds and memory are of the machine that is named; figures of several machines stand in sections of their own.",
    "Published figures are means of whole data sets with the papers' own features and image sizes; they stand apart.",
    "The protocols of MeDS and SoftPatch are drawn here by seed. The papers' own lists can be read with "
    "`blemish bench compare --manifest FILE`.",
    "Detectors run at their own defaults. Those of anomalib and Dinomaly use other image sizes and schedules than the "
    "others, and none was tuned on these sets but ours, whose global constants were chosen on development sets.",
    "Seeds and ratios of one set share its images: the tests, the deviations and the critical difference of the ranks "
    "take them for independent, and so find differences too readily.",
    "`funad` takes the distances of `nearest_images` and trains networks on top, which costs several times its seconds "
    "and adds most where few images lie alike, as on screws.",
    "A ratio is anomalies / normal training images: at 40 % a folder holds 29 % bad images.",
)


def folder_of_record(size: str) -> str:
    """The folder of results of this machine, version and size: rows of others are never added to it."""
    return f"{FOLDER}{machine()}_blemish-{slug(version('blemish'))}_{size}"


def write_page(out: Path, target: Path) -> list[str]:
    """Write the page at `target` from all records below `out`, its plots in `images/record` beside it.

    Returns sentences. Raises `RequestError` if there is no record.
    """
    records = {path.parent.name: _entries(path.parent) for path in sorted(out.glob(f"{FOLDER}*/{RESULTS}"))}
    records = {name: entries for name, entries in records.items() if any(e.row["status"] == DONE for e in entries)}
    if not records:
        raise RequestError(
            f"'{out}' holds no record with a finished run; run `blemish bench record` with it as `out` first."
        )
    count = sum(len(entries) for entries in records.values())
    parts: list[str | Table] = [
        "# The record",
        f"Detectors over contamination, from {count} stored rows. Made by `blemish bench record --page`; not by hand.",
    ]
    with writing_to(target.parent):
        for name, entries in records.items():
            parts += _section(name, entries, target)
        parts += ["## What is not comparable", "\n".join(f"- {each}" for each in NOT_COMPARABLE)]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rendered(parts, "md"), encoding="utf-8")
    return [f"{target}: {count} rows of {len(records)} records"]


def _entries(folder: Path) -> list[Entry]:
    """The rows of a record in their places: of rows for one place, such as after images came, the latest run's."""
    entries = [each for each in map(entry_of, Results.read(folder, mend=False).rows) if each is not None]
    latest = {_place(each): each.row["run"] for each in sorted(entries, key=lambda each: each.row["time"])}
    return [each for each in entries if latest[_place(each)] == each.row["run"]]


def _place(each: Entry) -> tuple[object, ...]:
    return each.planned.variant, each.group, each.planned.cell.category, each.row["seed"]


def _section(name: str, entries: Sequence[Entry], target: Path) -> list[str | Table]:
    """One record: figures, who leads, what is missing, tables."""
    waiting = _not_begun(entries, name)
    entries, begun = _begun_aside(entries)
    done = [each for each in entries if each.row["status"] == DONE]
    images = Path("images", "record", slug(name))
    (target.parent / images).mkdir(parents=True, exist_ok=True)
    figures = draw(done, target.parent / images)
    links = [f"![{each}]({(images / each).as_posix()})" for each in figures]
    data = frame(done)
    failed = [name for name in dict.fromkeys(each.variant for each in entries) if name not in set(data["variant"])]
    _, about, *rest = page(record(), entries, [f"Form: {name.rpartition('_')[2]}."], 0)
    demoted = [re.sub(r"^#", "##", part, flags=re.MULTILINE) if isinstance(part, str) else part for part in rest]
    title = name.removeprefix(FOLDER).replace("_", ", ")
    return [
        f"## {title}",
        about,
        *links[:1],
        _lacking(entries, data),
        waiting,
        begun,
        QUICK_IS if name.endswith("_quick") else "",
        _repeated(done),
        _clock(data),
        "### Who leads",
        "\n".join(
            f"- {sentence}" for mode in MODES for level in LED for sentence in _leader(data, mode, level, failed)
        ),
        *links[1:],
        *demoted,
    ]


def _lacking(entries: Sequence[Entry], data: pd.DataFrame) -> str:
    """How many cells of all there could be have no figure."""
    cells = {_place(each) for each in entries if each.row["status"] == DONE}
    axes = [len({_place(each)[at] for each in entries}) for at in range(4)]
    whole = axes[0] * axes[1] * axes[2] * axes[3]
    said = f"{axes[0]} detectors, {axes[2]} sets, {axes[1]} ratios and protocols, {axes[3]} seeds: "
    if len(cells) == whole:
        return f"{said}all {whole} cells have figures."
    variants = dict.fromkeys(each.planned.variant for each in entries)
    have = data.drop_duplicates(["variant", "group", "label", "seed"])["variant"].value_counts()
    each = whole // axes[0]
    missing = [f"{name} {each - int(have.get(name, 0))}" for name in variants if have.get(name, 0) < each]
    return f"{said}{whole - len(cells)} of {whole} cells have no figure ({', '.join(missing)})."


def _begun_aside(entries: Sequence[Entry]) -> tuple[list[Entry], str]:
    """Without seeds and detectors that were only begun, for a mean is over equal cells; and a sentence on them.

    A seed is begun if no detector has all runs there that it has in the first seed, a detector if it has all sets and
    seeds of no ratio. A run that failed was run.
    """
    runs: dict[str, dict[str, set[tuple[object, ...]]]] = {}  # by seed and detector
    for each in entries:
        of_seed = runs.setdefault(each.row["seed"], {})
        of_seed.setdefault(each.planned.variant, set()).add(_place(each)[1:3])
    seeds = sorted(runs, key=int)
    first = runs[seeds[0]]
    begun = [
        seed for seed in seeds[1:] if not any(first.get(name, {None}) <= found for name, found in runs[seed].items())
    ]
    kept = [each for each in entries if each.row["seed"] not in begun]
    places = {_place(each) for each in kept}
    names, groups = dict.fromkeys(each.planned.variant for each in kept), {place[1] for place in places}
    cells = {place[2:] for place in places}
    some = [name for name in names if not any(all((name, at, *cell) in places for cell in cells) for at in groups)]
    kept = [each for each in kept if each.planned.variant not in some] if len(some) < len(names) else kept
    said = [*(f"seed {seed}" for seed in begun), *(some if len(some) < len(names) else ())]
    return kept, f"Begun, and in none of these figures: {', '.join(said)}." if said else ""


def _not_begun(entries: Sequence[Entry], name: str) -> str:
    """The ratios, protocols and detectors of the form that have no row yet."""
    size, begun = name.rpartition("_")[2], {part for each in entries for part in (each.planned.group, each.variant)}
    waiting = [part for part in (*groups_of(size), *detectors_of(size)) if part not in begun]
    return f"Not run yet, and in none of these figures: {', '.join(waiting)}." if waiting else ""


def _repeated(done: Sequence[Entry]) -> str:
    """The protocols whose training sets are those of another: where sets are small, there is little to draw."""
    drawn: dict[str, set[tuple[object, ...]]] = {}
    for each in done:
        drawn.setdefault(each.group, set()).add((each.planned.cell.category, each.row["seed"], each.row["manifest"]))
    alike: dict[frozenset[tuple[object, ...]], list[str]] = {}
    for group, sets in drawn.items():
        alike.setdefault(frozenset(sets), []).append(group)
    same = [f"{' and '.join(others)} as {first}" for first, *others in alike.values() if others]
    return f"The same images are drawn for {', for '.join(same)}: their figures repeat." if same else ""


def _clock(data: pd.DataFrame) -> str:
    """A sentence where runs took much longer by the clock than of the processor: other programs ran beside."""
    runs = data.drop_duplicates("run").dropna(subset=["cpu_seconds"])
    clock, processor = runs[list(CLOCK)].sum().sum(), runs["cpu_seconds"].sum()
    if not processor or clock < BUSY * processor:
        return ""
    return (
        f"The runs took {clock / processor:.1f} times as long by the clock as of the processor: other programs ran "
        "beside, and seconds of this record compare nothing but by their order."
    )


def _leader(data: pd.DataFrame, mode: str, level: str, failed: Sequence[str] = ()) -> list[str]:
    """Who has the highest mean image AUROC of the detectors that lack no cell, and whether a test supports it.

    `failed` are detectors without any figure.
    """
    part = data[(data["mode"] == mode) & (data["group"] == level)]
    if part.empty:
        return []
    values = wide(part, "image_auroc", data[data["mode"] == mode])
    whole = values.dropna(axis=1)
    where = f"{PROTOCOLS[mode]}, {level}"
    lacking = [*(str(name) for name in values if values[name].isna().any()), *failed]
    without = f" Not ranked, for cells that they lack: {', '.join(lacking)}." if lacking else ""
    if whole.shape[1] < 2:
        alone = f"only {whole.columns[0]} has all cells" if whole.shape[1] else "no detector has all cells"
        return [f"{where}: {alone}, so nobody leads.{without}"]
    means = whole.mean().sort_values(ascending=False, kind="stable")  # of equal ones the first, as in the test
    best, second = str(means.index[0]), str(means.index[1])
    nearest = {each.other: each for each in compare_with_best(whole)}[second]
    supported = nearest.p_holm < LEVEL
    said = f"{where}: {best} {'leads with a' if supported else 'has the highest'} mean image AUROC of "
    said += f"{100 * means.iloc[0]:.1f}, then {second} with {100 * means.iloc[1]:.1f} "
    tells = "" if supported else "; the test does not tell them apart"
    said += f"(p = {nearest.p_holm:.2g} of {nearest.pairs} pairs after Holm{tells})"
    if best != DEFAULT_DETECTOR and DEFAULT_DETECTOR in means:
        said += f"; {DEFAULT_DETECTOR}, ours, has {100 * means[DEFAULT_DETECTOR]:.1f}"
        by_set = (whole[DEFAULT_DETECTOR] - whole[best]).groupby(level="label").mean().sort_values()
        behind = [f"{label} ({100 * value:+.1f})" for label, value in by_set.items() if round(100 * value, 1) < 0]
        said += f", behind on {', '.join(behind)}" if behind else ""
    return [f"{said}.{without}"]
