"""`blemish cache list` and `blemish cache prune`."""

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import as_command, tell
from blemish.cli.options import Cache, Json, PlainCommand, PlainGroup

cache_app = typer.Typer(cls=PlainGroup, help="The features kept on disk.", no_args_is_help=True)


@cache_app.command("list", cls=PlainCommand)
@as_command
def cache_list(cache: Cache = None, as_json: Json = False) -> None:
    """List the kept features, the last used first."""
    from blemish.features.kept_features import feature_sets

    found = feature_sets(_cache_folder(cache))
    rows = [{"settings": each.settings, "images": each.images, "mib": round(each.size / 2**20, 1)} for each in found]
    lines = [f"{row['images']:>8} images {row['mib']:>10} MiB  {row['settings']}" for row in rows]
    summary = {"cache": str(_cache_folder(cache)), "sets": rows}
    tell([*lines, f"{len(rows)} sets in {_cache_folder(cache)}"], summary, quiet=False, as_json=as_json)


@cache_app.command("prune", cls=PlainCommand)
@as_command
def cache_prune(
    keep: Annotated[float, typer.Option("--keep-gib", min=0, help="Keep the last used sets up to this size.")] = 0.0,
    cache: Cache = None,
) -> None:
    """Remove kept features, the least recently used first; they are made again when needed."""
    from blemish.features.kept_features import prune

    dropped = prune(_cache_folder(cache), int(keep * 2**30))
    freed = sum(each.size for each in dropped) / 2**20
    typer.echo(f"Removed {len(dropped)} sets, {freed:.1f} MiB.")


def _cache_folder(folder: Path | None) -> Path:
    """The cache `folder`, or the user's."""
    from blemish.machine.runtime import Runtime

    return folder.expanduser() if folder else Runtime().cache
