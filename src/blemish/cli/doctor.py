"""`blemish doctor`."""

from typing import Annotated

import typer

from blemish.cli.console import tell
from blemish.cli.options import Cache, Json, Threads


def doctor(
    images: Annotated[int, typer.Option("--images", min=1, help="Expect a job of this many images.")] = 1000,
    network: Annotated[bool, typer.Option("--network", help="See whether a model hub can be reached.")] = False,
    threads: Threads = None,
    cache: Cache = None,
    as_json: Json = False,
) -> None:
    """Say what is installed, which weights are there, and what a job of N images will cost."""
    from blemish.jobs.doctor import examine

    findings = examine(images, network=network, threads=threads, cache=cache)
    from blemish.features.backbones import DEFAULT_BACKBONE

    optional = [
        name
        for name, value in findings.items()
        if (value.startswith("not here") or "not installed" in value) and name != f"weights {DEFAULT_BACKBONE}"
    ]
    lines = [f"{name}: {value}" for name, value in findings.items() if name not in optional]
    if optional:
        lines.append(f"optional, not installed: {', '.join(name.removeprefix('weights ') for name in optional)}")
    tell(lines, findings, quiet=False, as_json=as_json)
