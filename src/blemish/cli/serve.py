"""`blemish serve`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.options import Quiet, Threads
from blemish.machine.extras import needed

HERE = ("127.0.0.1", "localhost", "::1")


def serve(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of `fit` or `export`, or NAME=FOLDER.")],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    batch: Annotated[int, typer.Option(min=1, help="Images scored together at most.")] = 16,
    room: Annotated[int, typer.Option(min=1, help="Images that may wait; beyond, clients get 429.")] = 256,
    max_bytes: Annotated[int, typer.Option(min=1, help="Of a request.")] = 32 * 2**20,
    max_pixels: Annotated[int, typer.Option(min=64, help="Of an image.")] = 25_000_000,
    max_images: Annotated[int, typer.Option(min=1, help="Of a request.")] = 64,
    timeout: Annotated[float, typer.Option(min=0.01, help="Seconds for a body to arrive.")] = 30.0,
    answer_timeout: Annotated[float, typer.Option(min=0.01, help="Seconds from there to its scores.")] = 60.0,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", help="File with the API key clients must send; or set BLEMISH_API_KEY.")
    ] = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Serve detectors over HTTP: POST /score, GET /health, /metrics, /docs."""
    server = needed("blemish.deploy.serve", "serve", "serve")
    from blemish.deploy.application import Batching
    from blemish.deploy.current import named_runs
    from blemish.deploy.uploads import Limits

    key = server.serve_key(key_file)
    if host not in HERE and not key:
        typer.echo("No API key is set: whoever reaches this address can have images scored.", err=True)

    def tell(address: str) -> None:
        if not quiet:
            typer.echo(f"Serving {', '.join(named)} at {address}")

    named = named_runs(runs)
    server.serve(
        named,
        host=host,
        port=port,
        limits=Limits(max_bytes, max_pixels, max_images, timeout, answer_timeout),
        batching=Batching(batch, room),
        threads=threads,
        api_key=key,
        tell=tell,
    )
