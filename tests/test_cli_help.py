"""What a person meets first: help in order, a folder for the results without asking, one image, what to do next."""

import json
import os
import re

import pytest
import typer

import blemish
from blemish import cli
from blemish.cli.inputs import out_beside
from blemish.cli.options import PANELS
from command_line import QUICK, call, refused

NAMES = sorted(command.__name__ for group in cli.GROUPS.values() for command in group)


def commands(command, words=()):
    """The words of a command and of all below it: those that a person can type."""
    yield [*words]
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


WORDS = list(commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_command_explains_itself_without_types_in_whole_sentences(words, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    result = call(*words, "-h")
    assert result.exit_code == 0, result.output
    assert result.output == call(*words, "--help").output
    assert not re.search(r"<(bool|int|float|str|path|.* range)>", result.output)
    assert "…" not in result.output


def test_commands_stand_in_groups_by_purpose(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = call("--help").output
    places = [text.index(f" {group} ") for group in cli.GROUPS]
    assert places == sorted(places)
    assert text.index("│ demo") < text.index("│ fit") < text.index("│ score") < places[1]
    assert all(f"│ {name} " in text for name in (*NAMES, "cache", "labels"))


def test_common_options_stand_first_and_the_panels_in_one_order(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("fit", "score", "purify"):
        titles = re.findall(r"╭─ ([A-Z][a-z ]+) ─", call(name, "--help").output)
        known = ["Arguments", "Options", *PANELS[1:]]
        assert titles == [title for title in known if title in titles]
        assert {"Arguments", "Options", "Images", "Results", "Machine"} <= set(titles)
    text = call("fit", "--help").output
    assert text.index("--out") < text.index("--normals") < text.index("--pixels") < text.index("Decide")


def test_the_version_is_that_of_the_package():
    assert call("--version").output == f"blemish {blemish.__version__}\n"


def test_completion_is_printed_for_bash(monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    result = call("--show-completion", "bash")
    assert result.exit_code == 0, result.output
    assert "COMPREPLY" in result.output


def test_a_folder_for_results_is_named_after_the_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts").mkdir()
    assert str(out_beside("parts/", "run")) == "parts-run"
    (tmp_path / "parts-run").mkdir()
    assert str(out_beside("parts", "run")) == "parts-run-2"
    assert str(out_beside("parts", "run", taken=True)) == "parts-run"
    (tmp_path / "parts.txt").write_text("parts/a.png\n")
    assert out_beside(tmp_path / "parts.txt", "scores") == tmp_path / "parts-scores"
    assert str(out_beside("s3://bucket/parts/", "run")) == "parts-run-2"
    monkeypatch.chdir(tmp_path / "parts")
    assert out_beside(".", "purified") == tmp_path / "parts-purified"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert str(out_beside(tmp_path / "parts", "run")) == "parts-run"


def test_fit_and_score_need_no_out_and_say_what_stands_out_and_what_comes_next(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call("fit", "photos", *QUICK)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    at = lines.index("The highest scores:")
    assert lines[at + 1].split()[0] == "part-00.png"
    assert all(line.startswith("  part-") for line in lines[at + 1 : at + 6])
    assert not lines[at + 6].startswith("  part-")
    assert lines[-1] == "Next: blemish review photos-run  or  blemish score NEW_IMAGES --model photos-run"

    result = call("score", "photos/part-00.png", "--model", "photos-run", "--json", "--threads", 1)
    summary = json.loads(result.stdout)
    assert summary["out"] == "part-00-scores", "one image is among others: the results go where the person is"
    assert [each["path"] for each in summary["worst"]] == ["part-00.png"]
    assert (tmp_path / "part-00-scores" / "scores.csv").is_file()
    call("score", "photos/part-00.png", "--model", "photos-run", "--quiet", "--threads", 1)
    assert (tmp_path / "part-00-scores-2" / "scores.csv").is_file()


def test_a_fit_of_one_image_is_refused(photos):
    refused(call("fit", photos / "part-00.png", *QUICK), "too few images: 1 ")
