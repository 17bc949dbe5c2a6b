"""What a command says of the Run that it fitted."""

from pathlib import Path
from typing import TYPE_CHECKING

from blemish.cli.console import skipped_line, tell

if TYPE_CHECKING:
    from blemish.runs.run import Run


def tell_fitted(run: "Run", out: Path, *, quiet: bool, as_json: bool) -> None:
    """Print how many images seem bad and where the report is, as lines or as JSON."""
    count = len(run.training_scores)
    flagged = int((run.training_scores > run.threshold_).sum())
    purified = run.about.get("purification")
    findings = [*run.about.get("notes", []), *run.about.get("findings", [])]
    summary = {
        "out": str(out),
        "images": count,
        "flagged": flagged,
        "skipped": len(run.skipped),
        "set_aside": purified["images"] - purified["kept"] if purified else 0,
        "notes": [*(purified["notes"] if purified else []), *findings],
        "threshold": run.threshold_,
        "contamination": run.contamination_,
        "supported": run.decision.supported,
        "threshold_interval": run.decision.threshold_interval,
        "contamination_interval": run.decision.contamination_interval,
        "report": str(out / "report.html"),
    }
    bad = round(run.contamination_ * count)
    lines = [
        f"About {bad} of {count} images seem to show a defect{_between(run.decision.contamination_interval, count)} "
        f"({flagged} flagged above {run.threshold_:.4g})."
        if run.decision.supported
        else f"{run.decision.rule} The ranking stands all the same: look at its top.",
        *([f"{summary['set_aside']} images were set aside before the detector learned."] if purified else []),
        *(purified["notes"] if purified else []),
        *findings,
        *skipped_line(len(run.skipped), out),
        f"Report: {out / 'report.html'}",
    ]
    tell(lines, summary, quiet=quiet, as_json=as_json)


def _between(interval: tuple[float, float] | None, count: int) -> str:
    """The interval as numbers of images, if there is one."""
    if interval is None:
        return ""
    return f", {round(interval[0] * count)} to {round(interval[1] * count)} by resampling"
