"""Every example in the docs runs as it stands there, but for those that install things."""

import ast
import contextlib
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import weight_layouts as layouts
from blemish.cli import app
from blemish.deploy.graph import ExportedScoring, write_onnx
from blemish.detectors.funad import Schedule
from blemish.features.backbones import BACKBONES
from blemish.runs.exported import Arrays
from command_line import QUICK
from conftest import fill

ROOT = Path(__file__).parents[1]
README, PAGES = "README.md", ("docs/guide.md", "docs/backbones.md")
DECIDE, REVIEW, WHAT_NOW = "docs/decide.md", "docs/review.md", "docs/what_now.md"
LABELS = "docs/labels.md"
LINE = ("docs/export.md", "docs/serve.md", "docs/scale.md")  # on a Run that is there
PURIFY = "docs/methods/purify.md"
METHODS = tuple(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs/methods").glob("*.md")))
SHORTER = {f"docs/methods/{name}.md": ("--set", "steps=5") for name in ("simplenet",)}  # they would train
NOT_RUN = ("make", "pip")  # they install; .ci/run runs the make ones
ALL = (README, "CONTRIBUTING.md", *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/**/*.md"))))


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the images that the docs use."""
    fill(tmp_path / "path/to/images", 12)
    fill(tmp_path / "path/to/new_images", 3, start=20)
    fill(tmp_path / "path/to/known_good", 4, start=30)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "path/to/features.npy", rng.normal(size=(20, 9, 8)).astype(np.float32))
    (tmp_path / "path/to/labels.csv").write_text("path,label\npart-00.png,bad\npart-05.png,good\n")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(tmp_path / "path/to/mask.png")
    np.save(tmp_path / "path/to/new_features.npy", rng.normal(size=(3, 9, 8)).astype(np.float32))
    (tmp_path / "path/to/ids.txt").write_text("".join(f"part-{index}\n" for index in range(20)))
    # What the page calls DINO is a network of a few thousand weights here.
    monkeypatch.setitem(BACKBONES, "dino_vits8", layouts.TINY["tiny_dino8"])
    torch.save(layouts.dino(), tmp_path / "path/to/dino_deitsmall8_pretrain.pth")
    monkeypatch.setitem(Schedule.__init__.__kwdefaults__, "steps", 10)  # that the commands run is what is tested
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "page", [README, *PAGES, DECIDE, REVIEW, WHAT_NOW, LABELS, *(page for page in METHODS if blocks(page, "console"))]
)
def test_every_command_of_the_page_runs(page: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == PURIFY:
        fill(desk / "path/to/images", 26)  # three parts, each large enough for a sub-model
    if page in (REVIEW, WHAT_NOW, LABELS):  # what an earlier step of the person's left
        assert CliRunner().invoke(app, ["fit", "path/to/images", "--out", "run", "--quiet"]).exit_code == 0
        shutil.copy("path/to/labels.csv", "run/labels.csv")
    monkeypatch.setattr("uvicorn.Server.run", lambda server, **_: server.config.load())  # a page nobody has to end
    commands = [line.partition("#")[0] for block in blocks(page, "console") for line in block.splitlines()]
    ran = 0
    for command in commands:
        program, *arguments = shlex.split(command)
        if program in NOT_RUN or arguments == ["demo"]:  # which the test of what the README shows runs
            continue
        if page == README and command.strip() in blocks(LINE[0], "console")[0].splitlines():
            continue  # run with the commands of that page: torch's exporter takes long
        assert program in ("blemish", ".venv/bin/blemish")
        result = CliRunner().invoke(app, [*arguments, *SHORTER.get(page, ()), "--quiet"])
        assert result.exit_code == 0, f"{command}: {result.output}"
        ran += 1
    assert ran
    assert list(desk.glob("*/report.html"))


@pytest.mark.parametrize("page", LINE)
def test_every_command_of_the_pages_on_the_line_runs(
    page: str, desk: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = desk / "made.onnx"

    def once(scoring: ExportedScoring, example: Arrays, path: Path) -> None:
        """torch's exporter takes long, and all formats of one Run begin with the same graph."""
        if not made.exists():
            write_onnx(scoring, example, made)
        shutil.copy(made, path)

    monkeypatch.setattr("blemish.deploy.export.write_onnx", once)
    fill(desk / "path/to/inbox", 2, start=40)
    fill(desk / "path/to/products/bolts", 9, start=50)
    commands = [line for block in blocks(page, "console") for line in block.splitlines()]
    assert commands
    for command in commands:
        _, name, *arguments = shlex.split(command)
        if name == "fit":
            arguments += QUICK
        if name not in ("doctor", "export"):
            arguments += ["--quiet"]
        result = CliRunner().invoke(app, [name, *arguments])
        assert result.exit_code == 0, f"{command}: {result.output}"


@pytest.mark.parametrize("page", [*PAGES, "docs/python.md"])
def test_every_python_example_of_the_page_runs(page: str, desk: Path) -> None:
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), {})  # noqa: S102 - it is our own page
        assert (desk / "run_from_python" / "scores.csv").is_file()


def test_the_python_example_on_labels_runs(desk: Path, run: Path) -> None:
    [example] = blocks(LABELS, "python")
    exec(compile(example, LABELS, "exec"), {})  # noqa: S102 - it is our own page
    assert (desk / "coco_from_python/coco.json").is_file()


def test_the_readme_shows_what_its_demo_and_its_example_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    of_demo, of_example = (block.splitlines() for block in blocks(README, "text"))
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-len(of_demo) :] == of_demo
    [example] = blocks(README, "python")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(example, README, "exec"), {})  # noqa: S102 - it is our own page
    assert printed.getvalue().splitlines() == of_example


@pytest.mark.parametrize("page", ALL)
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_functions_that_follow_an_image_are_where_the_page_says() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| [^|]+ \| `([a-z_/]+\.py)` \| (.+) \|$", text)
    assert len(rows) > 20
    for file, functions in rows:
        tree = ast.parse((ROOT / "src/blemish" / file).read_text(encoding="utf-8"))
        for name in re.findall(r"`([\w.]+)`", functions):
            assert name in set(_defined(tree)), f"{file} has no {name}"


def _defined(node: ast.AST, prefix: str = "") -> Iterator[str]:
    """The functions of a module, and the methods of its classes as `Class.method`."""
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.FunctionDef):
            yield f"{prefix}{each.name}"
        elif isinstance(each, ast.ClassDef):
            yield from _defined(each, f"{each.name}.")
