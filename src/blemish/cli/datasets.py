"""`blemish datasets`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from blemish.cli.console import progress_shown, tell
from blemish.cli.options import Json, Quiet


def datasets(
    root: Annotated[Path, typer.Argument(help="The folder that holds one or more datasets.")],
    quick: Annotated[bool, typer.Option("--quick", help="Count only: do not open the files.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Tell what datasets a folder holds: categories, counts, masks, and what is wrong with them."""
    with progress_shown(not (quiet or as_json)) as progress:
        from blemish.benchmark.datasets import open_datasets
        from blemish.benchmark.datasets.inspection import problems_of
        from blemish.machine.runtime import use_runtime

        categories = open_datasets(root)
        with use_runtime(progress=progress):
            problems = [list(each.problems) if quick else problems_of(each) for each in categories]
    rows: list[dict[str, Any]] = [
        {
            "dataset": each.dataset,
            "category": each.name,
            "root": str(each.root),
            "train": len(each.train),
            "test_normal": len(each.normals),
            "test_anomalous": len(each.anomalies),
            "masks": sum(sample.mask is not None for sample in each.anomalies),
            "kinds": sorted({sample.defect for sample in each.anomalies}),
            "problems": found,
        }
        for each, found in zip(categories, problems, strict=True)
    ]
    width = max(len(f"{row['dataset']}/{row['category']}") for row in rows)
    lines = [f"{'category':<{width}}  train   good    bad  masks  kinds"]
    for row in rows:
        name = f"{row['dataset']}/{row['category']}"
        counts = "".join(f"{row[key]:>7}" for key in ("train", "test_normal", "test_anomalous", "masks"))
        lines.append(f"{name:<{width}}{counts}  {len(row['kinds']):>5}")
        lines += [f"    {problem}" for problem in row["problems"]]
    found = sum(map(len, problems))
    counted = "1 category" if len(rows) == 1 else f"{len(rows)} categories"
    lines.append(f"{counted}, {found or 'no'} problem{'' if found == 1 else 's'} found.")
    tell(lines, {"datasets": rows}, quiet=quiet, as_json=as_json)
