"""Settings of a detector: from the texts of a command line, whether they can be, and what is said of them."""

import inspect
import math
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import fields
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from blemish.machine.errors import RequestError

T = TypeVar("T")
NUMBERS: Mapping[type, Any] = {bool: bool, int: Integral, float: Real}
YES_OR_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def set_by_name(settings: Mapping[str, Any], changes: Mapping[str, str]) -> dict[str, Any]:
    """Parse `name=value` texts by the type of the setting they change. Raises `RequestError`, with near names."""
    check_names(settings, changes)
    return {name: _parsed(name, text, settings[name]) for name, text in changes.items()}


def check_names(known: Collection[str], names: Collection[str]) -> None:
    """Refuse settings that a detector does not have. Raises `RequestError`, with near names."""
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=2) or sorted(known)
            raise RequestError(f"There is no setting '{name}'; did you mean {' or '.join(near)}?")


def check_words(settings: object) -> None:
    """Refuse a word that a setting of a dataclass, of a `Literal` type, does not take. Raises `RequestError`."""
    kinds = get_type_hints(type(settings))
    for name, kind in kinds.items():
        if get_origin(kind) is Literal and getattr(settings, name) not in get_args(kind):
            words = ", ".join(get_args(kind))
            raise RequestError(f"'{name}' must be one of {words}; got '{getattr(settings, name)}'.")


def check_numbers(settings: object) -> None:
    """Refuse what is no number, or no finite one, where a dataclass has numbers. Raises `RequestError`."""
    for name, kind in get_type_hints(type(settings)).items():
        if kind not in NUMBERS:
            continue
        value = getattr(settings, name)
        if not isinstance(value, NUMBERS[kind]) or (isinstance(value, bool) and kind is not bool):
            raise RequestError(f"'{name}' must be of type {kind.__name__}; got {value!r}.")
        if kind is float and not math.isfinite(value):
            raise RequestError(f"'{name}' must be a finite number; got {value}.")


def check_least(settings: object, **least: float) -> None:
    """Refuse settings below the value given for each, or that are no numbers. Raises `RequestError`."""
    for name, value in least.items():
        if not getattr(settings, name) >= value:
            raise RequestError(f"'{name}' must be at least {value}; got {getattr(settings, name)}.")


def check_folds(folds: int) -> None:
    """Refuse fewer than two parts. Raises `RequestError`."""
    if folds < 2:
        raise RequestError(f"'folds' must be at least 2; got {folds}; for none set 'training_scores' to false.")


def documented(kind: type[T]) -> type[T]:
    """Complete the docstring of a detector with the settings and the learned state that it inherits.

    What a base says of a setting is taken where the class says nothing; one with another default it has to describe.
    """
    if not kind.__doc__:
        return kind
    head, _, rest = inspect.cleandoc(kind.__doc__).partition("\n\nParameters\n")
    rest = rest.partition("\n\n")[2]  # without the class's own settings
    rest = rest.partition("\n\n")[2] if rest.startswith("Attributes\n") else rest
    parts, settings = [head], {each.name for each in fields(kind)}  # type: ignore[arg-type]
    for section in ("Parameters", "Attributes"):
        said: dict[str, str] = {}
        for each in kind.__mro__:
            for names, text in _entries(each, section).items():
                if settings.issuperset(names.split(", ")) or (section == "Attributes" and names.endswith("_")):
                    said.setdefault(names, text)
        parts.append("\n".join([section, "-" * len(section), *said.values()]))
    kind.__doc__ = "\n\n".join([*parts, rest])
    return kind


def _entries(kind: type[Any], section: str) -> dict[str, str]:
    """What the docstring of a class says in one of its sections, by name, its own text alone."""
    text = inspect.cleandoc(vars(kind).get("__doc__") or "").partition(f"{section}\n----------\n")[2]
    found = re.finditer(r"^(\w[\w, ]*) : .*(?:\n .*)*", text.partition("\n\n")[0], re.MULTILINE)
    return {each[1]: each[0] for each in found}


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
    raise RequestError(f"The setting '{name}' is not a number or a word; set it from Python.")


def _by_its_looks(text: str) -> int | float | str | None:
    """A value for a setting that is left open: nothing, a number or a word."""
    if text.lower() in ("", "none"):
        return None
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text
