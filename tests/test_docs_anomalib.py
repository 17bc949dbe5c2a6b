"""Every example of docs/anomalib.md runs as it stands there. Left out of `make test`; see the marker."""

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("anomalib", reason="anomalib is not installed: pip install 'blemish[anomalib]'")

from anomalib.cli.cli import AnomalibCLI

from blemish.cli import app
from conftest import fill
from test_docs import ROOT, blocks, desk  # noqa: F401 - a fixture

PAGE = "docs/anomalib.md"


@pytest.fixture
def workshop(desk: Path) -> Path:  # noqa: F811
    """The desk of the other pages, and a folder as anomalib takes it."""
    fill(desk / "parts/unsorted", 12)
    fill(desk / "parts/good", 6, start=40)
    fill(desk / "parts/bad", 4, start=60)
    return desk


@pytest.mark.anomalib
def test_every_command_of_the_page_runs(workshop: Path) -> None:
    ran = set()
    for line in "".join(blocks(PAGE, "console")).splitlines():
        program, *arguments = shlex.split(line)
        ran.add(program)
        if program == "blemish":
            result = CliRunner().invoke(app, [*arguments, "--quiet", "--threads", "1"])
            assert result.exit_code == 0, f"{line}: {result.output}"
        elif program == "anomalib":
            AnomalibCLI(args=arguments)
    assert ran == {"pip", "blemish", "anomalib"}
    assert (workshop / "run" / "report.html").is_file()
    assert list((workshop / "results").rglob("model.ckpt"))


@pytest.mark.anomalib
@pytest.mark.parametrize("number", range(2))
def test_every_python_example_of_the_page_runs(number: int, workshop: Path) -> None:
    examples = blocks(PAGE, "python")
    assert len(examples) == 2
    exec(compile(examples[number], PAGE, "exec"), {})  # noqa: S102 - it is our own page


def test_every_link_of_the_page_leads_somewhere() -> None:
    import re

    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / PAGE).read_text(encoding="utf-8")):
        assert (ROOT / "docs" / target).exists(), target
