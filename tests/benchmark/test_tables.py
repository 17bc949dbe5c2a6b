"""Tables print a figure only over the same sets and seeds, and bold only what a test supports."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from blemish.benchmark.cells import Cell
from blemish.benchmark.datasets import Category, Sample
from blemish.benchmark.experiments import Entry, Experiment, Planned
from blemish.benchmark.formats import rendered
from blemish.benchmark.published import MVTEC, Published, differences
from blemish.benchmark.references import BIBTEX, PAPERS, bibtex
from blemish.benchmark.results import COLUMNS, Results
from blemish.benchmark.tables import defect_tables, page, write_tables


def entry(
    variant: str, image: float, *, category: str = "bolt", seed: int = 0, group: str = "", **changed: str
) -> Entry:
    row = dict.fromkeys(COLUMNS, "") | {
        "status": "done", "mode": "overlap", "seed": str(seed), "image_auroc": str(image),
        "pixel_auroc": str(image - 0.1), "category": category, "ratio": "0.1", "reached": "0.1", "policy": "shrink",
    }  # fmt: skip
    planned = Planned(Cell(category=f"mvtec/{category}", detector=variant, seed=seed), variant, group)
    return Entry(planned, row | changed)


def table(entries: list[Entry], form: str = "md", **settings: object) -> str:
    experiment = Experiment("X", "a test", lambda *_: [], **settings)  # type: ignore[arg-type]
    return rendered(page(experiment, entries, ["Form: tiny."], 0), form)


def many(variant: str, better: float = 0.0, seeds: int = 3) -> list[Entry]:
    """Figures of four sets and some seeds, `better` than those of another variant everywhere."""
    return [
        entry(variant, 0.7 + 0.05 * at + 0.01 * seed + better, category=name, seed=seed)
        for at, name in enumerate(("bolt", "carpet", "nut", "tile"))
        for seed in range(seeds)
    ]


def test_bold_needs_a_test_that_supports_it() -> None:
    text = table(many("a", 0.02) + many("b") + many("c", 0.01))
    assert "| category | a | b | c |" in text
    assert "| mean | **80.5 ± 1.0** / **70.5 ± 1.0** | 78.5 ± 1.0 / 68.5 ± 1.0 |" in text
    assert "| bolt | 73.0 ± 1.0 / 63.0 ± 1.0 |" in text  # the best, too, but three pairs cannot show it
    assert "Wilcoxon signed-rank" in text
    assert "Holm's correction" in text
    assert "**" not in table(many("a", 0.02, seeds=1) + many("b", seeds=1))  # four pairs: p is 0.125 at best
    assert "**" not in table(many("a") + many("b"))


def test_mean_over_categories_and_sample_deviation_over_seeds() -> None:
    entries = [
        entry("a", v, category=c, seed=s)
        for c, s, v in (("bolt", 0, 0.9), ("bolt", 1, 0.8), ("nut", 0, 0.7), ("nut", 1, 0.6))
    ]
    text = table(entries)
    assert "| bolt | 85.0 ± 7.1 / 75.0 ± 7.1 |" in text
    assert "| mean | 75.0 ± 7.1 / 65.0 ± 7.1 |" in text
    assert "sample standard deviation (n - 1) over seeds" in text
    assert "Seeds: 0, 1." in text


def test_ap_and_aupro_have_a_table_of_their_own() -> None:
    text = table([entry("a", 0.9, image_ap="0.8", pixel_ap="0.5", aupro="0.7"), entry("b", 0.8)])
    assert "image AP / pixel AP / AUPRO in per cent" in text
    assert "| bolt | 80.0 / 50.0 / 70.0 | - / - / - |" in text
    assert "AUPRO" not in table([entry("a", 0.9)])


def test_a_sweep_has_a_table_of_means_and_one_a_category() -> None:
    entries = [
        entry("a", v, category=c, group=g)
        for c, g, v in (("bolt", "0 %", 0.9), ("nut", "0 %", 0.7), ("bolt", "5 %", 0.5))
    ]
    text = table(entries, group="ratio")
    assert "| ratio | a |" in text
    assert "| 0 % | 80.0 / 70.0 |" in text
    assert "| 5 % | lacks 1 of 2 / lacks 1 of 2 |" in text  # not the mean of another set of categories
    assert text.index("Mean over 2 sets.") < text.index("### bolt") < text.index("### nut")


def test_a_sweep_can_show_each_variant_beside_the_first_of_its_group() -> None:
    def level(name: str, better: float) -> list[Entry]:
        groups = {"k, 10 %": 0.0, "k, 40 %": -0.3, "size, 10 %": 0.0}
        return [
            replace(each, planned=replace(each.planned, group=group), row=each.row | {"image_auroc": str(value)})
            for group, lower in groups.items()
            for each in many(name, better)
            for value in [float(each.row["image_auroc"]) + (lower if name != "default" else 0.0)]
        ]

    entries = level("default", 0.0) + level("other", 0.02)
    settings = {"paired": False, "group": "changed alone", "differences": {"new": "image_auroc"}}
    text = table(entries, **settings)
    assert "| changed alone | variant | new, 10 % | new, 40 % |" in text
    assert "| k | default | 78.5 ± 1.0 | 78.5 ± 1.0 |\n| k | other | **+2.0** | **-28.0** |" in text
    assert "| size | other | **+2.0** | - |" in text
    assert "| k | other | lacks 1 of 12 | **-28.0** |" in table(
        [each for each in entries if each is not entries[36]], **settings
    )
    alike = table(level("default", 0.0) + level("other", 0.0), **settings)
    assert "| k | other | +0.0 | **-30.0** |" in alike


def test_published_figures_stand_in_a_table_of_their_own_never_in_a_row_of_ours() -> None:
    published = {"mvtec": Published("A paper", {("a", "", "overlap"): (98.9, None)})}
    for entries in ([entry("a", 0.9, category="screw")], [entry("a", 0.9), entry("a", 0.9, category="screw")]):
        text = table(entries, published=published)
        before, _, after = text.partition("## Published figures")
        assert "98.9" not in before
        assert "| mean | 98.9 / - |" in after
        assert "A paper. Means of the whole published data set, not of ours." in after
    assert "published" not in table([entry("a", 0.9, category="screw")], published={"visa": published["mvtec"]}).lower()
    assert "published" not in table([entry("a", 0.9)], published=published).lower()  # only laid out like MVTec AD


def test_ours_is_laid_beside_the_paper_only_where_all_of_its_categories_were_run() -> None:
    published = {"mvtec": Published("A paper", {("a", "Table 1", "overlap"): (90.3, 80.0)})}
    settings = {"published": published, "tolerance": (0.5, 0.3), "group": "table"}

    def beside(image: float, names: Sequence[str]) -> str:
        found = [entry("a", image, category=name, group="Table 1", choice="oracle") for name in names]
        return table(found, **settings).partition("## Beside the paper")[2]

    whole = list(MVTEC)
    assert "| Table 1 | a (oracle) | Overlap | 90.00 / 80.00 | 90.30 / 80.00 | -0.30 / 0.00 | equal |" in beside(
        0.9, whole
    )
    assert "| 89.00 / 79.00 | 90.30 / 80.00 | -1.30 / -1.00 | differs |" in beside(0.89, whole)
    assert "| 90.30 / 80.00 | - / - | lacks 13 of 15 |" in beside(0.9, ["screw", "bottle"])
    seeds = [
        entry("a", 0.9, category=name, seed=seed, group="Table 1", choice="oracle")
        for name in whole
        for seed in range(3)
        if (name, seed) not in (("screw", 1), ("screw", 2))
    ]
    assert "| lacks 2 of 45 |" in table(seeds, **settings)  # an unequal number of seeds makes no mean
    assert "Beside" not in table([entry("a", 0.9, category="screw")], published=published)


def test_no_mean_is_made_of_other_cells_than_the_others_have() -> None:
    text = table([entry("a", 0.6), entry("a", 0.8, category="nut"), entry("b", 0.9)])
    assert "| mean | 70.0 / 60.0 | lacks 1 of 2 / lacks 1 of 2 |" in text
    text = table([entry("a", 0.6), entry("a", 0.8, seed=1), entry("b", 0.9)])
    assert "| bolt | 70.0 ± 14.1 / 60.0 ± 14.1 | lacks 1 of 2 / lacks 1 of 2 |" in text


def test_nothing_is_bold_where_another_variant_lacks_a_cell() -> None:
    assert "**" in table(many("a", 0.02) + many("b"))
    assert "**" not in table(many("a", 0.02) + many("b") + many("c", 0.1)[1:])


def test_two_datasets_with_a_category_of_one_name_are_never_averaged_into_one_cell() -> None:
    def of(dataset: str, value: float) -> Entry:
        cell = Cell(category=f"{dataset}/jack", detector="a")
        return replace(entry("a", value), planned=Planned(cell, "a", "10 %"))

    text = table([of("realiad", 0.9), of("other", 0.5)], group="ratio")
    assert "| realiad/jack | 90.0 / 80.0 |" in text
    assert "realiad/jack" not in table([of("realiad", 0.9)], group="ratio")
    assert "| other/jack | 50.0 / 40.0 |" in text
    with pytest.raises(ValueError, match="duplicate"):
        table([of("realiad", 0.9), of("realiad", 0.5)], group="ratio")


def test_sets_that_lack_some_masks_are_named_with_their_counts_in_every_format() -> None:
    entries = [entry("a", 0.8, test_images="28", pixel_images="26"), entry("a", 0.8, category="nut", pixel_auroc="")]
    for form in ("md", "latex", "csv"):
        text = table(entries, form)
        assert "Pixel figures are without nut: no masks." in text
        assert "Pixel figures of bolt are of 26 of 28 images: masks are missing." in text


def test_a_seed_that_is_missing_in_one_set_lacks_for_all() -> None:
    entries = [entry("a", 0.6), entry("a", 0.8, seed=1), entry("a", 0.8, category="nut")]
    assert "| mean | lacks 1 of 4 / lacks 1 of 4 |" in table(entries)


def test_sets_without_masks_are_named_and_their_image_figures_kept() -> None:
    text = table([entry("a", 0.6), entry("a", 0.8, category="nut", pixel_auroc="")])
    assert "| mean | 70.0 / 50.0 |" in text
    assert "Pixel figures are without nut: no masks." in text


def test_decisions_are_never_averaged_over_both_protocols() -> None:
    entries = [
        entry("a", 0.9, mode=mode, f1=f1, f1_share=f1, precision=f1, recall=f1, estimate="0.1", contamination="0.1")
        for mode, f1 in (("overlap", "0.5"), ("no_overlap", "0.9"))
    ]
    text = table(entries)
    assert "| Overlap | a | 0.500 | 0.500 | 0.500 | 0.500 | 0.100 | 0.100 |" in text
    assert "| No overlap | a | 0.900 |" in text


def test_costs_of_two_machines_are_two_rows_and_two_versions_are_named() -> None:
    entries = [
        entry("a", 0.9, category=name, run=name, fit_seconds=seconds, machine=machine, version=version, commit="abc")
        for name, seconds, machine, version in (("bolt", "1", "epyc", "0.1.0"), ("nut", "3", "xeon", "0.2.0"))
    ]
    text = table(entries)
    assert "| a | epyc | 1 | 1 |" in text
    assert "| a | xeon | 1 | 3 |" in text
    assert "blemish: 0.1.0 abc, 0.2.0 abc. machine: epyc, xeon. Rows are of several versions" in text


def test_what_was_reached_is_printed_where_it_is_not_the_ratio_of_the_cell() -> None:
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


def test_latex_is_a_booktabs_table_without_letters_that_latex_reads() -> None:
    text = table(many("a_1", 0.02) + many("b"), "latex")
    assert r"\toprule" in text
    assert r"category & a\_1 & b \\" in text
    assert r"\textbf{80.5 $\pm$ 1.0} / \textbf{70.5 $\pm$ 1.0}" in text
    assert "per cent" in text
    assert "#" not in text


def test_csv_has_a_row_a_figure_with_its_deviation() -> None:
    text = table([entry("a", 0.9), entry("a", 0.7, seed=1), entry("b", 0.5)], "csv")
    lines = text.splitlines()
    assert lines[0] == "table,row,column,measure,value,deviation,bold,text"
    assert "Overlap.,bolt,a,image AUROC,0.8,0.141421,0,80.0 ± 14.1" in lines
    assert "Overlap.,bolt,b,image AUROC,,,0,lacks 1 of 2" in lines


def test_each_kind_of_defect_has_a_row() -> None:
    def kinds(dent: float, scratch: float) -> str:
        return json.dumps({"dent": {"image_auroc": dent, "aupro": 0.4}, "scratch": {"image_auroc": scratch}})

    entries = [entry("a", 0.9, by_defect=kinds(0.8, 0.6)), entry("b", 0.9, by_defect=kinds(0.5, 0.7))]
    text = rendered(defect_tables(Experiment("X", "a test", lambda *_: []), entries), "md")
    assert "bolt, Overlap." in text
    assert "| dent | 80.0 / 40.0 | 50.0 / 40.0 |" in text
    assert "| scratch | 60.0 / - | 70.0 / - |" in text
    assert defect_tables(Experiment("X", "a test", lambda *_: []), [entry("a", 0.9)]) == []


def test_the_folder_holds_tables_tests_and_references(tmp_path: Path) -> None:
    entries = [
        replace(each, row={**each.row, "run": f"{each.variant}{at}"})
        for at, each in enumerate([*many("patchcore", 0.02), *many("padim")])
    ]
    results = Results(tmp_path / "results.csv", [dict(each.row) for each in entries])
    planned, runs = [each.planned for each in entries], [each.row["run"] for each in entries]
    experiment = Experiment("X", "a test", lambda *_: [])
    path = write_tables(experiment, planned, runs, results, tmp_path / "X", notes=[], plots=True, form="csv")
    assert path.name == "table.csv"
    assert (tmp_path / "X" / "table.md").is_file()
    tests = pd.read_csv(tmp_path / "X" / "tests.csv").query("row == 'mean' and measure == 'image_auroc'")
    assert tests[["best", "other", "pairs"]].to_numpy().tolist() == [["patchcore", "padim", 12]]
    assert tests["p_holm"].item() == pytest.approx(2 / 2**12)
    found = (tmp_path / "X" / "references.bib").read_text(encoding="utf-8")
    assert (found.count("@inproceedings"), "Total Recall" in found, "{PaDiM}" in found) == (2, True, True)


def test_a_detector_without_an_entry_is_named_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {key for keys in PAPERS.values() for key in keys} <= set(BIBTEX)
    found = bibtex([Cell(detector="anomalib:Glass"), Cell(detector="padim", purify={})])
    assert "% No entry is known for anomalib:Glass." in found
    monkeypatch.delitem(PAPERS, "inreach")
    assert "% No entry is known for inreach; its source: InReaCh (ICCV 2023" in bibtex([Cell(detector="inreach")])
    assert "Leveraging Learning Bias" in found
    assert all(text.count("{") == text.count("}") for text in BIBTEX.values())


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
