"""The command line: one function a command; the work is in `jobs`."""

import io
import json
import logging
import math
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from blemish.errors import BlemishError, RequestError

INTERRUPTED = 130  # what shells report for Ctrl-C

app = typer.Typer(
    name="blemish",
    help="Finds defects in a folder of unlabelled images: ranks them, draws where, says how many are bad.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
cache_app = typer.Typer(help="The features kept on disk.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")

Out = Annotated[Path, typer.Option("--out", help="Folder to leave the results in.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Replace earlier results in that folder.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at an unreadable file instead of skipping it.")]
Device = Annotated[str, typer.Option("--device", help="A torch device, such as cpu or cuda:0.")]
Threads = Annotated[Optional[int], typer.Option("--threads", min=1, help="Cores to use; all by default.")]  # noqa: UP045
Cache = Annotated[Optional[Path], typer.Option("--cache", help="Folder to keep features in.")]  # noqa: UP045
MaxPixels = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--max-pixels", min=1, help="Skip images with more pixels; 180,000,000, or what the fit had."),
]
Levels = Annotated[
    Optional[tuple[float, float]],  # noqa: UP045
    typer.Option("--range", metavar="LOW HIGH", help="Levels of 16-bit images that become black and white."),
]
Threshold = Annotated[Optional[float], typer.Option("--threshold", help="Flag scores above this.")]  # noqa: UP045
Contamination = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--contamination", help="Share of the training images that is bad, 0 to 1: sets the threshold."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")]


