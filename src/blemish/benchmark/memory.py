"""The most memory a run holds, apart from what earlier runs of the process held."""

from pathlib import Path

from blemish.jobs.outputs import peak_memory_mib

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """Start counting anew, where the system can."""
    try:
        CLEAR.write_text("5", encoding="ascii")  # Linux: resets the high-water mark
    except OSError:
        return


def peak_mib() -> float | None:
    """The most memory held since `forget_peak`, MiB; that of the whole process where the system tells no better."""
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
        marks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return round(int(marks[0]) / 1024, 1)
    except (OSError, IndexError, ValueError):
        return peak_memory_mib()
