"""results.csv: a row a run and protocol, appended as runs end, so that nothing that is finished is lost."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from blemish.machine.errors import RequestError, replacing, writing_to

RESULTS, LOCK, FORMAT_VERSION = "results.csv", ".results.lock", 1
DONE, FAILED = "done", "failed"
RUN_COLUMNS = (
    "format", "run", "time", "status", "reason", "job", "dataset", "category", "detector", "settings", "preset",
    "purify", "ratio", "reached", "contamination", "policy", "test_share", "defects", "seed", "limit", "given", "extra",
    "manifest", "mode", "choice", "part", "train_images", "test_images",
)  # fmt: skip
COSTS = ("feature_seconds", "fit_seconds", "score_seconds", "metric_seconds", "images_per_second", "peak_mib")
MEASURES = (
    "image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "pixel_images",
    "threshold", "precision", "recall", "f1", "f1_share", "estimate", "training_auroc", "epoch",
    "contamination_before", "contamination_after", "normals_lost", "anomalies_removed", "purify_auroc",
    "spread_normal", "spread_anomaly", "spread_auroc", "normal", "anomaly", "mixed", "homogeneous", "chance",
    "limit_anomaly", "limit_mixed", "simulated_anomaly", "simulated_mixed", "bank_purity", "normals_in_bank",
)  # fmt: skip
# Only ever appended to. CPU: of the whole run, once. `by_defect`: measures by kind of defect, as JSON. `as_run`: the
# run on the same images whose rows these are; empty for what was run.
COLUMNS = (*RUN_COLUMNS, *COSTS, *MEASURES, "cpu_seconds", "by_defect", "version", "commit", "machine", "as_run")
Row = dict[str, Any]


@dataclass
class Results:
    """The rows of one folder. Values are texts, as the file holds them."""

    path: Path
    rows: list[dict[str, str]]

    @classmethod
    def read(cls, folder: Path, *, mend: bool = True) -> "Results":
        """What earlier runs left; a last line that a kill cut short is left out. Raises `RequestError`.

        With `mend` the file is brought in order for what will be appended: only its one writer may do that.
        """
        path = folder / RESULTS
        if not path.exists():
            return cls(path, [])
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestError(f"'{path}' cannot be read ({error}); name another folder with `out`.") from None
        whole = text[: text.rfind("\n") + 1]
        table = csv.DictReader(io.StringIO(whole, newline=""))
        header = tuple(table.fieldnames or ())
        if header != COLUMNS[: len(header)] or not set(RUN_COLUMNS) <= set(header):
            raise RequestError(
                f"'{path}' has other columns than this blemish writes: it is of another version, or no results of "
                "`blemish bench`. Name another folder with `out`."
            )
        rows = [{name: value or "" for name, value in row.items()} for row in table]
        if other := sorted({row["format"] for row in rows} - {str(FORMAT_VERSION)}):
            raise RequestError(
                f"'{path}' has rows of format {other[0]}; this blemish writes {FORMAT_VERSION}. Name another folder "
                "with `out`."
            )
        torn = text[len(whole) :]
        if torn and rows:  # it may be a further row of the last run, which then is not whole
            start = f"{FORMAT_VERSION},{rows[-1]['run']},"
            if start.startswith(torn) or torn.startswith(start):
                rows = [row for row in rows if row["run"] != rows[-1]["run"]]
        found = cls(path, rows)
        if mend and (whole != text or header != COLUMNS):
            found._rewrite()
        return found

    def of(self, run: str) -> list[dict[str, str]]:
        """The rows of a run; none if it was not run."""
        return [row for row in self.rows if row["run"] == run]

    def drop_failed(self) -> None:
        """Forget failed runs, so that they are run again."""
        self.rows = [row for row in self.rows if row["status"] != FAILED]
        if self.path.exists():
            self._rewrite()

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append the rows of one run: all of them reach the disk, or none is counted. Raises `JobError`."""
        texts = [{name: _text(row.get(name)) for name in COLUMNS} for row in rows]
        with writing_to(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            with self.path.open("a", encoding="utf-8", newline="") as file:
                file.write(_csv(texts, header=new))
                file.flush()
                os.fsync(file.fileno())
        self.rows += texts

    def _rewrite(self) -> None:
        with writing_to(self.path.parent), replacing(self.path) as partial:
            partial.write_text(_csv(self.rows, header=True), encoding="utf-8", newline="")


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Refuse to share a folder of results with a bench that runs here or elsewhere. Raises `RequestError`.

    A bench that was killed holds no lock.
    """
    lock = FileLock(folder / LOCK, timeout=0)
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise RequestError(
                f"Another bench is writing to '{folder}'; wait for it, or name another folder with `out`."
            ) from None
    try:
        yield
    finally:
        lock.release()


def now() -> str:
    """The time as rows hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, (Mapping, list, tuple)):
        return json.dumps(value, sort_keys=True)
    return str(value).replace("\n", " ")


def _csv(rows: Sequence[Mapping[str, str]], *, header: bool) -> str:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n", restval="")
    if header:
        table.writeheader()
    table.writerows(rows)
    return text.getvalue()
