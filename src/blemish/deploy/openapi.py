"""What the OpenAPI page says of `POST /score`, whose body is read by hand, so that limits hold while it arrives."""

from collections.abc import Mapping
from typing import Any

from blemish.deploy.current import CurrentRun
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


def refusals() -> dict[int | str, dict[str, Any]]:
    """What each status of `/score` but 200 means."""
    said = {
        400: "The body is cut short or no multipart form.",
        401: "The key is missing or wrong.",
        404: "There is no such model.",
        408: "The body took too long.",
        413: "Too many bytes, pixels or images.",
        415: "Another content type.",
        422: "An image that cannot be used; nothing of the request was scored.",
        429: "No room; come again.",
        503: "No answer in time.",
    }
    return {status: {"description": text} for status, text in said.items()}
