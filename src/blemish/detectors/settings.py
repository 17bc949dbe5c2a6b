"""Settings of a detector from the texts of a command line."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

from blemish.errors import RequestError

YES_OR_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def set_by_name(settings: Mapping[str, Any], changes: Mapping[str, str]) -> dict[str, Any]:
    """Parse `name=value` texts by the type of the setting they change. Raises `RequestError`, with near names."""
    check_names(settings, changes)
    return {name: _parsed(name, text, settings[name]) for name, text in changes.items()}


def check_names(known: Collection[str], given: Collection[str]) -> None:
    """Refuse settings that a detector does not have. Raises `RequestError`, with near names."""
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, n=2) or sorted(known)
            raise RequestError(f"There is no setting '{name}'; did you mean {' or '.join(near)}?")


def _parsed(name: str, text: str, default: Any) -> Any:
    kind = type(default)
    if kind is tuple and default and type(default[0]) in (int, float, str):
        return tuple(_parsed(name, each.strip(), default[0]) for each in text.split(","))
    try:
        if kind is bool:
            return YES_OR_NO[text.lower()]
        if kind in (int, float, str):
            return kind(text)
    except (KeyError, ValueError):
        raise RequestError(f"The setting '{name}' must be of type {kind.__name__}; got '{text}'.") from None
    if default is None:
        return _by_its_looks(text)
    raise RequestError(f"The setting '{name}' is not a number or a word; set it from Python, or see --fast.")


def _by_its_looks(text: str) -> int | float | str | None:
    """A value for a setting that is left open: nothing, a number or a word."""
    if text.lower() in ("", "none"):
        return None
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
