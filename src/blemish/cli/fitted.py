"""What a command prints of the Run that it fitted."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from blemish.cli.console import command_line, skipped_line, tell, worst_lines, worst_of

if TYPE_CHECKING:
    from blemish.calibration import Decision
    from blemish.runs.run import Run


def tell_fitted(run: "Run", out: Path, notes: Sequence[str] = (), *, quiet: bool, as_json: bool) -> None:
    """Print how many images seem bad, further `notes` and where the report is, as lines or as JSON."""
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
    place = "" if decision.sensitivity is None else f" (sensitivity {decision.sensitivity:g} of 0 to 1)"
    lines = [
        *found(decision, count),
        f"{flagged} {'is' if flagged == 1 else 'are'} flagged above {run.threshold_:.4g}{place}: "
        f"{bands.count('reject')} to reject, {bands.count('look')} to look at, {bands.count('pass')} pass.",
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


def found(decision: "Decision", count: int) -> list[str]:
    """How many of `count` images are bad, in a sentence."""
    interval = decision.contamination_interval
    bad = round(decision.contamination * count)
    if interval is None:
        return [f"{bad} of {count} images are taken for bad."]
    low, high = (round(share * count) for share in interval)
    if decision.answer == "none":
        return [f"No sign of defects in {count} images; at most {high} may be bad."]
    if decision.answer == "unclear":
        return [
            f"It is unclear which of {count} images are bad: perhaps {bad}, between {low} and {high} in nine of "
            "ten cases. The ranking holds."
        ]
    return [f"About {bad} of {count} images are bad, between {low} and {high} in nine of ten cases."]
