"""Packages that only some jobs need."""

from importlib import import_module
from typing import Any

from blemish.machine.errors import RequestError


def needed(module: str, extra: str, what: str) -> Any:
    """The `module` that `what` needs, of an extra of blemish. Raises `RequestError` with what to install."""
    try:
        return import_module(module)
    except ImportError as error:
        if error.name and error.name.startswith("blemish"):  # a fault of ours, not a package that lacks
            raise
        raise RequestError(
            f"{error.name or module} is not installed, which {what} needs: pip install 'blemish[{extra}]'"
        ) from None
