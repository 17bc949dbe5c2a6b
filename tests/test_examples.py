"""The examples in the docstrings of what is public run, and the docstrings name every setting with its default."""

import doctest
import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from blemish.detectors import BUILT_IN, detector_class
from blemish.detectors.anomalib_adapter.detector import AnomalibDetector
from blemish.detectors.funad import Schedule
from blemish.machine.runtime import use_runtime

DETECTORS = {name: detector_class(name) for name in BUILT_IN}
DOCUMENTED = {**DETECTORS, "anomalib": AnomalibDetector, "schedule": Schedule}


@pytest.fixture(autouse=True)
def one_thread(tmp_path: Path) -> Iterator[None]:
    with use_runtime(cache=tmp_path, threads=1):
        yield


@pytest.mark.parametrize("name", [*DETECTORS, "schedule"])
def test_the_examples_of_the_docstring_are_right(name: str) -> None:
    kind = DOCUMENTED[name]
    (test,) = doctest.DocTestFinder(recurse=False).find(kind, globs={kind.__name__: kind})
    assert test.examples, f"{kind.__name__} shows no example"
    found = doctest.DocTestRunner().run(test)
    assert found.failed == 0


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_setting_stands_in_the_docstring_with_its_default(name: str) -> None:
    kind = DOCUMENTED[name]
    documented = parameters(inspect.getdoc(kind) or "")
    settings = {each.name: each.default for each in fields(kind)}
    assert documented.keys() == settings.keys()
    for setting, default in settings.items():
        if default is MISSING or isinstance(default, tuple):  # in words
            continue
        line = documented[setting].replace(",", "") if isinstance(default, int | float) else documented[setting]
        shown = f'"{default}"' if isinstance(default, str) else f"{default}"
        assert shown in line, f"{setting} is {shown} by default; the docstring says: {line}"
        assert "default" in line


def parameters(text: str) -> dict[str, str]:
    """The line of each setting under "Parameters" of a docstring."""
    _, _, section = text.partition("Parameters\n----------\n")
    section = section.partition("\n\n")[0]
    lines = [line for line in section.splitlines() if not line.startswith(" ")]
    return {name: line for line in lines for name in line.partition(" : ")[0].split(", ")}
