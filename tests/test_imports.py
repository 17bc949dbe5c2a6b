"""Imports go one way, and `import blemish` is quick."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import pytest

import blemish

# A module may import those before it, anywhere in its code; what is only for type checkers is free.
ORDER = (
    *(
        "errors",
        "disk",
        "decoding",
        "urls",
        "folders",
        "runtime",
        "remote",
        "given",
        "grouping",
        "roi",
        "sources",
        "gathering",
    ),
    *("images", "labels", "scores", "drift", "synthesis", "features", "cuts", "detectors", "purification"),
    *("calibration", "heatmaps", "regions", "histogram", "artifact", "exported", "stored_scores", "run"),
    *("report", "transaction", "jobs", "evaluation", "review", "deploy", "demo"),
    *("demo_job", "doctor", "benchmark", "progress", "__init__", "cli"),
)
WITHIN_FEATURES = (
    *("backbones", "hub", "weights", "networks", "tiles", "extract", "shards", "cache", "batches", "given", "store"),
    "__init__",
)
SOURCE = Path(blemish.__file__).parent


def modules():
    return sorted(path for path in SOURCE.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The modules of blemish that the code of `path` imports, type checkers' imports left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "blemish":
            assert not node.level, f"{path}: relative import"
            inner = (node.module or "").partition(".")[2]
            found.update([inner] if inner else [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            found.update(a.name.partition(".")[2] for a in node.names if a.name.startswith("blemish."))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return {name for name in found if not name.startswith("__")}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_go_one_way(path):
    own = path.relative_to(SOURCE).with_suffix("").parts[0]
    assert own in ORDER, f"give '{own}' its place in the order"
    for name in imported(path):
        other = name.split(".")[0]
        if other != own:
            assert ORDER.index(other) < ORDER.index(own), f"{own} may not import {other}"


@pytest.mark.parametrize("name", WITHIN_FEATURES)
def test_imports_within_features_go_one_way_but_for_the_spec_that_makes_its_features(name):
    for other in imported(SOURCE / "features" / f"{name}.py"):
        if other.startswith("features.") and (name, other) != ("extract", "features.store"):
            assert WITHIN_FEATURES.index(other.split(".")[1]) < WITHIN_FEATURES.index(name)


def test_importing_blemish_is_quick_and_imports_nothing_heavy():
    code = "import sys, blemish; print([n for n in ('torch', 'numpy', 'pandas', 'timm', 'PIL') if n in sys.modules])"
    best = 10.0
    for _ in range(3):
        start = time.perf_counter()
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        best = min(best, time.perf_counter() - start)
    assert said.strip() == "[]"
    assert best < 0.5


def test_everything_public_is_there():
    for name in blemish.__all__:
        assert getattr(blemish, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'no_such'"):
        blemish.no_such  # noqa: B018
