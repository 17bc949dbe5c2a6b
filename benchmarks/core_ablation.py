"""The table of `blemish bench core-ablation` from rows that were kept: what a choice is worth, and on which sets.

blemish bench core-ablation --data ../shared/data --out bench_ablation
python benchmarks/core_ablation.py keep bench_ablation/core-ablation/results.csv core_ablation.csv
python benchmarks/core_ablation.py table core_ablation.csv
"""

import argparse
from pathlib import Path

import pandas as pd

from blemish.benchmark.experiments import EXPERIMENTS
from blemish.benchmark.formats import markdown
from blemish.benchmark.summary import beside_first

ABLATION = EXPERIMENTS["core-ablation"]
PLACE = ["variant", "group", "label", "seed"]


def kept(results: pd.DataFrame) -> pd.DataFrame:
    """The columns that the table needs, of the protocol it shows."""
    shown = results[(results["mode"] == ABLATION.protocol) & (results["status"] == "done")].rename(
        columns={"row": "label"}
    )
    return shown[[*PLACE, *ABLATION.measures.values(), "machine", "version", "commit", "time"]]


def tables(rows: pd.DataFrame) -> str:
    """The table over all sets, and one of new images for each set."""
    whole = markdown(beside_first(rows, ABLATION.group, ABLATION.differences))
    parts = [f"{whole}\n", f"{costs(rows)}\n"]
    for label in dict.fromkeys(rows["label"]):
        part = rows[rows["label"] == label]
        parts.append(f"{label}\n\n{markdown(beside_first(part, ABLATION.group, ABLATION.differences))}\n")
    return "\n".join(parts)


def costs(rows: pd.DataFrame) -> str:
    """How many times as long a fit takes as by default, of the choices that make it half as long again or shorter."""
    seconds = rows.assign(what=rows["group"].str.partition(", ")[0]).groupby(["what", "variant"], sort=False)[
        "fit_seconds"
    ]
    middle = seconds.median()
    times = middle / middle.groupby(level="what", sort=False).transform("first")
    shown = [f"{variant} ({what}) {value:.1f}" for (what, variant), value in times.items() if not 0.67 < value < 1.5]
    return f"Times the fit of the default, medians: {', '.join(shown)}."


def main() -> None:
    """Keep rows, or print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    keep = commands.add_parser("keep")
    keep.add_argument("results", type=Path)
    keep.add_argument("rows", type=Path)
    commands.add_parser("table").add_argument("rows", type=Path)
    asked = parser.parse_args()
    if asked.command == "keep":
        kept(pd.read_csv(asked.results)).to_csv(asked.rows, index=False, float_format="%.5g")
    else:
        print(tables(pd.read_csv(asked.rows)))


if __name__ == "__main__":
    main()
