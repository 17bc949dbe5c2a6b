"""The notebooks of the documentation run from top to bottom and still show what is kept in them.

`BLEMISH_NOTEBOOKS=write python -m pytest tests/test_notebooks.py -m package` keeps what they show now.
"""

import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
pytestmark = pytest.mark.package


def shown(cell: dict) -> set[str]:
    """The kinds of what a cell shows: printed text, which may come in pieces, or a picture."""
    return {kind for output in cell.get("outputs", []) for kind in output.get("data", {"text/plain": ""})}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_and_shows_what_is_kept_in_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbclient
    import nbformat

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    kept = nbformat.read(path, as_version=4)
    fresh = nbformat.from_dict(kept)
    nbclient.NotebookClient(fresh, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path))
    for cell in fresh.cells:
        cell.metadata.pop("execution", None)  # times
        if cell.cell_type == "code":  # without what libraries say of the machine, and bars that are gone
            cell.outputs = [
                each
                for each in cell.outputs
                if each.get("name") != "stderr" and each.get("data", {}).get("text/html") != ""
            ]
    if os.environ.get("BLEMISH_NOTEBOOKS") == "write":
        nbformat.write(fresh, path)
        kept = fresh
    assert any("image/png" in shown(cell) for cell in kept.cells)
    assert [shown(cell) for cell in kept.cells] == [shown(cell) for cell in fresh.cells]
