"""Finished rows of a bench become runs of MLflow, each once, on MLflow's own store of files."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from blemish.benchmark import jobs
from blemish.benchmark.bench import bench
from blemish.cli import app
from blemish.machine.errors import JobError, RequestError
from layouts import mvtec
from test_run import rows

needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="needs: pip install 'blemish[mlflow]'")


@pytest.fixture
def detectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The detectors that were run, in turn; `funad` fails until "mended" is among them."""
    ran: list[str] = []

    def job(task: jobs.Task) -> list[dict[str, object]]:
        ran.append(task.cell.detector)
        if task.cell.detector == "funad" and "mended" not in ran:
            raise ZeroDivisionError
        return [
            {"mode": mode, "image_auroc": value, "fit_seconds": 2.0}
            for mode, value in (("overlap", 0.75), ("no_overlap", 0.5))
        ]

    monkeypatch.setattr("blemish.benchmark.plan.job", lambda _: job)
    mvtec(tmp_path / "data", "bolt", train=20, bad=5)
    return ran


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A look into the store that the tests send to."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    return MlflowClient()


def compare(tmp_path: Path, *names: str, out: str = "out", **options: Any) -> int:
    """How many rows a comparison of detectors sends to the experiment "parts"."""
    found = bench(
        ["compare"], tmp_path / out, data=tmp_path / "data", detectors=names, ratios=[0.1], seeds=1, mlflow="parts",
        **options,
    )  # fmt: skip
    assert f"{found.summary['mlflow']} rows sent to the experiment 'parts' of MLflow" in found.lines
    return int(found.summary["mlflow"])


def runs(client: Any) -> list[Any]:
    return list(client.search_runs([client.get_experiment_by_name("parts").experiment_id]))


@needs_mlflow
def test_a_row_is_a_run_with_what_it_is_known_by_what_was_measured_and_with_what(
    tmp_path: Path, detectors: list[str], client: Any
) -> None:
    assert compare(tmp_path, "padim") == 2
    (row,) = [each for each in rows(tmp_path / "out") if each["mode"] == "overlap"]
    (run,) = [each for each in runs(client) if each.data.params["mode"] == "overlap"]
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "padim bolt overlap"
    same = ("run", "dataset", "category", "detector", "settings", "ratio", "seed", "manifest", "train_images")
    assert {name: run.data.params.get(name, "") for name in same} == {name: row[name] for name in same}
    assert (run.data.metrics["image_auroc"], run.data.metrics["fit_seconds"]) == (0.75, 2.0)
    assert run.data.metrics["cpu_seconds"] == float(row["cpu_seconds"])
    assert "pixel_auroc" not in run.data.metrics  # it was not measured
    assert {name: run.data.tags[name] for name in ("version", "commit", "machine")}.items() <= row.items()
    assert run.data.tags["blemish.row"] == f"{row['run']}/overlap///{row['time']}"


