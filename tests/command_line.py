"""The program as a person types it, for tests: run it, and what a refusal looks like."""

import csv

from typer.testing import CliRunner

from blemish import cli

QUICK = (
    "--detector",
    "nearest_images",
    "--set",
    "backbone=efficientnet_lite0",
    "--threads",
    "1",
)


def call(*words):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def refused(result, *parts):
    """One sentence on standard error, exit code 2, nothing on standard output."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    said = result.stderr.strip()
    assert said.startswith("blemish: ")
    assert "\n" not in said
    assert "Traceback" not in said
    for part in parts:
        assert str(part) in said
    return said


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
