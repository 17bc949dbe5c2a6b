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
    parts = [f"{whole}\n"]
    for label in dict.fromkeys(rows["label"]):
        part = rows[rows["label"] == label]
        parts.append(f"{label}\n\n{markdown(beside_first(part, ABLATION.group, ABLATION.differences))}\n")
    return "\n".join(parts)


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
