"""The examples in the pages about datasets and the bench run as they stand there."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blemish.cli import app
from layouts import mvtec
from test_docs import ROOT, blocks

PAGES = ("docs/datasets.md", "docs/bench.md")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the dataset that the pages use, and a place for MLflow's runs that is quickly made."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mvtec(tmp_path / "path/to/datasets", train=20, good=6, bad=5)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_runs(page: str, desk: Path) -> None:
    commands = [line.partition("#")[0] for block in blocks(page, "console") for line in block.splitlines()]
    assert commands
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "blemish"
        result = CliRunner().invoke(app, [*arguments, "--quiet"])
        assert result.exit_code == 0, f"{command}: {result.output}"


@pytest.mark.parametrize("page", PAGES)
def test_every_python_example_of_the_page_runs(page: str, desk: Path) -> None:
    assert blocks(page, "python")
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), {})  # noqa: S102 - it is our own page
    left = {"docs/datasets.md": "run_from_python/bolt/manifest.csv", "docs/bench.md": "bench_from_python/F3/table.md"}
    assert (desk / left[page]).is_file()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / target).exists(), target
