"""Run the cells of experiments one after the other, each once, and leave tables. Finished runs are never lost."""

import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from blemish.benchmark.cells import MODES_KEPT, Cell
from blemish.benchmark.datasets import Category, open_datasets
from blemish.benchmark.experiments import Experiment, Planned, Size, lacking
from blemish.benchmark.jobs import Task, job
from blemish.benchmark.manifest import ABOUT, Manifest
from blemish.benchmark.provenance import commit, machine
from blemish.benchmark.published import differences
from blemish.benchmark.results import COSTS, DONE, FAILED, FORMAT_VERSION, Results, now, only_writer
from blemish.benchmark.tables import write_tables
from blemish.machine.errors import BlemishError, RequestError
from blemish.machine.measuring import peak_memory_mib
from blemish.machine.ray_tasks import in_tasks
from blemish.machine.runtime import runtime

MANIFESTS, RUNS = "manifests", "runs"
CLEAR = Path("/proc/self/clear_refs")
MADE_BY = ("choice", "version", "commit", "machine")  # of a row, by what computed it
PAUSE = 20  # tables of a large bench take seconds: they are written again after twenty times as long


@dataclass(frozen=True)
class Step:
    """A cell with all it needs: a run that is done, failed or still to do."""

    run: str
    cell: Cell
    category: Category | None = None
    manifest: Manifest | None = None
    problem: str = ""

    def images(self) -> int:
        """How many images take part."""
        if self.category is None or self.manifest is None:
            return 0
        limited = self.cell.of(self.category)
        return len(self.manifest.training) + len(limited.normals) + len(limited.anomalies)

    @property
    def work(self) -> str:
        """See `Cell.work`."""
        return self.cell.work(self.manifest, self.category)


@dataclass(frozen=True)
class Plan:
    """What is to be run for each experiment, each run once; how data differ from the papers', what is left out."""

    experiments: Sequence[Experiment]
    planned: Mapping[str, Sequence[Planned]]
    steps: Mapping[str, Step]
    runs: Mapping[str, Sequence[str]]
    size: Size
    data: Mapping[str, str]
    left_out: str = ""

    def notes(self, name: str) -> list[str]:
        """What was guessed or left out in the split files that the experiment `name` trains on, a sentence each."""
        manifests = [self.steps[run].manifest for run in self.runs[name]]
        return list(dict.fromkeys(note for each in manifests if each is not None for note in each.notes))


def plan(
    experiments: Sequence[Experiment], data: Path | None, size: Size, categories: Sequence[str] | None = None
) -> Plan:
    """Find the images, draw every manifest. Raises `RequestError` where an experiment has nothing to run on."""
    found: list[Category] = []
    if any(each.needs for each in experiments):
        if data is None:
            needy = next(each.name for each in experiments if each.needs)
            raise RequestError(f"{needy} needs images; name the folder of a dataset with `data`.")
        found = open_datasets(data, categories)
    by_name = {str(each): each for each in found}
    for category in found:
        other = by_name[str(category)]
        if other is not category:
            raise RequestError(f"'{category.root}' and '{other.root}' both hold {category}; name one with `data`.")
    left_out = "; ".join(f"{category} has no {lacking(category)}" for category in found if lacking(category))
    planned = {each.name: each.plan(found, size) for each in experiments}
    for each in experiments:
        if not planned[each.name]:
            said = f"it needs {each.needs}{f'; {left_out}' if left_out else ''}."
            raise RequestError(f"{each.name} has nothing to run on at '{data}': {said}")
    steps: dict[str, Step] = {}
    runs: dict[str, list[str]] = {}
    for name, entries in planned.items():
        runs[name] = []
        for entry in entries:
            step = _step(entry.cell, by_name.get(entry.cell.category))
            steps.setdefault(step.run, step)
            runs[name].append(step.run)
    taken = {name: dict.fromkeys(entry.cell.category for entry in entries) for name, entries in planned.items()}
    data_of = {name: differences([by_name[each] for each in names if each]) for name, names in taken.items()}
    return Plan(experiments, planned, steps, runs, size, data_of, f"Left out: {left_out}." if left_out else "")


def _step(cell: Cell, category: Category | None) -> Step:
    if category is None:
        return Step(cell.run(None), cell)
    try:
        manifest = cell.manifest(category)
    except RequestError as error:
        return Step(cell.run(None, category), cell, category, None, str(error))
    return Step(cell.run(manifest, category), cell, category, manifest)


def todo(plan: Plan, results: Results) -> list[Step]:
    """The steps without rows."""
    finished = {row["run"] for row in results.rows}
    return [step for run, step in plan.steps.items() if run not in finished]


def repeated(plan: Plan, steps: Sequence[Step]) -> dict[str, str]:
    """Of `steps`, those on the same images as an earlier step of the plan: its run by theirs. They are not run."""
    first: dict[str, str] = {}
    for run, step in plan.steps.items():
        first.setdefault(step.work, run)
    return {step.run: first[step.work] for step in steps if first[step.work] != step.run}


@dataclass(frozen=True)
class Outcome:
    """What a bench left: tables by experiment, and how many runs were done now, earlier, and failed."""

    tables: Mapping[str, Path]
    done: int
    earlier: int
    failed: int


