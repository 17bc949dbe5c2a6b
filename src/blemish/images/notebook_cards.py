"""A small piece of HTML for notebooks: a sentence, facts, and some pictures with their captions."""

import base64
import io
from collections.abc import Iterable
from html import escape

from PIL import Image

QUALITY = 80  # JPEG
SIDE = 160  # pixels, longer side of a picture on a card


def card(
    headline: str, facts: Iterable[str] = (), pictures: Iterable[tuple[str, str]] = (), *, side: int | None = SIDE
) -> str:
    """HTML of a card; `pictures` are captions, of one or several lines, with the data URI of a picture each.

    `side` is the longest that a side of a picture may be, in pixels; None for as long as it is.

    Examples
    --------
    >>> card("2 images", ["none skipped"])
    '<div><b>2 images</b><br>none skipped<div></div></div>'
    """
    text = "<br>".join((f"<b>{escape(headline)}</b>", *map(escape, facts)))
    style = "display:inline-block;margin:4px 8px 4px 0;vertical-align:top;font-size:85%"
    limit = "max-width:100%" if side is None else f"max-width:{side}px;max-height:{side}px"
    shown = "".join(
        f'<figure style="{style}"><img src="{uri}" alt="" style="{limit}">'
        f"<figcaption>{'<br>'.join(map(escape, caption.splitlines()))}</figcaption></figure>"
        for caption, uri in pictures
    )
    return f"<div>{text}<div>{shown}</div></div>"


def data_uri(image: Image.Image) -> str:
    """The image as JPEG inside a link, so that a page needs no other file."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")
