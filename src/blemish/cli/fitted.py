"""What a command prints of the Run that it fitted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from blemish.cli.console import bands_line, command_line, skipped_line, tell, worst_lines, worst_of

if TYPE_CHECKING:
    from blemish.calibration import Decision
    from blemish.runs.run import Run


def tell_fitted(run: "Run", out: Path, notes: Sequence[str] = (), *, quiet: bool, as_json: bool) -> None:
    """Print how many images seem bad, further `notes` and where the report is, as lines or as JSON."""
    from blemish.report import headline

    count = len(run.training_scores)
    decision, bands = run.decision, run.decision.bands(run.training_scores)
    flagged = int((run.training_scores > run.threshold_).sum())
    purified = run.about.get("purification")
    worst = worst_of(run.scores, decision)
    features = run.images is not None and run.images.features_alone
    new = command_line("score", *(["--features", "NEW.npy"] if features else ["NEW_IMAGES"]), "--model", out)
    following = [new] if features else [command_line("review", out), new]
    findings = [*run.about.get("notes", []), *run.about.get("findings", []), *notes]
    summary = {
        "out": str(out),
        "images": count,
        "flagged": flagged,
        "skipped": len(run.skipped),
        "set_aside": purified["images"] - purified["kept"] if purified else 0,
        "notes": [*(purified["notes"] if purified else []), *findings],
        "threshold": run.threshold_,
        "contamination": run.contamination_,
        "expected_bad": round(run.contamination_ * count, 2),
        "answer": decision.answer,
        "advice": decision.advice,
        "contamination_interval": decision.contamination_interval,
        "reject": bands.count("reject"),
        "look": bands.count("look"),
        "sensitivity": decision.sensitivity,
        "promise": asdict(decision.promise) if decision.promise else None,
        "worst": worst,
        "report": str(out / "report.html"),
        "next": following,
    }
    counts = Counter(bands)
    lines = [
        headline(count, counts, decision),
        bands_line(counts, flagged, run.threshold_),
        *between(decision, count),
        *worst_lines(worst),
        *([decision.rule] if decision.promise or decision.sensitivity is None else []),
        *([decision.advice] if decision.advice else []),
        *([f"{summary['set_aside']} images were set aside before the detector learned."] if purified else []),
        *(purified["notes"] if purified else []),
        *findings,
        *skipped_line(len(run.skipped), out),
        f"Report: {out / 'report.html'}",
        f"Next: {'  or  '.join(following)}",
    ]
    tell(lines, summary, quiet=quiet, as_json=as_json)


def between(decision: "Decision", count: int) -> list[str]:
    """How many of `count` images may be bad, in a sentence; nothing where that was set by hand."""
    if decision.contamination_interval is None:
        return []
    low, high = (round(share * count) for share in decision.contamination_interval)
    return [f"With a probability of 90 %, {low} to {high} of them are bad."] if low < high else []
