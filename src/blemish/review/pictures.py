"""The addresses of pictures: thumbnails, heatmaps, whole images and places in them."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from PIL import Image

from blemish.review.answers import KEEP, Row, check_row, jpeg
from blemish.review.page import Same
from blemish.scores.heatmaps import shown

LARGE, PATCH = 1400, 180  # pixels of the longer side: an image zoomed into, a place of it
AROUND = 3.0  # patches shown around a place, each way
Share = Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)]

router = APIRouter()


@router.get("/thumbnail/{row}")
def thumbnail(page: Same, row: Row) -> Response:
    """The image, small."""
    check_row(page.gallery, row)
    return Response(page.thumbnails.get(row), media_type="image/jpeg", headers={"Cache-Control": KEEP})


@router.get("/heat/{row}")
def heat(page: Same, row: Row) -> Response:
    """The coloured layer that lies over an image."""
    check_row(page.gallery, row)
    return Response(page.thumbnails.heat(row), media_type="image/png", headers={"Cache-Control": KEEP})


@router.get("/picture/{row}")
def picture(page: Same, row: Row) -> Response:
    """The image, large."""
    check_row(page.gallery, row)
    return jpeg(shown(page.gallery.read(row), LARGE))


@router.get("/patch/{row}")
def patch(page: Same, row: Row, left: Share, top: Share, right: Share, bottom: Share) -> Response:
    """A place of an image, shares of its sides, with what is around it."""
    check_row(page.gallery, row)
    image = Image.fromarray(page.gallery.read(row))
    across, down = (right - left) * AROUND / 2, (bottom - top) * AROUND / 2
    shares = (left - across, top - down, right + across, bottom + down)
    sides = (image.width, image.height, image.width, image.height)
    box = [round(min(max(share, 0.0), 1.0) * side) for share, side in zip(shares, sides, strict=True)]
    box[2], box[3] = max(box[2], box[0] + 1), max(box[3], box[1] + 1)
    crop = image.crop((box[0], box[1], box[2], box[3]))
    factor = PATCH / max(crop.size)
    return jpeg(crop.resize((max(1, round(crop.width * factor)), max(1, round(crop.height * factor)))))
