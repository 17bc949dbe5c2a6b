"""What all answers of the page share: a row, a form, a JPEG."""

import io
from collections.abc import Callable
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import Path, Request
from fastapi.responses import HTMLResponse, Response
from PIL import Image
from starlette.concurrency import run_in_threadpool

from blemish.machine.errors import UnreadableImageError
from blemish.review.gallery import Gallery

KEEP = "private, max-age=86400"
Row = Annotated[int, Path(ge=0)]


def check_row(gallery: Gallery, row: int) -> None:
    """Raises `UnreadableImageError`, which is a 404, for a row that is none."""
    if not 0 <= row < len(gallery):
        raise UnreadableImageError("There is no such image in this Run.")


async def form(request: Request, work: Callable[[dict[str, str]], str]) -> HTMLResponse:
    """The HTML that `work` makes of the fields of a form, in a thread."""
    body = (await request.body()).decode("utf-8", "replace")
    values = {name: found[-1] for name, found in parse_qs(body, keep_blank_values=True).items()}
    return HTMLResponse(await run_in_threadpool(work, values))


def jpeg(image: Image.Image) -> Response:
    """A picture that browsers may keep."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    return Response(data.getvalue(), media_type="image/jpeg", headers={"Cache-Control": KEEP})
