"""A table shows image / pixel pairs, the best in bold, the runner-up underlined, and whose figures stand beside."""

from dataclasses import replace
from pathlib import Path

from blemish.benchmark.cells import Cell
from blemish.benchmark.datasets import Category, Sample
from blemish.benchmark.experiments import Experiment, Planned
from blemish.benchmark.published import MVTEC, Published, differences
from blemish.benchmark.results import COLUMNS
from blemish.benchmark.table_entries import Entry
from blemish.benchmark.tables import render


def entry(
    variant: str, image: float, *, category: str = "bolt", seed: int = 0, group: str = "", **changed: str
) -> Entry:
    row = dict.fromkeys(COLUMNS, "") | {
        "status": "done", "mode": "overlap", "seed": str(seed), "image_auroc": str(image),
        "pixel_auroc": str(image - 0.1), "category": category, "ratio": "0.1", "reached": "0.1", "policy": "shrink",
    }  # fmt: skip
    planned = Planned(Cell(category=f"mvtec/{category}", detector=variant, seed=seed), variant, group)
    return Entry(planned, row | changed)


def table(entries: list[Entry], **settings: object) -> str:
    experiment = Experiment("X", "a test", lambda *_: [], **settings)  # type: ignore[arg-type]
    return render(experiment, entries, ["Form: tiny."], 0)


def test_the_best_is_bold_and_the_runner_up_underlined_for_each_figure_of_the_pair() -> None:
    text = table([entry("a", 0.9), entry("b", 0.95), entry("c", 0.8)])
    assert "| category | a | b | c |" in text
    assert "| bolt | <u>90.0</u> / <u>80.0</u> | **95.0** / **85.0** | 80.0 / 70.0 |" in text


def test_equal_figures_are_best_together() -> None:
    assert "| bolt | **90.0** / **80.0** | **90.0** / **80.0** |" in table([entry("a", 0.9), entry("b", 0.90001)])


def test_mean_over_categories_and_spread_over_seeds() -> None:
    entries = [
        entry("a", v, category=c, seed=s)
        for c, s, v in (("bolt", 0, 0.9), ("bolt", 1, 0.8), ("nut", 0, 0.7), ("nut", 1, 0.6))
    ]
    text = table(entries)
    assert "| bolt | 85.0 ± 7.1 / 75.0 ± 7.1 |" in text
    assert "| mean | 75.0 ± 7.1 / 65.0 ± 7.1 |" in text
    assert "Seeds: 0, 1." in text


def test_a_sweep_has_a_table_of_means_and_one_a_category() -> None:
    entries = [
        entry("a", v, category=c, group=g)
        for c, g, v in (("bolt", "0 %", 0.9), ("nut", "0 %", 0.7), ("bolt", "5 %", 0.5))
    ]
    text = table(entries, group="ratio")
    assert "| ratio | a |" in text
    assert "| 0 % | 80.0 / 70.0 |" in text
    assert text.index("Mean over the categories.") < text.index("### bolt") < text.index("### nut")


def test_the_published_figure_stands_under_the_mean_it_belongs_to() -> None:
    entries = [entry("a", 0.9), entry("b", 0.8), entry("a", 0.9, category="screw")]
    published = {"mvtec": Published("A paper", {("a", "", "overlap"): (98.9, None)})}
    text = table(entries, published=published)
    assert "| *published* | *98.9 / -* |  |" in text
    assert text.count("published*") == 1
    assert "Published figures: A paper." in text
    assert "published" not in table(entries, published={"visa": published["mvtec"]}).lower()
    assert "published" not in table(entries[:2], published=published).lower()  # only laid out like MVTec AD


def test_a_mean_of_fewer_categories_is_marked_and_never_the_best() -> None:
    text = table([entry("a", 0.6), entry("a", 0.8, category="nut"), entry("b", 0.9)])
    assert "| mean | **70.0** / **60.0** | 90.0\\* / 80.0\\* |" in text
    assert "some failed or are still to do" in text
    assert "some failed" not in table([entry("a", 0.6), entry("b", 0.9)])


def test_what_was_reached_is_printed_where_it_is_not_what_was_asked_for() -> None:
    assert "bolt at 0.1: 0.094" in table([entry("a", 0.9, reached="0.094")])


def test_where_measures_are_columns_the_categories_have_a_mean_too() -> None:
    entries = [entry("a", v, category=c) for c, v in (("bolt", 0.9), ("nut", 0.7))] + [entry("b", 0.5)]
    text = table(entries, paired=False, measures={"AUROC": "image_auroc"})
    assert "| category | variant | AUROC |" in text
    assert "| mean | a | 0.8 |" in text
    assert "| mean | b |" not in text


def test_the_choices_of_an_iterative_detector_are_columns() -> None:
    text = table([entry("a", 0.9, choice=choice) for choice in ("label-free", "last", "oracle")])
    assert "| category | a (label-free) | a (last) | a (oracle) |" in text


def category(name: str, counts: tuple[int, int, int]) -> Category:
    parts = [tuple(Sample(f"{part}/{i}.png", Path(f"{i}.png")) for i in range(n)) for part, n in enumerate(counts)]
    return Category("mvtec", name, Path(), *parts)


def test_how_the_data_differ_from_the_papers_is_a_plain_sentence() -> None:
    assert differences([category(name, counts) for name, counts in MVTEC.items()]) == ""
    said = differences([category("mvtec_bottle", MVTEC["bottle"]), category("magnetic_tile", (3, 2, 1))])
    assert "1 of the 15 categories of MVTec AD (bottle)" in said
    assert "magnetic_tile is not part of MVTec AD" in said
    assert "other numbers of images" in differences([category("screw", (5, 5, 5))])


def test_a_miniature_of_cifar_is_said_to_be_one_and_nothing_is_said_of_other_datasets() -> None:
    small = replace(category("cat", (3, 2, 1)), dataset="cifar10")
    assert "cifar10 has 3 / 2 / 1 training, normal and anomalous test images a class, not 5000 / 1000 / 9000" in (
        differences([small])
    )
    assert "MVTec" not in differences([small])
