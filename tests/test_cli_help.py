"""What a person meets first: help in order, a folder for the results without asking, one image, what to do next."""

import json
import os
import re
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

import blemish
from blemish import cli
from blemish.benchmark import formats
from blemish.benchmark.contamination import POLICIES
from blemish.cli.inputs import out_beside
from blemish.cli.options import PANELS, flags_of
from blemish.deploy.hot_folder import Action
from blemish.deploy.parity import Precision
from blemish.detectors import BUILT_IN
from blemish.images.feature_arrays import ClassToken
from blemish.review import label_export, label_import
from blemish.runs import exported
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
        titles = re.findall(r"╭─ ([A-Z][a-z ]+) ─", call(name, "--help-all").output)
        known = ["Arguments", "Options", *PANELS[1:]]
        assert titles == [title for title in known if title in titles]
        assert {"Arguments", "Options", "Images", "Results", "Machine"} <= set(titles)
    text = call("fit", "--help-all").output
    assert text.index("--out") < text.index("--normals") < text.index("--pixels") < text.index("Decide")


def test_help_fits_a_screen_and_leaves_the_seldom_needed_options_to_help_all(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    short, whole = call("fit", "--help").output, call("fit", "--help-all").output
    assert len(short.splitlines()) <= 45
    assert "--help-all" in short
    assert all(flag in short for flag in ("--out", "--force", "--sensitivity", "--threshold", "--labels"))
    assert not {flag for flag in flags_of(cli.fit).values() if flag not in whole}
    assert "--checkpoints" not in short


def test_what_is_missing_is_said_with_what_it_is_for():
    assert "'--model'. What `fit` or `export` left" in call("score", "parts").stderr
    assert "'RUN'. The folder that `fit` or `score` left" in call("review").stderr


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("fit", "--detector"), BUILT_IN),
        (("score", "--runtime"), ("torch", *exported.FORMATS)),
        (("export", "--format"), exported.FORMATS),
        (("export", "--precision"), get_args(Precision)),
        (("labels", "export", "--format"), label_export.FORMATS),
        (("labels", "import", "--format"), label_import.FORMATS),
        (("bench", "--format"), formats.FORMATS),
        (("bench", "--policy"), POLICIES),
        (("watch", "--action"), get_args(Action)),
        (("fit", "--class-token"), get_args(ClassToken)),
    ],
)
def test_a_shell_offers_what_a_flag_may_be(words, offered):
    typed = {"COMP_WORDS": f"blemish {' '.join(words)} ", "COMP_CWORD": str(len(words) + 1)}
    result = CliRunner().invoke(cli.app, [], env={"_BLEMISH_COMPLETE": "complete_bash", **typed})
    assert sorted(result.output.split()) == sorted(offered)


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
