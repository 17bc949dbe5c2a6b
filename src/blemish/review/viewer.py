"""The addresses of pictures, and of the enlarged view: the image, its map, outlines, boxes, and the nearest image."""

import io
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup
from PIL import Image

from blemish.machine.errors import BlemishError, RequestError, UnreadableImageError
from blemish.review.reasons import Reason
from blemish.review.routes import form, number_of, person
from blemish.review.session import Same, Session
from blemish.scores.heatmaps import shown
from blemish.scores.regions import outlines

LARGE, PATCH = 1400, 180  # pixels of the longer side: an image before it is zoomed into, a place of it
MAP = 256  # values of the longer side of the map under the pointer
AROUND = 3.0  # patches shown around a place, each way
KEEP = {"Cache-Control": "private, max-age=86400"}
Share = Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)]
Row = Annotated[int, Path(ge=0)]

router = APIRouter()


def jpeg(image: Image.Image) -> Response:
    """A picture that browsers may keep."""
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    return Response(data.getvalue(), media_type="image/jpeg", headers=KEEP)


@router.get("/thumbnail/{row}")
def thumbnail(session: Same, row: Row) -> Response:
    """The image, small."""
    session.check(row)
    return Response(session.thumbnails.get(row), media_type="image/jpeg", headers=KEEP)


@router.get("/heat/{row}")
def heat(session: Same, row: Row) -> Response:
    """The coloured layer that lies over an image."""
    session.check(row)
    return Response(session.thumbnails.heat(row), media_type="image/png", headers=KEEP)


@router.get("/outline/{row}")
def outline(session: Same, row: Row) -> Response:
    """The outlines of the regions as an SVG that lies over a thumbnail."""
    session.check(row)
    width, height, path = outline_path(session, row)
    lines = "".join(
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{share * max(width, height):.3f}"/>'
        for colour, share in (("#000", 0.022), ("#ffd84d", 0.011))
    )
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">{lines}</svg>'
    return Response(svg, media_type="image/svg+xml", headers=KEEP)


@router.get("/picture/{row}")
def picture(session: Same, row: Row, full: bool = False) -> Response:
    """The image, large; with `full` every pixel of it, as PNG."""
    session.check(row)
    pixels = session.gallery.read(row)
    if not full:
        return jpeg(shown(pixels, LARGE))
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", compress_level=1)
    return Response(data.getvalue(), media_type="image/png", headers=KEEP)


@router.get("/map/{row}")
def levels(session: Same, row: Row) -> Response:
    """The anomaly map as float32, little-endian, row by row; the size stands in the page."""
    session.check(row)
    values = session.gallery.map(row, map_size(session, row)).astype("<f4")
    return Response(values.tobytes(), media_type="application/octet-stream", headers=KEEP)


def map_size(session: Session, row: int) -> tuple[int, int]:
    """(width, height) at which the map of an image is sent: its shape, the longer side `MAP`."""
    width, height = (int(each) for each in session.gallery.scores.sizes[row])
    factor = MAP / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def outline_path(session: Session, row: int) -> tuple[int, int, str]:
    """Width and height of an image, and the outlines of its regions as an SVG path in its pixels."""
    size = map_size(session, row)
    width, height = (int(each) for each in session.gallery.scores.sizes[row])
    scale = np.array([width / size[0], height / size[1]])
    lines = outlines(session.gallery.map(row, size), session.level)
    return width, height, "".join(
        "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in (line * scale).clip(0, (width, height))) + "Z" for line in lines
    )  # fmt: skip


@router.get("/zoom/{row}", response_class=HTMLResponse)
def zoom(session: Same, row: Row) -> str:
    """One image, enlarged: what the viewer shows, and what is beside it."""
    session.check(row)
    trouble = ""
    try:
        session.gallery.file(row)
    except UnreadableImageError as error:
        trouble = str(error)
    width, height, path = outline_path(session, row)
    return session.render(
        "zoom.html", card=session.cards([row])[0], trouble=trouble,
        changed=not trouble and session.gallery.changed(row), width=width, height=height, outline=Markup(path),  # noqa: S704 - numbers
        map_size=map_size(session, row), level=session.level, boxes=_boxes(session, row),
        types=session.labelling.types(),
    )  # fmt: skip