def run(plan: Plan, out: Path, *, retry: bool = False, form: str = "md") -> Outcome:
    """Run what `out` lacks and write the tables there, as Markdown and in `form`, see `formats.FORMATS`.

    A run that fails stays as a row with its reason, and the others go on; `retry` runs it again. Raises
    `RequestError` if `out` holds results of another version, or another bench writes to it.
    """
    out = out.expanduser()
    with only_writer(out):
        results = Results.read(out)
        if retry:
            results.drop_failed()
        steps = todo(plan, results)
        same = repeated(plan, steps)
        write_manifests(steps, out)
        runtime().progress("runs", 0, len(steps))
        waiting, pause = [], 0.0  # runs that no table shows yet; seconds until tables are written again
        last = perf_counter()
        try:
            computed = _rows_of_all([step for step in steps if step.run not in same], out)
            for number, step in enumerate(steps, start=1):
                results.add(_rows_again(step, results.of(same[step.run])) if step.run in same else next(computed))
                runtime().progress("runs", number, len(steps))
                waiting.append(step.run)
                if (start := perf_counter()) - last > pause:
                    _write(plan, results, out, just=waiting)
                    waiting, last = [], perf_counter()
                    pause = PAUSE * (last - start)
        except BaseException:
            _write(plan, results, out, just=waiting)
            raise
        tables = _write(plan, results, out, form=form)
    wanted = [row for row in results.rows if row["run"] in plan.steps]
    failed = {row["run"] for row in wanted if row["status"] == FAILED}
    return Outcome(tables, len(steps), len(plan.steps) - len(steps), len(failed))


def _rows_of_all(steps: Sequence[Step], out: Path) -> Iterator[list[dict[str, Any]]]:
    """The rows of each step in turn; on a cluster several at a time, all of which write below `out`."""
    if runtime().ray and steps:
        yield from in_tasks(_rows_in_task, out.absolute(), steps)
    else:
        for step in steps:
            yield rows_of(step, out / RUNS / step.run)


def _rows_again(step: Step, rows: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """The rows of a run on the same images, in the place of `step`, at no cost."""
    kept = step.cell.extra.get(MODES_KEPT)
    base = {name: value for name, value in _base(step).items() if name not in MADE_BY}
    base |= dict.fromkeys((*COSTS, "cpu_seconds"), "")
    return [
        {**row, **base, "as_run": row["run"]} for row in rows if kept is None or not row["mode"] or row["mode"] in kept
    ]


def _rows_in_task(out: Path, step: Step) -> list[dict[str, Any]]:
    """On a worker. Raises `RequestError` where it does not see the folder of the results."""
    if not out.is_dir():
        raise RequestError(
            f"A node of the cluster does not see '{out}'; bench needs `out` and `data` on a shared disk."
        )
    return rows_of(step, out / RUNS / step.run)


def write_manifests(steps: Iterable[Step], out: Path) -> None:
    """Write the manifest of every step, before anything is run: what was trained on is on record."""
    for step in steps:
        if step.manifest is not None:
            folder = out / MANIFESTS / step.manifest.hash
            if not (folder / ABOUT).exists():
                step.manifest.write(folder)


def rows_of(step: Step, place: Path) -> list[dict[str, Any]]:
    """The rows of one run; a failure is a row, too."""
    base = _base(step)
    with suppress(OSError):
        CLEAR.write_text("5", encoding="ascii")  # Linux: the most memory held is counted from here on
    start = process_time()
    try:
        if step.problem:
            raise RequestError(step.problem)
        limited = step.cell.of(step.category) if step.category is not None else None
        rows = job(step.cell.job)(Task(step.cell, limited, step.manifest, place))
    except BlemishError as error:
        rows = [{"status": FAILED, "reason": str(error)}]
    except Exception as error:  # whatever a detector throws must not cost the runs that follow
        rows = [{"status": FAILED, "reason": f"{type(error).__name__}: {error}"}]
        place.mkdir(parents=True, exist_ok=True)
        (place / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
    costs = {"peak_mib": peak_memory_mib(), "cpu_seconds": process_time() - start}
    return [{**base, "status": DONE, **costs, **row, "time": now()} for row in rows]


def _base(step: Step) -> dict[str, Any]:
    cell, manifest = step.cell, step.manifest
    dataset, _, category = cell.category.partition("/")
    return {
        **asdict(cell),
        "format": FORMAT_VERSION,
        "run": step.run,
        "dataset": dataset,
        "category": category,
        "reached": manifest.reached if manifest else None,
        "contamination": manifest.contamination if manifest else None,
        "manifest": manifest.hash if manifest else None,
        "choice": "",
        "version": version("blemish"),
        "commit": commit(),
        "machine": machine(),
    }


def _write(
    plan: Plan, results: Results, out: Path, just: Sequence[str] | None = None, form: str = "md"
) -> dict[str, Path]:
    """Tables and plots of all experiments; tables alone, of those that the runs `just` done belong to."""
    return {
        each.name: write_tables(
            each,
            plan.planned[each.name],
            plan.runs[each.name],
            results,
            out / each.name,
            notes=(
                f"Form: {plan.size.name}." if each.own_sizes else plan.size.about_it,
                "" if each.own_sizes and not each.published else plan.data[each.name],
                plan.left_out if each.needs else "",
                *plan.notes(each.name),
            ),
            plots=just is None,
            form=form,
        )
        for each in plan.experiments
        if just is None or not set(just).isdisjoint(plan.runs[each.name])
    }