@app.command()
def fit(
    images: Annotated[Path, typer.Argument(help="A folder of images, or a list of paths (.txt, .csv).")],
    out: Out,
    detector: Annotated[str, typer.Option(help="Which detector; see `blemish detectors`.")] = "memory_bank",
    fast: Annotated[
        bool, typer.Option("--fast", help="About three times the speed, a somewhat worse ranking.")
    ] = False,
    normals: Annotated[Optional[Path], typer.Option(help="A folder of images known to be good.")] = None,  # noqa: UP045
    levels: Levels = None,
    max_pixels: MaxPixels = None,
    threshold: Threshold = None,
    contamination: Contamination = None,
    setting: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of the detector; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same results.")] = 0,
    strict: Strict = False,
    force: Force = False,
    device: Device = "cpu",
    threads: Threads = None,
    cache: Cache = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn from a folder of unlabelled images which of them show defects, and leave a detector."""
    with _errors_as_sentences(debug), _progress(quiet or as_json) as progress:
        _check_exists(images)
        from blemish import jobs
        from blemish.decoding import MAX_PIXELS, Decoding
        from blemish.detectors import detector_class
        from blemish.detectors.settings import set_by_name

        kind = detector_class(detector)
        if kind.patent and not quiet:
            typer.echo(kind.patent, err=True)
        run = jobs.fit(
            images,
            out,
            detector=detector,
            fast=fast,
            normals=normals,
            threshold=threshold,
            contamination=contamination,
            decoding=Decoding(_checked_range(levels), max_pixels or MAX_PIXELS),
            strict=strict,
            force=force,
            seed=seed,
            settings=set_by_name(kind().settings(), _pairs(setting or [])),
            device=device,
            threads=threads,
            cache=cache,
            progress=progress,
        )
    count = len(run.training_scores)
    flagged = int((run.training_scores > run.threshold_).sum())
    summary = {
        "out": str(out),
        "images": count,
        "flagged": flagged,
        "skipped": len(run.skipped),
        "threshold": run.threshold_,
        "contamination": run.contamination_,
        "report": str(out / "report.html"),
    }
    lines = [
        f"About {round(run.contamination_ * count)} of {count} images seem to show a defect "
        f"({flagged} flagged above {run.threshold_:.4g}).",
        *_skipped_line(len(run.skipped), out),
        f"Report: {out / 'report.html'}",
    ]
    _tell(lines, summary, quiet=quiet, as_json=as_json)


@app.command()
def score(
    images: Annotated[Path, typer.Argument(help="A folder of images, or a list of paths (.txt, .csv).")],
    model: Annotated[Path, typer.Option(help="The folder that `fit` left.")],
    out: Out,
    threshold: Threshold = None,
    contamination: Contamination = None,
    levels: Levels = None,
    max_pixels: MaxPixels = None,
    strict: Strict = False,
    force: Force = False,
    device: Device = "cpu",
    threads: Threads = None,
    cache: Cache = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score new images with a detector that `fit` left."""
    with _errors_as_sentences(debug), _progress(quiet or as_json) as progress:
        _check_exists(images)
        from blemish import jobs

        scores, decision = jobs.score(
            images,
            model,
            out,
            threshold=threshold,
            contamination=contamination,
            levels=_checked_range(levels),
            max_pixels=max_pixels,
            strict=strict,
            force=force,
            device=device,
            threads=threads,
            cache=cache,
            progress=progress,
        )
    flagged = int((scores.image > decision.threshold).sum())
    summary = {
        "out": str(out),
        "images": len(scores),
        "flagged": flagged,
        "skipped": len(scores.skipped),
        "threshold": decision.threshold,
    }
    lines = [
        f"{flagged} of {len(scores)} images flagged above {decision.threshold:.4g}.",
        *_skipped_line(len(scores.skipped), out),
        f"Scores: {out / 'scores.csv'}",
    ]
    _tell(lines, summary, quiet=quiet, as_json=as_json)


@app.command()
def demo(
    out: Out = Path("demo"),
    count: Annotated[int, typer.Option(min=20, help="Images to make.")] = 120,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same images.")] = 0,
    force: Force = False,
    threads: Threads = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Make a contaminated folder from sample photos and run the main job on it."""
    with _errors_as_sentences(debug), _progress(quiet) as progress:
        from blemish.demo_job import run_demo

        lines = run_demo(out, count=count, seed=seed, force=force, threads=threads, progress=progress)
    _tell(lines, {}, quiet=quiet, as_json=False)


@app.command()
def detectors(as_json: Json = False, debug: Debug = False) -> None:
    """List the detectors and what they need."""
    with _errors_as_sentences(debug):
        from blemish.detectors import DEFAULT_DETECTOR, REGISTRY, detector_class

        kinds = [(name, detector_class(name)) for name in REGISTRY]
    rows = [
        {
            "name": name,
            "default": name == DEFAULT_DETECTOR,
            "summary": kind.summary,
            "source": kind.source,
            "least_images": kind.min_images,
            "patent": kind.patent,
            "settings": {key: str(value) for key, value in kind().settings().items()},
        }
        for name, kind in kinds
    ]
    lines = []
    for row in rows:
        lines.append(f"{row['name']}{' (default)' if row['default'] else ''}: {row['summary']}")
        lines.append(f"    after {row['source']}; needs {row['least_images']} images or more")
        if row["patent"]:
            lines.append(f"    {row['patent']}")
    _tell(lines, {"detectors": rows}, quiet=False, as_json=as_json)


@app.command()
def doctor(
    images: Annotated[int, typer.Option("--images", min=1, help="Expect a job of this many images.")] = 1000,
    network: Annotated[bool, typer.Option("--network", help="See whether a model hub can be reached.")] = False,
    threads: Threads = None,
    cache: Cache = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what is installed, which weights are there, and what a job of N images will cost."""
    with _errors_as_sentences(debug):
        from blemish.doctor import examine

        findings = examine(images, network=network, threads=threads, cache=cache)
    _tell([f"{name}: {value}" for name, value in findings.items()], findings, quiet=False, as_json=as_json)


@cache_app.command("list")
def cache_list(cache: Cache = None, as_json: Json = False, debug: Debug = False) -> None:
    """List the kept features, the last used first."""
    with _errors_as_sentences(debug):
        from blemish.features.cache import feature_sets

        found = feature_sets(_cache_folder(cache))
    rows = [{"settings": each.settings, "images": each.images, "mib": round(each.size / 2**20, 1)} for each in found]
    lines = [f"{row['images']:>8} images {row['mib']:>10} MiB  {row['settings']}" for row in rows]
    summary = {"cache": str(_cache_folder(cache)), "sets": rows}
    _tell([*lines, f"{len(rows)} sets in {_cache_folder(cache)}"], summary, quiet=False, as_json=as_json)


@cache_app.command("prune")
def cache_prune(
    keep: Annotated[float, typer.Option("--keep-gib", min=0, help="Keep the last used sets up to this size.")] = 0.0,
    cache: Cache = None,
    debug: Debug = False,
) -> None:
    """Remove kept features, the least recently used first; they are made again when needed."""
    with _errors_as_sentences(debug):
        from blemish.features.cache import prune

        dropped = prune(_cache_folder(cache), int(keep * 2**30))
    freed = sum(each.size for each in dropped) / 2**20
    typer.echo(f"Removed {len(dropped)} sets, {freed:.1f} MiB.")


def main() -> None:
    """Entry point of the `blemish` program."""
    for name in ("SIGTERM", "SIGHUP"):  # end as Ctrl-C does: nothing half done is left
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _as_interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module=r"PIL\.")  # what is wrong with a file stands in skipped.csv
    app()


def _as_interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - the signature is signal's
    raise KeyboardInterrupt


def _skipped_line(count: int, out: Path) -> list[str]:
    files = "1 file was" if count == 1 else f"{count} files were"
    return [f"{files} skipped; see {out / 'skipped.csv'}."] if count else []


def _cache_folder(given: Path | None) -> Path:
    from blemish.runtime import Runtime

    return given.expanduser() if given else Runtime().cache


def _check_exists(images: Path) -> None:
    """Tell of a wrong path before the seconds that importing torch takes."""
    if not images.expanduser().exists():
        from blemish.folders import find

        find(images.expanduser())


def _checked_range(levels: tuple[float, float] | None) -> tuple[float, float] | None:
    if levels and not -math.inf < levels[0] < levels[1] < math.inf:
        raise RequestError(f"--range needs two levels, the lower one first; got {levels[0]:g} {levels[1]:g}.")
    return levels


def _pairs(settings: list[str]) -> dict[str, str]:
    for text in settings:
        if "=" not in text:
            raise RequestError(f"--set takes NAME=VALUE; got '{text}'.")
    return {name.strip(): value.strip() for name, _, value in (text.partition("=") for text in settings)}


@contextmanager
def _progress(silent: bool) -> Iterator[Any]:
    from blemish.progress import progress_bars

    with progress_bars(shown=not silent) as progress:
        yield progress


@contextmanager
def _errors_as_sentences(debug: bool) -> Iterator[None]:
    try:
        yield
    except BlemishError as error:
        if debug:
            raise
        typer.echo(f"blemish: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        typer.echo("blemish: interrupted; no half-made results were left. Features made so far are kept.", err=True)
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


def _tell(lines: list[str], summary: dict[str, Any], *, quiet: bool, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(summary))  # ASCII: valid whatever the encoding of the terminal or pipe
    elif not quiet:
        for line in lines:
            typer.echo(line)


if __name__ == "__main__":
    main()
