"""Imports go one way, and `import blemish` is quick."""

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import blemish

# A package may import those before it, anywhere in its code. What is only for type checkers is free.
ORDER = (
    *("machine", "images", "scores", "label_formats", "features", "detectors", "calibration", "purification", "runs"),
    *("report", "jobs", "review", "deploy", "benchmark", "__init__", "cli", "__main__"),
)
SOURCE = Path(blemish.__file__).parent
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}


@cache
def imported(name: str) -> set[str]:
    """The modules of blemish that the code of the module `name` imports, without type checkers' imports."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "blemish":
            assert not node.level, f"{name}: relative import"
            package = (node.module or "").partition(".")[2]
            inner = {f"{package}.{alias.name}".strip(".") for alias in node.names}
            found.update(each if each in MODULES else package for each in inner)
        elif isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("blemish."))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(MODULES[name].read_text(encoding="utf-8")))
    return {each for each in found if each} - {name}


def test_packages_import_only_those_before_them():
    for name in MODULES:
        own = name.split(".")[0]
        for other in imported(name):
            assert ORDER.index(other.split(".")[0]) <= ORDER.index(own), f"{name} may not import {other}"


def test_no_files_import_each_other_in_a_circle():
    TopologicalSorter({name: imported(name) for name in MODULES}).prepare()  # raises CycleError, with the circle


def test_only_the_two_entrances_lie_loose():
    assert {path.name for path in SOURCE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_importing_blemish_is_quick_and_imports_nothing_heavy():
    heavy = ("torch", "numpy", "pandas", "timm", "PIL")
    code = (
        "import sys, time; start = time.process_time(); import blemish; "
        f"print(time.process_time() - start, *[name for name in {heavy} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, *imported_heavy = found.stdout.split()
    assert imported_heavy == []
    assert float(seconds) < 0.1  # of the processor, whatever else the machine does; 0.02 when it was written


def test_commands_that_learn_nothing_do_not_wait_for_torch():
    heavy = {"torch", "sklearn", "scipy.stats", "matplotlib"}
    code = f"import sys, blemish.cli, blemish.review.app; print(*{heavy} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_everything_public_is_there():
    for name in blemish.__all__:
        assert getattr(blemish, name) is not None
    with pytest.raises(AttributeError, match="'no_such'"):
        blemish.no_such  # noqa: B018
