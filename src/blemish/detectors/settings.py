"""Settings of a detector from the texts of a command line."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from blemish.errors import RequestError

YES_OR_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def set_by_name(settings: Mapping[str, Any], changes: Mapping[str, str]) -> dict[str, Any]:
    """Parse `name=value` texts by the type of the setting they change. Raises `RequestError`, with near names."""
    parsed: dict[str, Any] = {}
    for name, text in changes.items():
        if name not in settings:
            near = get_close_matches(name, settings, n=2) or sorted(settings)
            raise RequestError(f"There is no setting '{name}'; did you mean {' or '.join(near)}?")
        parsed[name] = _parsed(name, text, settings[name])
    return parsed


def _parsed(name: str, text: str, default: Any) -> Any:
    kind = type(default)
    try:
        if kind is bool:
            return YES_OR_NO[text.lower()]
        if kind in (int, float, str):
            return kind(text)
    except (KeyError, ValueError):
        raise RequestError(f"The setting '{name}' must be of type {kind.__name__}; got '{text}'.") from None
    raise RequestError(f"The setting '{name}' is not a number or a word; set it from Python, or see --fast.")
