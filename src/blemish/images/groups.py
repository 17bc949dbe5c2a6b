"""Which images count as one by what their paths say: bursts, or several shots of a part."""

import re
from collections.abc import Mapping, Sequence

from blemish.machine.errors import RequestError

BY_PATH = "by path: "  # begins a group that no content hash can be


def groups_by(pattern: str, ids: Sequence[str], content: Mapping[str, str]) -> dict[str, str]:
    """The group of each id, by path or else by content: see `ImageSet.grouped`."""
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise RequestError(f"`group_regex` '{pattern}' is no regular expression: {error}.") from None
    found = {name: match for name in ids if (match := expression.search(name))}
    keys = {name: _key(match) for name, match in found.items()}
    known = set(keys.values())
    joined: dict[str, str] = {}  # from a key or a content to another of its group, the first of all to none

    def first(node: str) -> str:
        while node in joined:
            node = joined[node]
        return node

    for name, key in keys.items():
        one, other = sorted((first(key), first(content[name])), key=lambda node: (node not in known, node))
        if one != other:
            joined[other] = one
    return {name: first(content[name]) for name in ids}


def _key(match: re.Match[str]) -> str:
    """What the pattern caught."""
    return BY_PATH + "\n".join(each or "" for each in match.groups() or [match[0]])
