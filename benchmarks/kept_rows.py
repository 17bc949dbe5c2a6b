"""What the benchmarks of the line share: rows that are kept as they come, each made in a process of its own."""

import csv
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def kept(path: Path) -> list[dict[str, str]]:
    """The rows of an earlier start of the script."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def keep(path: Path, row: Mapping[str, Any]) -> None:
    """Append a row; the columns are those of the first."""
    rows = kept(path)
    columns = list(rows[0]) if rows else list(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        if not rows:
            table.writeheader()
        table.writerow({name: row.get(name, "") for name in columns})


def is_kept(path: Path, **of: Any) -> bool:
    """Whether there is a row of these."""
    return any(all(row.get(name) == str(value) for name, value in of.items()) for row in kept(path))


def in_process(script: str, *, limit: float | None = None, **words: Any) -> dict[str, Any]:
    """What `script --one JSON` prints as its last line: one measurement, alone in its process.

    It is stopped after `limit` seconds.
    """
    command = [sys.executable, script, "--one", json.dumps(words)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {**words, "error": f"not done after {limit:g} s"}
    if done.returncode:
        return {**words, "error": f"exit code {done.returncode}"}
    return {**words, **json.loads(done.stdout.splitlines()[-1])}


def show(path: Path) -> None:
    """The rows as a table, with date and machine."""
    rows = kept(path)
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    machine = f"{len(named)} x {named[0]}" if named else platform.processor()
    command = " ".join(sys.argv)
    print(f"\n`python {command}`, {datetime.now(UTC):%Y-%m-%d}, {machine}, Python {platform.python_version()}\n")
    if rows:
        print("| " + " | ".join(rows[0]) + " |\n|" + " --- |" * len(rows[0]))
        for row in rows:
            print("| " + " | ".join(row.values()) + " |")