@router.get("/why/{row}", response_class=HTMLResponse)
def why(session: Same, row: Row) -> str:
    """The unusual places of an image beside the most similar normal ones, and the image to show beside it."""
    session.check(row)
    try:
        reasons, trouble = session.reasons.of(row), ""
    except (BlemishError, KeyError) as error:
        reasons, trouble = [], str(error)
    return session.render("why.html", reasons=reasons, trouble=trouble, beside=nearest_normal(session, row, reasons))


def nearest_normal(session: Session, row: int, reasons: list[Reason]) -> int | None:
    """The row of the most similar image that is neither flagged nor labelled bad; None if there is none."""
    words, image = session.labelling.words(), session.gallery.scores.image
    line = np.float32(session.labelling.threshold)
    for reason in reasons:
        for place in reason.nearest:
            word = words.get(place.row)
            if place.row != row and (word == "good" or (word != "bad" and image[place.row] <= line)):
                return place.row
    return None


@router.get("/patch/{row}")
def patch(session: Same, row: Row, left: Share, top: Share, right: Share, bottom: Share) -> Response:
    """A place of an image, shares of its sides, with what is around it."""
    session.check(row)
    image = Image.fromarray(session.gallery.read(row))
    across, down = (right - left) * AROUND / 2, (bottom - top) * AROUND / 2
    shares = (left - across, top - down, right + across, bottom + down)
    sides = (image.width, image.height, image.width, image.height)
    box = [round(min(max(share, 0.0), 1.0) * side) for share, side in zip(shares, sides, strict=True)]
    box[2], box[3] = max(box[2], box[0] + 1), max(box[3], box[1] + 1)
    crop = image.crop((box[0], box[1], box[2], box[3]))
    factor = PATCH / max(crop.size)
    return jpeg(crop.resize((max(1, round(crop.width * factor)), max(1, round(crop.height * factor)))))


@router.post("/boxes")
async def add_boxes(session: Same, request: Request) -> HTMLResponse:
    """Keep a box (x, y, width, height in pixels); with `regions` one around each outlined region instead."""

    def work(values: dict[str, str]) -> str:
        row = number_of(values.get("row", ""))
        session.check(row)
        if values.get("regions"):
            corners = _around_outlines(session, row)
        else:
            try:
                x, y, width, height = (round(float(values[name])) for name in ("x", "y", "width", "height"))
            except (KeyError, ValueError, OverflowError):
                raise RequestError("A box needs four numbers, x, y, width and height, in pixels.") from None
            corners = [(x, y, width, height)]
        session.labelling.add_boxes(row, corners, values.get("type", ""), person(request))
        return session.render(
            "boxes.html", swap=True, row=row, boxes=_boxes(session, row), types=session.labelling.types()
        )

    return await form(request, work)


@router.post("/boxes/remove")
async def remove_box(session: Same, request: Request) -> HTMLResponse:
    """Take a box away again."""

    def work(values: dict[str, str]) -> str:
        row = number_of(values.get("row", ""))
        session.check(row)
        session.labelling.remove_box(row, number_of(values.get("number", "")), person(request))
        return session.render(
            "boxes.html", swap=True, row=row, boxes=_boxes(session, row), types=session.labelling.types()
        )

    return await form(request, work)


def _boxes(session: Session, row: int) -> list[object]:
    return [*session.labelling.boxes().get(session.gallery.content[row], [])]


def _around_outlines(session: Session, row: int) -> list[tuple[int, int, int, int]]:
    """The boxes (x, y, width, height) around the outlined regions, in pixels; none inside another."""
    size = map_size(session, row)
    wide, high = (int(each) for each in session.gallery.scores.sizes[row])
    found: list[tuple[int, int, int, int]] = []
    for line in outlines(session.gallery.map(row, size), session.level):
        low, top = np.floor(line.min(axis=0) * (wide / size[0], high / size[1])).astype(int)
        right, bottom = np.ceil(line.max(axis=0) * (wide / size[0], high / size[1])).astype(int)
        left, top, right, bottom = max(int(low), 0), max(int(top), 0), min(int(right), wide), min(int(bottom), high)
        found.append((left, top, max(1, right - left), max(1, bottom - top)))
    return [box for box in found if not any(_inside(box, other) for other in found if other != box)]


def _inside(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return (
        box[0] >= other[0]
        and box[1] >= other[1]
        and box[0] + box[2] <= other[0] + other[2]
        and box[1] + box[3] <= other[1] + other[3]
    )