@needs_mlflow
def test_the_same_command_again_runs_nothing_and_sends_what_is_missing(
    tmp_path: Path, detectors: list[str], client: Any
) -> None:
    command = ["bench", "compare", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--json"]
    command += ["--detectors", "padim,patchcore", "--contamination", "0.1", "--seeds", "1"]
    assert "mlflow" not in json.loads(CliRunner().invoke(app, command).stdout)
    sent = [json.loads(CliRunner().invoke(app, [*command, "--mlflow", "parts"]).stdout)["mlflow"] for _ in range(2)]
    assert sent == [4, 0]
    assert (len(runs(client)), len(detectors)) == (4, 2)


@needs_mlflow
def test_only_the_rows_of_what_was_named_are_sent(tmp_path: Path, detectors: list[str], client: Any) -> None:
    bench(["compare"], tmp_path / "out", data=tmp_path / "data", detectors=["patchcore"], ratios=[0.1], seeds=1)
    compare(tmp_path, "padim")
    assert {run.data.params["detector"] for run in runs(client)} == {"padim"}


@needs_mlflow
def test_the_same_run_measured_again_elsewhere_is_another_row(
    tmp_path: Path, detectors: list[str], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare(tmp_path, "padim")
    monkeypatch.setattr("blemish.benchmark.plan.now", lambda: "2030-01-01T00:00:00+00:00")
    assert compare(tmp_path, "padim", out="other") == 2
    assert len(runs(client)) == 4


@needs_mlflow
def test_a_failed_run_is_sent_once_it_is_done(tmp_path: Path, detectors: list[str], client: Any) -> None:
    assert compare(tmp_path, "padim", "funad") == 2
    detectors.append("mended")
    assert compare(tmp_path, "padim", "funad") == 0
    assert compare(tmp_path, "padim", "funad", retry=True) == 2
    assert sorted(run.data.params["detector"] for run in runs(client)) == ["funad", "funad", "padim", "padim"]


@needs_mlflow
def test_sending_that_was_cut_short_is_taken_up_and_doubles_nothing(
    tmp_path: Path, detectors: list[str], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object, **__: object) -> None:
        raise ConnectionError("the server is gone")

    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_batch", lost)
        with pytest.raises(JobError, match=r"the server is gone.*results\.csv.*the same command again"):
            compare(tmp_path, "padim")
    (begun,) = runs(client)
    assert begun.data.metrics == {}
    assert compare(tmp_path, "padim") == 2
    assert [(run.info.status, run.data.metrics["fit_seconds"]) for run in runs(client)] == [("FINISHED", 2.0)] * 2


@needs_mlflow
def test_experiments_of_more_than_a_page_of_runs_are_looked_through(
    tmp_path: Path, detectors: list[str], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    search = MlflowClient.search_runs
    monkeypatch.setattr(MlflowClient, "search_runs", lambda *words, **named: search(*words, **named, max_results=1))
    assert compare(tmp_path, "padim", "patchcore") == 4
    assert compare(tmp_path, "padim", "patchcore") == 0


def test_without_the_package_nothing_is_run(
    tmp_path: Path, detectors: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    command = [
        "bench",
        "compare",
        "--data",
        str(tmp_path / "data"),
        "--out",
        str(tmp_path / "out"),
        "--mlflow",
        "parts",
    ]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "mlflow is not installed, which --mlflow needs: pip install 'blemish[mlflow]'" in result.output
    assert not (tmp_path / "out").exists()


@needs_mlflow
def test_a_place_that_cannot_be_opened_is_said_before_anything_is_run(
    tmp_path: Path, detectors: list[str], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.delete_experiment(client.create_experiment("parts"))
    with pytest.raises(RequestError, match=r"'parts' .*deleted.*another experiment with `mlflow`"):
        compare(tmp_path, "padim")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://nowhere")
    with pytest.raises(RequestError, match=r"'parts' .*ftp://nowhere.*MLFLOW_TRACKING_URI"):
        compare(tmp_path, "padim")
    with pytest.raises(RequestError, match="give `mlflow` without it"):
        bench(["record"], tmp_path / "out", page=tmp_path / "page.md", mlflow="parts")
    assert detectors == []


@needs_mlflow
@pytest.mark.parametrize(
    "module",
    [
        "blemish.benchmark.bench",
        pytest.param("blemish.detectors.anomalib_adapter.engine", marks=pytest.mark.anomalib),
    ],
)
def test_mlflow_reports_no_usage_and_is_imported_only_where_it_is_asked_for(module: str, tmp_path: Path) -> None:
    if "anomalib" in module:
        pytest.importorskip("anomalib", reason="anomalib is not installed: pip install 'blemish[anomalib]'")
    code = (
        f"import {module}, sys; print('mlflow' in sys.modules); "
        "from blemish.benchmark.mlflow_log import MLflowExperiment; MLflowExperiment('parts'); "
        "from mlflow.telemetry import get_telemetry_client; print(get_telemetry_client())"
    )
    # Under pytest and in CI MLflow is silent by itself: it must not see that. A database, as its default place is one.
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment |= {"HOME": str(tmp_path), "MLFLOW_TRACKING_URI": "sqlite:///:memory:"}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True" if "anomalib" in module else "False", "None"]
