"""Lets Griffe read docstrings as blemish writes them: `name : what it is`, its type being in the signature.

numpydoc has the type in that place. Functions that take the options of a request get their signature and the section
"Options" when they are imported; that section is numpydoc's "Other Parameters".
"""

import inspect
import re
from importlib import import_module
from typing import Any

from griffe import Extension, Function, Object, Parameter, ParameterKind, Parameters

SECTION = re.compile(r"(?m)^(Parameters|Options|Attributes|Returns)\n-+\n")
ENTRY = re.compile(r"^([*\w][\w, *]*?) : (.*)$")


class Docstrings(Extension):
    """Rewrites each docstring as it is loaded."""

    def on_function(self, *, func: Function, **_: Any) -> None:
        """Give a function with `**options` the signature and the docstring that it has once it is imported."""
        if func.docstring is None or not func.is_public or "options" not in func.parameters:
            return
        real = getattr(import_module(func.module.path), func.name, None)
        if hasattr(real, "__signature__"):
            func.parameters = Parameters(*map(as_documented, inspect.signature(real).parameters.values()))
            func.docstring.value = rewritten(inspect.getdoc(real) or "")

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Put what is said of a parameter below its name."""
        if obj.docstring and SECTION.search(obj.docstring.value):
            obj.docstring.value = rewritten(obj.docstring.value)


def as_documented(parameter: inspect.Parameter) -> Parameter:
    """A parameter as Griffe has it, types without the modules they are from."""
    no_default = parameter.default is inspect.Parameter.empty
    return Parameter(
        parameter.name,
        kind=ParameterKind(parameter.kind.description),
        annotation=re.sub(r"\b[a-z_]+\.", "", inspect.formatannotation(parameter.annotation)),
        default=None if no_default else repr(parameter.default),
    )


def rewritten(text: str) -> str:
    """The docstring in numpydoc's form; what it returns becomes a sentence, since it has no name."""
    lines: list[str] = []
    section = ""
    rows = text.splitlines()
    for row, below in zip(rows, [*rows[1:], ""], strict=True):
        if below and set(below) == {"-"}:
            section = row
            lines.append({"Options": "Other Parameters"}.get(row, row))
        elif row and set(row) == {"-"}:
            lines.append("-" * len(lines[-1]))
        elif section in ("Parameters", "Options", "Attributes") and (found := ENTRY.match(row)):
            lines += [found[1], f"    {found[2]}"]
        else:
            lines.append(row)
    return "\n".join(lines)
