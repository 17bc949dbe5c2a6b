"""`blemish bench` from its request to its report."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from blemish.benchmark.contamination import POLICIES
from blemish.benchmark.durations import expected_seconds
from blemish.benchmark.experiments import COMPARE, FULL, QUICK, STANDARD, compare, experiment
from blemish.benchmark.experiments.compare import DETECTORS, RATIOS
from blemish.benchmark.results import Results
from blemish.benchmark.run import Plan, plan, run, todo
from blemish.machine.errors import RequestError

SIZES = {size.name: size for size in (QUICK, STANDARD, FULL)}


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
    dry_run: bool = False,
    retry: bool = False,
) -> Report:
    """Run experiments on labelled images and leave results.csv, table.md and plots in `out`, a folder an experiment.

    Parameters
    ----------
    names : of `EXPERIMENTS`, or "compare".
    data : the folder of a dataset; some experiments need none.
    size : "quick", "standard" or "full".
    categories : which to take, CATEGORY, DATASET or DATASET/CATEGORY; all by default.
    detectors, ratios, policy : for "compare".
    manifest : for "compare": what to train on instead, a manifest or a split file of others; see `read_manifest`.
    dry_run : plan only.
    retry : run failed runs again.

    Raises
    ------
    RequestError : for a wrong name, data that do not fit, or an `out` with other results.
    """
    chosen = replace(SIZES[size], seeds=seeds) if seeds else SIZES[size]
    if categories:  # those that are named are all run; the first one alone is for those that are not
        chosen = replace(chosen, categories=None, ablated=None)
    if (detectors or ratios or manifest or policy) and COMPARE not in [name.lower() for name in names]:
        raise RequestError(
            f"`detectors`, `contamination`, `policy` and `manifest` are for `{COMPARE}`; {names[0]} names its own."
        )
    if manifest and (ratios or policy):
        raise RequestError("A manifest says what is trained on; leave out `contamination` and `policy`.")
    own = compare(
        detectors or DETECTORS,
        (0.0,) if manifest else ratios or RATIOS,
        chosen.seeds,
        policy=policy or POLICIES[0],
        manifest=Path(manifest) if manifest else None,
    )
    wanted = [own if name.lower() == COMPARE else experiment(name) for name in dict.fromkeys(names)]
    out = Path(out).expanduser()
    planned = plan(wanted, Path(data) if data is not None else None, chosen, categories)
    if dry_run:
        return _dry(planned, Results.read(out, mend=False))
    outcome = run(planned, out, retry=retry)
    lines = [note for each in wanted for note in planned.notes(each.name)]
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
    return Report(lines, summary, outcome.failed)


def _dry(planned: Plan, results: Results) -> Report:
    """The plan, a line an experiment, and the time it will take."""
    seconds, guesses = expected_seconds(planned, results)
    left = todo(planned, results)
    waiting = {step.run for step in left}
    lines = []
    for each in planned.experiments:
        runs = dict.fromkeys(planned.runs[each.name])
        kinds = dict.fromkeys(entry.variant for entry in planned.planned[each.name])
        said = f"{len(runs)} runs, {sum(run in waiting for run in runs)} to do"
        lines.append(f"{each.name}: {said}: {', '.join(kinds)}")
        lines += [f"    {note}" for note in planned.notes(each.name)]
    lines += [f"    cannot run: {step.cell.category}: {step.problem}" for step in left if step.problem]
    basis = "of one core, from earlier runs here or seconds an image measured elsewhere"
    guessed = f"; a guess for {guesses} of {len(left)}" if guesses else ""
    lines.append(f"{len(left)} runs to do, about {max(1, round(seconds / 60))} minutes ({basis}{guessed}).")
    return Report(lines, {"runs": len(left), "minutes": round(seconds / 60, 1), "guessed": guesses})
