"""`blemish bench` from its request to its report."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from blemish.benchmark.cells import Cell
from blemish.benchmark.contamination import POLICIES
from blemish.benchmark.experiments import (
    COMPARE,
    FULL,
    QUICK,
    RECORD,
    STANDARD,
    Experiment,
    compare,
    experiment,
    record,
)
from blemish.benchmark.experiments.compare import DETECTORS, RATIOS
from blemish.benchmark.formats import FORMATS
from blemish.benchmark.mlflow_log import MLflowExperiment
from blemish.benchmark.plan import Plan, plan, repeated, run, todo
from blemish.benchmark.provenance import (
    check_hashes,
    commit,
    hashes,
    machine,
    read_experiment,
    versions,
    write_experiment,
)
from blemish.benchmark.record_page import folder_of_record, write_page
from blemish.benchmark.results import DONE, Results
from blemish.machine.errors import RequestError

YAML = (".yaml", ".yml")
SIZES = {size.name: size for size in (QUICK, STANDARD, FULL)}
# CPU seconds of a run per image of training and test, features ready; the second is of the quick form. Rough: the first
# of the one-class detectors come from benchmarks/detectors.md, the others were judged from fits of 150 to 840 images on
# a shared machine; the second were measured on 71 images by the quick form (benchmarks/papers.md).
SECONDS: Mapping[str, tuple[float, float]] = {
    "nearest_images": (0.02, 0.02),
    "patchcore": (0.06, 0.018),
    "softpatch": (0.07, 0.04),
    "padim": (0.04, 0.05),
    "inreach": (0.2, 0.043),
    "simplenet": (0.24, 0.052),
    "funad": (0.1, 0.05),
}
PURIFIED = 2.0  # times as long as without a purification
FEATURES = 0.08  # seconds of one core per image
SEMANTIC, SEMANTIC_FEATURES = 0.01, 0.02  # the same where an image is one patch
CHOICES = 2.0  # times as long where every snapshot is measured
WITHOUT_IMAGES = 5.0  # seconds of a run that needs no images


@dataclass(frozen=True)
class Report:
    """What to tell: lines for people, a summary for programs, and how many runs failed."""

    lines: list[str]
    summary: dict[str, Any]
    failed: int = field(default=0)


def bench(
    names: Sequence[str],
    out: str | Path,
    *,
    data: str | Path | None = None,
    size: str = STANDARD.name,
    categories: Sequence[str] | None = None,
    detectors: Sequence[str] | None = None,
    ratios: Sequence[float] | None = None,
    seeds: int | None = None,
    policy: str | None = None,
    manifest: str | Path | None = None,
    form: str = "md",
    page: str | Path | None = None,
    dry_run: bool = False,
    retry: bool = False,
    mlflow: str | None = None,
) -> Report:
    """Run experiments on labelled images and leave results.csv, tables and plots in `out`, a folder an experiment.

    Parameters
    ----------
    names : of `EXPERIMENTS`, or "compare"; or one `experiment.yaml` that an earlier bench left, to run it again.
    data : the folder of a dataset; some experiments need none. For an `experiment.yaml`, where its images are now, as
        `manifest` says where its list is.
    size : "quick", "standard" or "full".
    categories : which to take, CATEGORY, DATASET or DATASET/CATEGORY; all by default.
    detectors : for "compare" and "record". ratios, policy : for "compare".
    manifest : for "compare": what to train on instead, a manifest or a split file of others; see `read_manifest`.
    form : of the tables beside Markdown, of `formats.FORMATS`: "md", "latex" or "csv".
    page : for "record": write this Markdown page from the rows that are stored below `out`, and run nothing.
    dry_run : plan only.
    retry : run failed runs again.
    mlflow : an experiment of MLflow that gets the finished rows in the end, those of earlier calls, too, each once.
        Needs `pip install 'blemish[mlflow]'`.

    Raises
    ------
    RequestError : for a wrong name, data that do not fit, or an `out` with other results.
    """
    if form not in FORMATS:
        raise RequestError(f"`format` must be one of {', '.join(FORMATS)}; got '{form}'.")
    names = [name.lower() if name.lower() in (COMPARE, RECORD) else name for name in names]
    if page is not None:
        if names != [RECORD]:
            raise RequestError(f"`page` is made from the rows of `{RECORD}`; got {', '.join(names)}.")
        if mlflow is not None:
            raise RequestError("`page` runs and sends nothing; give `mlflow` without it.")
        target = Path(page).expanduser()
        return Report(write_page(Path(out).expanduser(), target), {"page": str(target)})
    request: dict[str, Any] = {
        "names": list(names), "data": _text(data), "size": size, "categories": _list(categories),
        "detectors": _list(detectors), "ratios": _list(ratios), "seeds": seeds, "policy": policy,
        "manifest": _text(manifest),
    }  # fmt: skip
    rerun = Path(names[0]).expanduser() if len(names) == 1 and names[0].endswith(YAML) else None
    if rerun is not None:
        kept = read_experiment(rerun, request)
        places = {name: request[name] for name in ("data", "manifest") if request[name]}
        if any(request[name] for name in request if name not in ("names", "size", *places)) or size != STANDARD.name:
            raise RequestError(f"'{rerun}' says what is run; give it `data`, `manifest` and `out` alone.")
        if manifest is not None and not kept["request"].get("manifest"):
            raise RequestError(f"'{rerun}' draws its training images by seed; leave out `manifest`.")
        request = {**request, **kept["request"], **places}
    planned = _planned(request)
    out = Path(out).expanduser()
    if RECORD in request["names"]:
        if len(request["names"]) > 1:
            raise RequestError(f"`{RECORD}` has a folder for each machine and version; run it by itself.")
        out = out / folder_of_record(request["size"])
    lines = []
    if rerun is not None:
        check_hashes(rerun, kept["hashes"], _hashes(planned, request["names"]))
        lines += _changed(kept)
    if dry_run:
        return _dry(planned, Results.read(out, mend=False))
    experiment_log = MLflowExperiment(mlflow) if mlflow is not None else None
    outcome = run(planned, out, retry=retry, form=form)
    for each in planned.experiments:
        own = {**request, "names": [each.name]}
        write_experiment(out / each.name, own, _hashes(planned, [each.name]))
        lines += planned.notes(each.name)
    lines += [f"{name}: {path}" for name, path in outcome.tables.items()]
    earlier = f", {outcome.earlier} were there already" if outcome.earlier else ""
    lines.append(f"{outcome.done} runs done{earlier}; results: {out / 'results.csv'}")
    if outcome.failed:
        lines.append(f"{outcome.failed} runs failed; the tables say why. Run them again with `retry`.")
    summary = {
        "out": str(out),
        "tables": {name: str(path) for name, path in outcome.tables.items()},
        "runs": outcome.done,
        "earlier": outcome.earlier,
        "failed": outcome.failed,
    }
    if experiment_log is not None:
        rows = [row for row in Results.read(out, mend=False).rows if row["run"] in planned.steps]
        summary["mlflow"] = experiment_log.send(rows)
        lines.append(f"{summary['mlflow']} rows sent to the experiment '{mlflow}' of MLflow")
    return Report(lines, summary, outcome.failed)


def _planned(request: Mapping[str, Any]) -> Plan:
    """The plan of what is asked for. Raises `RequestError`."""
    names, seeds, manifest = request["names"], request["seeds"], request["manifest"]
    chosen = SIZES[request["size"]]
    chosen = replace(chosen, seeds=seeds) if seeds else chosen
    if request["categories"]:  # those that are named are all run; the first one alone is for those that are not
        chosen = replace(chosen, categories=None, ablated=None)
    own = [request[name] for name in ("ratios", "manifest", "policy")]
    if (any(own) and COMPARE not in names) or (request["detectors"] and not {COMPARE, RECORD} & set(names)):
        raise RequestError(
            f"`detectors`, `contamination`, `policy` and `manifest` are for `{COMPARE}`; {names[0]} names its own."
        )
    if manifest and (request["ratios"] or request["policy"]):
        raise RequestError("A manifest says what is trained on; leave out `contamination` and `policy`.")

    def made(name: str) -> Experiment:
        if name == RECORD:
            return record(request["detectors"])
        if name != COMPARE:
            return experiment(name)
        return compare(
            request["detectors"] or DETECTORS,
            (0.0,) if manifest else request["ratios"] or RATIOS,
            chosen.seeds,
            policy=request["policy"] or POLICIES[0],
            manifest=Path(manifest) if manifest else None,
        )

    wanted = [made(name) for name in dict.fromkeys(names)]
    return plan(wanted, Path(request["data"]) if request["data"] else None, chosen, request["categories"])


def _hashes(planned: Plan, names: Sequence[str]) -> dict[str, Any]:
    """What the experiments run on, as `experiment.yaml` keeps it."""
    chosen = {name.lower() for name in names}
    steps = [planned.steps[run] for name, runs in planned.runs.items() if name.lower() in chosen for run in runs]
    sets = {str(step.category): step.category.signature for step in steps if step.category is not None}
    return hashes((s.run for s in steps), (s.manifest.hash for s in steps if s.manifest is not None), sets)


def _changed(kept: Mapping[str, Any]) -> list[str]:
    """A sentence where this is another version or machine than an experiment was run with."""
    now = {**versions(), "commit": commit(), "machine": machine()}
    then = {**kept["versions"], "commit": kept["commit"], "machine": kept["machine"]}
    other = [f"{name} {now.get(name) or '-'}, not {was or '-'}" for name, was in then.items() if now.get(name) != was]
    return [f"Run with other versions than before: {'; '.join(other)}."] if other else []


def _text(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().resolve())


def _list(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)


def _dry(planned: Plan, results: Results) -> Report:
    """The plan, a line an experiment, and the time it will take."""
    seconds, unknown = expected_seconds(planned, results)
    left = todo(planned, results)
    waiting = {step.run for step in left}
    same = repeated(planned, left)
    lines = []
    for each in planned.experiments:
        runs = dict.fromkeys(planned.runs[each.name])
        kinds = dict.fromkeys(entry.variant for entry in planned.planned[each.name])
        said = f"{len(runs)} runs, {sum(run in waiting for run in runs)} to do"
        lines.append(f"{each.name}: {said}: {', '.join(kinds)}")
        lines += [f"    {note}" for note in planned.notes(each.name)]
    problems = Counter(step.problem for step in left if step.problem)
    lines += [f"    {times} of them cannot run: {problem}" for problem, times in problems.items()]
    basis = "of one core, from earlier runs here or seconds an image measured elsewhere"
    count = len(left) - len(same)
    apart = f"; without {unknown} of them, which nobody measured" if unknown else ""
    again = f"; {len(same)} more are on the same images as one of those and take its rows" if same else ""
    lines.append(f"{count} runs to do, about {max(1, round(seconds / 60))} minutes ({basis}{apart}){again}.")
    return Report(lines, {"runs": count, "repeated": len(same), "minutes": round(seconds / 60, 1), "unknown": unknown})


def expected_seconds(plan: Plan, results: Results) -> tuple[float, int]:
    """Seconds that what is still to do will take on one core, without the runs that nobody measured, and their number.

    Earlier runs of `results` tell best: they are of this machine.
    """
    earlier = _rates(results)
    seconds, unknown = 0.0, 0
    waiting = todo(plan, results)
    same = repeated(plan, waiting)
    waiting = [step for step in waiting if step.run not in same]
    for step in waiting:
        cell = step.cell
        purify = "" if cell.purify is None else json.dumps(dict(cell.purify), sort_keys=True)
        known = earlier.get((cell.job, cell.detector, cell.preset, purify))
        rate = median(known) if known else _measured(cell)
        unknown += rate is None
        seconds += 0.0 if rate is None else rate * step.images() or WITHOUT_IMAGES
    looked_at = {
        str(step.category): step.images() * (SEMANTIC_FEATURES if step.category.semantic else FEATURES)
        for step in waiting
        if step.category is not None
    }
    return seconds + sum(looked_at.values()), unknown


def _measured(cell: Cell) -> float | None:
    """Seconds per image of a run such as this; None if nobody measured one."""
    if not cell.detector:
        return 0.0  # statistics of features
    if cell.preset == "semantic":
        return SEMANTIC
    if cell.detector not in SECONDS or cell.preset not in ("", "quick"):
        return None
    rate = SECONDS[cell.detector][cell.preset == "quick"]
    return rate * (PURIFIED if cell.purify is not None else 1) * (CHOICES if cell.extra.get("choices") else 1)


def _rates(results: Results) -> dict[tuple[str, str, str, str], list[float]]:
    """Seconds per image of earlier runs by job, detector, preset and purification."""
    rates: dict[tuple[str, str, str, str], list[float]] = {}
    for row in results.rows:
        images = [float(row[name]) for name in ("train_images", "test_images") if row.get(name)]
        if row["status"] == DONE and row.get("cpu_seconds") and images:
            kind = (row["job"], row["detector"], row["preset"], row["purify"])
            rates.setdefault(kind, []).append(float(row["cpu_seconds"]) / sum(images))
    return rates
