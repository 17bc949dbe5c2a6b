"""`blemish evaluate` and `blemish compare`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import errors_as_sentences, tell
from blemish.cli.options import Debug, Json, Quiet

if TYPE_CHECKING:
    from blemish.detectors.funad.curve import BankPurity

Labels = Annotated[
    Path | None, typer.Option("--labels", help="A labels.csv of a review, or a table path,label with good and bad.")
]


def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder that `fit` or `score` left.", show_default=False)],
    labels: Labels = None,
    purity: Annotated[
        Path | None,
        typer.Option("--purity", help="Folder for a table and a plot of how pure funad's banks were as it learned."),
    ] = None,
    reliability: Annotated[
        Path | None, typer.Option("--reliability", help="Folder for a table and a plot of how well the chances held.")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Tell how good the ranking and the flags are on the images that somebody labelled."""
    with errors_as_sentences(debug):
        from blemish.detectors.funad.curve import write_purity
        from blemish.jobs.evaluation import evaluate as of
        from blemish.jobs.evaluation import write_reliability

        found = of(run, labels)
        if reliability:
            write_reliability(reliability.expanduser(), found.reliability)
        if purity:
            write_purity(purity.expanduser(), found.bank_purity)
    lines = [
        f"{found.images} labelled images, {found.bad} of them bad.",
        f"Ranking: AUROC {_number(found.auroc)}{_between(found.auroc_interval)}, average precision "
        f"{_number(found.average_precision)}.",
        f"Flags above {found.threshold:.4g}: found {_number(found.recall)}{_between(found.recall_interval)} of the bad "
        f"ones, flagged {_number(found.false_alarms)}{_between(found.false_alarms_interval)} of the good; precision "
        f"{_number(found.precision)}{_between(found.precision_interval)}, F1 {_number(found.f1)}"
        f"{_between(found.f1_interval)}.",
        f"The best threshold for these labels is {_number(found.best_threshold)}, with F1 {_number(found.best_f1)}.",
        *(
            f"Of {each.count} images with a chance of about {each.promised:.0%} of being bad, {each.bad:.0%} were."
            for each in found.reliability
        ),
        *_of_banks(found.bank_purity),
        *found.notes,
    ]
    tell(lines, asdict(found), quiet=quiet, as_json=as_json)


def compare(
    first: Annotated[Path, typer.Argument(help="The folder that one `fit` or `score` left.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="The folder of another, of the same images.", show_default=False)],
    labels: Labels = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Tell how two Runs of the same images differ: rankings, flags, and with labels which is better."""
    with errors_as_sentences(debug):
        from blemish.jobs.evaluation import compare as of

        found = of(first, second, labels)
    both, one, other = found.flagged
    lines = [
        f"{found.images} images in both, {found.only_one} in one only. Rank correlation {found.agreement:.3f}.",
        f"Flagged by both {both}, by the first only {one}, by the second only {other}.",
    ]
    if found.auroc and found.difference:
        change, low, high = found.difference
        lines.append(
            f"AUROC {found.auroc[0]:.3f} and {found.auroc[1]:.3f}; the second is better by {change:+.3f} "
            f"({low:+.3f} to {high:+.3f})."
        )
    lines += [f"  {name}: rank {before} -> {after}" for name, before, after in found.moved if before != after]
    tell([*lines, *found.notes], asdict(found), quiet=quiet, as_json=as_json)


def _between(interval: tuple[float, float] | None) -> str:
    return f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""


def _of_banks(banks: "Sequence[BankPurity]") -> list[str]:
    """A sentence on the first and the last banks, if there are any."""
    if not banks:
        return []
    steps = {each.step for each in banks}
    found = [
        f"{_mean([each.purity for each in banks if each.step == step])} at step {step}"
        for step in sorted({min(steps), max(steps)})
    ]
    return [f"Good, of the labelled images in the banks of funad: {', '.join(found)}."]


def _mean(values: "Sequence[float | None]") -> str:
    found = [value for value in values if value is not None]
    return _number(sum(found) / len(found) if found else None)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
