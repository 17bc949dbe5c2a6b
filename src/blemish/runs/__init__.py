"""A Run on disk: a fitted detector with its decision and the scores that it was made on."""

from collections.abc import Callable
from typing import Any

# What a Run does by packages above this one. `blemish` itself names them: nothing is imported upward.
_FOUND_BY: dict[str, Callable[[], Callable[..., Any]]] = {}


def provide(name: str, find: Callable[[], Callable[..., Any]]) -> None:
    """Let the function that `find` returns do the action `name`; it is looked for when it is first needed."""
    _FOUND_BY[name] = find


def act(name: str, *arguments: Any, **options: Any) -> Any:
    """Do the action `name`."""
    return _FOUND_BY[name]()(*arguments, **options)
