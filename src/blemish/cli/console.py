"""What all commands do: show progress, tell results, turn errors into sentences."""

import functools
import inspect
import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from blemish.cli.options import Debug, as_typed, flags_of, with_metavars
from blemish.machine.errors import BlemishError, RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blemish.calibration import Decision
    from blemish.detectors import Detector
    from blemish.purification import PurifySettings
    from blemish.runs.run import Run
    from blemish.scores import Scores


WORST = 5  # images that a summary names
FLAGS: dict[str, str] = {}  # of the command that runs, by the name of the parameter
INTERRUPTED = 130  # what shells report for Ctrl-C
STOPPED = "interrupted; no half-made results were left. Features and sub-models made so far are kept."


def as_command(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer takes it: plain words for values, errors as sentences, and --debug to have their trace."""
    own = inspect.signature(with_metavars(command), eval_str=True).parameters.values()
    debug = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Debug)

    @functools.wraps(command)
    def run(*, debug: bool, **values: Any) -> None:
        FLAGS.clear()
        FLAGS.update(flags_of(run))
        with errors_as_sentences(debug):
            command(**values)

    run.__signature__ = inspect.Signature([*own, debug])  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in (*own, debug)}
    return run


@contextmanager
def progress_shown(shown: bool) -> Iterator[Any]:
    """The progress callback of a command, drawn as bars if shown."""
    from blemish.machine.progress import progress_bars

    with progress_bars(shown=shown) as progress:
        yield progress


@contextmanager
def errors_as_sentences(debug: bool) -> Iterator[None]:
    """Turn errors into one sentence on stderr and the exit code; with `debug` let them through."""
    try:
        yield
    except (typer.Exit, BrokenPipeError):  # who reads the output may have enough, as `head` has
        raise
    except BlemishError as error:
        if debug:
            raise
        typer.echo(f"blemish: {as_typed(str(error), FLAGS)}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt as stop:
        typer.echo(f"blemish: {str(stop) or STOPPED}", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        if debug:
            raise
        typer.echo(f"blemish: '{error.filename}' cannot be used: {error.strerror or error}.", err=True)
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        typer.echo(
            f"blemish: unexpected {type(error).__name__}: {error}. This is a fault of blemish; run again with --debug "
            "for the trace and report it.",
            err=True,
        )
        sys.exit(1)


def tell(lines: list[str], summary: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    """Print the summary as JSON, or the lines."""
    if as_json:
        typer.echo(json.dumps(summary))  # ASCII: valid whatever the encoding of the terminal or pipe
    elif not quiet:
        for line in lines:
            typer.echo(as_typed(line, FLAGS))


def command_line(*words: str | Path) -> str:
    """A command as a person types it."""
    return shlex.join(["blemish", *map(str, words)])


def skipped_line(count: int, out: Path) -> list[str]:
    """What to say of skipped files, if there are any."""
    files = "1 file was" if count == 1 else f"{count} files were"
    return [f"{files} skipped; see {out / 'skipped.csv'}."] if count else []


def check_exists(images: str) -> None:
    """Tell of a wrong path before the seconds that importing torch takes."""
    from blemish.images.urls import located

    if isinstance(path := located(images), Path) and not path.exists():
        from blemish.images.finding import find

        find(path)


def pairs(flag: str, settings: list[str]) -> dict[str, str]:
    """NAME=VALUE texts by name. Raises `RequestError` for a text without the sign."""
    for text in settings:
        if "=" not in text:
            raise RequestError(f"{flag} takes NAME=VALUE; got '{text}'.")
    found: dict[str, str] = {}
    for name, _, value in (text.partition("=") for text in settings):
        if name.strip() in found:
            raise RequestError(
                f"'{name.strip()}' is given twice: {found[name.strip()]} and {value.strip()}; give it once."
            )
        found[name.strip()] = value.strip()
    return found


def settings_of(kind: "type[Detector]", texts: list[str] | None) -> dict[str, Any]:
    """The settings of a detector from NAME=VALUE texts. Raises `RequestError`, with near names."""
    from blemish.detectors.settings import set_by_name

    return set_by_name(kind().settings(), pairs("--set", texts or []))


def purify_settings(texts: list[str] | None, *, before_fit: bool = False) -> "PurifySettings":
    """The settings of a purification, alone or before a fit, from NAME=VALUE texts.

    Raises `RequestError`, with near names.
    """
    from dataclasses import asdict

    from blemish.detectors.settings import set_by_name
    from blemish.purification import BEFORE_FIT, PurifySettings

    known = {**asdict(PurifySettings()), "keep": 1.0}  # a share, not the absence of one
    settings = BEFORE_FIT if before_fit else PurifySettings()
    return settings.changed(**set_by_name(known, pairs("--purify-set", texts or [])))


def tell_scores(
    out: Path,
    scores: "Scores",
    labels: "NDArray[np.int64] | None" = None,
    *,
    of_fit: bool,
    certainty: Sequence[str],
    notes: Sequence[str],
    following: Sequence[str],
    more: Mapping[str, Any],
    quiet: bool,
    as_json: bool,
) -> None:
    """Print what scores and their decision say, whether of a fit or of new images, as lines or as JSON.

    Parameters
    ----------
    labels : (N,), what people said of the images.
    of_fit : whether the decision was made for these images.
    certainty : sentences on how sure it is.
    notes : further sentences a person should read.
    following : commands to go on with.
    more : what the JSON has besides.
    """
    from blemish.calibration import BAND_WORDS
    from blemish.images import ANOMALOUS, NORMAL
    from blemish.report import headline

    decision = scores.decision
    if decision is None:
        raise TypeError("A Run scores with its decision.")
    bands = decision.bands(scores.image, labels)
    unjudged = bands if labels is None else np.array(bands)[~np.isin(labels, (NORMAL, ANOMALOUS))].tolist()
    flagged, counts = len(scores.flagged), Counter(bands)
    worst = [(name, scores[name], bands[scores.index(name)]) for name in scores.ranking()[:WORST]]
    width = min(60, max((len(name) for name, _, _ in worst), default=0))
    summary = {
        "out": str(out),
        "images": len(scores),
        "flagged": flagged,
        "skipped": len(scores.skipped),
        "reject": counts["reject"],
        "look": counts["look"],
        "threshold": decision.threshold,
        "sensitivity": decision.sensitivity,
        "notes": list(notes),
        "worst": [{"path": name, "score": score, "band": band} for name, score, band in worst],
        "report": str(out / "report.html"),
        "next": list(following),
    }
    lines = [
        headline(len(scores), Counter(unjudged), decision if of_fit else None),
        f"{counts['reject']} to reject, {counts['look']} to look at, {counts['pass']} pass. Flagged, which is above "
        f"{decision.threshold:.4g}: {flagged}.",
        *certainty,
        "The highest scores:",
        *(f"  {name:<{width}}  {score:8.4g}  {BAND_WORDS[band]}" for name, score, band in worst),
        *notes,
        *skipped_line(len(scores.skipped), out),
        f"Scores: {out / 'scores.csv'}",
        f"Report: {summary['report']}",
        *([f"Next: {'  or  '.join(following)}"] if following else []),
    ]
    tell(lines, {**summary, **more}, quiet=quiet, as_json=as_json)


def tell_fitted(run: "Run", out: Path, notes: Sequence[str] = (), *, quiet: bool, as_json: bool) -> None:
    """Print how many images seem bad, further `notes` and where the report is, as lines or as JSON."""
    from blemish.jobs.fitting import reviewed_labels

    count, decision = len(run.scores), run.decision
    purified = run.about.get("purification")
    aside = purified["images"] - purified["kept"] if purified else 0
    features = run.images is not None and run.images.features_alone
    new = command_line("score", *(["--features", "NEW.npy"] if features else ["NEW_IMAGES"]), "--model", out)
    findings = [*(purified["notes"] if purified else []), *run.about.get("notes", []), *run.about.get("findings", [])]
    tell_scores(
        out,
        replace(run.scores, skipped=run.skipped),
        reviewed_labels(run.images, run.scores.ids) if run.images is not None else None,
        of_fit=True,
        certainty=[
            *between(decision, count),
            *([decision.rule] if decision.promise or decision.sensitivity is None else []),
            *([decision.advice] if decision.advice else []),
            *([f"{aside} images were set aside before the detector learned."] if purified else []),
        ],
        notes=[*findings, *notes],
        following=[new] if features else [command_line("review", out), new],
        more={
            "set_aside": aside,
            "contamination": run.contamination_,
            "expected_bad": round(run.contamination_ * count, 2),
            "answer": decision.answer,
            "advice": decision.advice,
            "contamination_interval": decision.contamination_interval,
            "promise": asdict(decision.promise) if decision.promise else None,
        },
        quiet=quiet,
        as_json=as_json,
    )


def between(decision: "Decision", count: int) -> list[str]:
    """How many of `count` images may be bad, in a sentence; nothing where that was set by hand."""
    if decision.contamination_interval is None:
        return []
    low, high = (round(share * count) for share in decision.contamination_interval)
    return [f"With a probability of 90 %, {low} to {high} of the {count} are bad."] if low < high else []
