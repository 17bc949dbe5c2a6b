"""`blemish export`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import command_line, progress_shown, tell
from blemish.cli.inputs import out_beside, parsed_size
from blemish.cli.options import Force, Json, NewOut, Quiet, Threads, Weights, offered


def export(
    run: Annotated[Path, typer.Argument(help="The folder that `fit` left.")],
    out: NewOut = None,
    format: Annotated[  # noqa: A002
        str, typer.Option("--format", help="onnx or openvino.", autocompletion=offered("onnx", "openvino"))
    ] = "onnx",
    precision: Annotated[
        str,
        typer.Option(
            help="float32, or int8: faster convolutions, equal decisions measured.",
            autocompletion=offered("float32", "int8"),
        ),
    ] = "float32",
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="WIDTHxHEIGHT", help="Of the images it will take; that of most by default."),
    ] = None,
    images: Annotated[
        str | None, typer.Option("--images", help="What to compare with torch on; the images of the Run by default.")
    ] = None,
    triton: Annotated[
        bool, typer.Option("--triton", help="Leave OUT/triton, too: a model repository for NVIDIA Triton.")
    ] = False,
    weights: Weights = None,
    force: Force = False,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Leave a Run as one model for ONNX Runtime or OpenVINO, from pixels to score, map and decision."""
    with progress_shown(not (quiet or as_json)) as progress:
        out = out or out_beside(run, format, taken=force)
        from blemish.deploy.export import export as export_run

        parity = export_run(
            run,
            out,
            format=format,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            size=parsed_size(size) if size else None,
            images=images,
            triton=triton,
            force=force,
            weights=weights,
            threads=threads,
            progress=progress,
            tell=None if quiet or as_json else lambda sentence: typer.echo(sentence, err=True),
        )
    following = command_line("score", "NEW_IMAGES", "--model", out)
    lines = [
        f"On {parity.images} images the scores differ from torch by at most {parity.score:.1e} of their spread; "
        f"{parity.equal_decisions:.1%} of the decisions are equal, rank correlation {parity.rank_correlation:.4f}.",
        f"Model: {out}",
        f"Next: {following}",
    ]
    tell(lines, {"out": str(out), "parity": asdict(parity), "next": [following]}, quiet=quiet, as_json=as_json)
