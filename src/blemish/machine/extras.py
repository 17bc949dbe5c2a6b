"""Packages that only some jobs need, and which versions of packages are installed."""

import platform
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from blemish.machine.errors import RequestError

NOT_INSTALLED = "not installed"  # in place of a version
SHOWN_VERSIONS = ("blemish", "torch", "timm", "numpy", "pillow", "scikit-learn", "safetensors", "anomalib")


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


def versions(names: Sequence[str] = SHOWN_VERSIONS) -> dict[str, str]:
    """Python's version, and the versions of libraries: by default what is stored with every Run."""
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = NOT_INSTALLED
    return found
