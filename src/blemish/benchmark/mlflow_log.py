"""Finished rows of `results.csv` as runs of MLflow, one a row; each is sent once."""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from blemish.benchmark.results import COSTS, DONE, MEASURES, RESULTS, RUN_COLUMNS
from blemish.machine.errors import JobError, RequestError
from blemish.machine.extras import needed
from blemish.machine.runtime import runtime

ROW = "blemish.row"  # the tag by which a row is known again
KEY = ("run", "mode", "choice", "part", "time")  # the time: the same run in another folder or version is another row
PARAMS = tuple(name for name in RUN_COLUMNS if name not in ("format", "time", "status", "reason"))
METRICS = (*COSTS, *MEASURES, "cpu_seconds")
TAGS = ("version", "commit", "machine")


class MLflowExperiment:
    """The experiment `name` where `MLFLOW_TRACKING_URI` says, else at MLflow's default place; made if it is not there.

    Raises `RequestError` if MLflow is not installed or cannot open it.
    """

    def __init__(self, name: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it reports usage to its makers otherwise
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines a run otherwise
        mlflow = needed("mlflow", "mlflow", "`mlflow`")
        try:
            self._client = mlflow.MlflowClient()
            found = self._client.get_experiment_by_name(name)
            if found and found.lifecycle_stage == "deleted":
                raise ValueError("it was deleted there")
            self._id = found.experiment_id if found else self._client.create_experiment(name)
        except Exception as error:  # of MLflow, its files, its database or its server
            raise RequestError(
                f"MLflow cannot open the experiment '{name}' ({_reason(error)}); mend that, or name another place with "
                "MLFLOW_TRACKING_URI or another experiment with `mlflow`."
            ) from error

    def send(self, rows: Sequence[Mapping[str, str]]) -> int:
        """Send the finished rows that are not there yet; returns how many these were. Raises `JobError`."""
        finished = {"/".join(row[name] for name in KEY): row for row in rows if row["status"] == DONE}
        try:
            there = self._runs()
            missing = [key for key in finished if key not in there or there[key].info.status != "FINISHED"]
            for number, key in enumerate(missing, start=1):
                self._send(key, finished[key], there.get(key))
                runtime().progress("sending rows", number, len(missing))
        except Exception as error:
            raise JobError(
                f"MLflow did not take all rows ({_reason(error)}). They are kept in {RESULTS}; the same command again "
                "sends the rest, and runs nothing that is done."
            ) from error
        return len(missing)

    def _runs(self) -> dict[str, Any]:
        """The runs of the experiment that were rows, by their tag."""
        page = self._client.search_runs([self._id])
        found = list(page)
        while page.token:
            page = self._client.search_runs([self._id], page_token=page.token)
            found += page
        return {run.data.tags[ROW]: run for run in found if ROW in run.data.tags}

    def _send(self, key: str, row: Mapping[str, str], run: Any) -> None:
        """Send a row. `run` is there where an earlier call was stopped while it sent that row."""
        from mlflow.entities import Metric, Param

        time = int(datetime.fromisoformat(row["time"]).timestamp() * 1000)
        if run is None:
            tags = {ROW: key, **{name: row[name] for name in TAGS}}
            words = [row[name] for name in ("detector", "category", "mode", "choice", "part") if row[name]]
            run = self._client.create_run(self._id, time, tags, " ".join(words) or row["job"])
        metrics = [Metric(name, float(row[name]), time, 0) for name in METRICS if row[name]]
        self._client.log_batch(run.info.run_id, metrics, [Param(name, row[name]) for name in PARAMS if row[name]])
        self._client.set_terminated(run.info.run_id, end_time=time)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
