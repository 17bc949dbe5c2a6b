"""Each function that the pages on the papers name is there, and each experiment."""

import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

from blemish.benchmark.experiment_names import ABOUT

PAGES = sorted((Path(__file__).parents[1] / "docs" / "papers").glob("*.md"))
NAME = re.compile(r"`([a-z_]+(?:\.[a-z_0-9]+)*):([A-Za-z_]+(?:\.[A-Za-z_]+)*)`")
BENCH = re.compile(r"bench ([A-Za-z0-9-]+)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = NAME.findall(text)
    assert len(names) >= 5
    for module, name in names:
        assert attrgetter(name)(import_module(f"blemish.{module}")), f"{module}:{name}"
    experiments = set(BENCH.findall(text))
    assert experiments
    assert experiments <= set(ABOUT), experiments - set(ABOUT)
