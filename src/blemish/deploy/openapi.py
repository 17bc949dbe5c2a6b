"""The pages of the server, without anything from elsewhere, and what its schema says beyond the types of the answers.

The body of `POST /score` is read by hand, so that limits hold while it arrives.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from blemish.deploy.current import CurrentRun
from blemish.deploy.schemas import Problem
from blemish.deploy.uploads import FIELD, KINDS, RAW, SHAPE


def described(runs: Mapping[str, CurrentRun]) -> dict[str, Any]:
    """The body and the parameters of `/score`."""
    binary = {"type": "string", "format": "binary"}
    form = {
        "type": "object",
        "required": [FIELD],
        "properties": {
            FIELD: {"type": "array", "items": binary, "description": f"PNG, JPEG, or raw arrays ({RAW})"},
            SHAPE: {"type": "array", "items": {"type": "string"}, "description": "of each raw array, H,W,3 or H,W"},
        },
    }
    content = {kind: {"schema": form if kind.startswith("multipart") else binary} for kind in KINDS}
    shape = {"name": SHAPE, "in": "query", "schema": {"type": "string"}, "description": "of a raw body, H,W,3 or H,W"}
    return {"requestBody": {"required": True, "content": content}, "parameters": [shape], "x-models": list(runs)}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What each status but 200 means, for the schema: all statuses of `/score`, or only `statuses`."""
    said = {
        400: "The body is cut short or no multipart form.",
        401: "The key is missing or wrong.",
        404: "There is no such model.",
        408: "The body took too long.",
        413: "Too many bytes, pixels or images.",
        415: "Another content type.",
        422: "An image that cannot be used; nothing of the request was scored.",
        429: "No room; try again later.",
        500: "A fault of blemish.",
        503: "No answer in time.",
    }
    return {
        status: {"model": Problem, "description": text} for status, text in said.items() if status in (statuses or said)
    }


def start_page(models: Sequence[str], *, key: bool) -> str:
    """The page to drop an image on, as HTML; `key` is whether the server needs one."""
    return _template("start.html").render(models=models, key=key)


def listing(schema: Mapping[str, Any]) -> str:
    """The description of the server as HTML, made from its OpenAPI schema."""
    return _template("docs.html").render(schema=schema, of=_type_of)


@cache
def _template(name: str) -> Template:
    pages = Environment(loader=PackageLoader("blemish.deploy"), autoescape=True, undefined=StrictUndefined)
    return pages.get_template(name)


def _type_of(schema: Mapping[str, Any]) -> str:
    """The type of a value in a schema, in words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    if "anyOf" in schema:
        return " or ".join(_type_of(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f'"{each}"' for each in schema["enum"])
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_type_of(each) for each in schema['prefixItems'])}]"
        return f"list of {_type_of(schema.get('items', {}))}"
    if isinstance(more := schema.get("additionalProperties"), Mapping):
        return f"object of {_type_of(more)} by name"
    return str(schema.get("format") or schema.get("type", "anything"))
