"""The addresses of pictures, and of the enlarged view: the image, its map, outlines, boxes, and the nearest image."""

import io
import math
from typing import TYPE_CHECKING, Annotated

import numpy as np
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, Response
from markupsafe import Markup
from PIL import Image, ImageDraw

from blemish.images.defect_boxes import DefectBox, Mask
from blemish.label_formats.annotated import outline as outer_edge
from blemish.label_formats.annotated import whole
from blemish.machine.errors import BlemishError, RequestError, UnreadableImageError
from blemish.review.gallery import Gallery
from blemish.review.routes import changed, form, number_of, person
from blemish.review.session import Same, Session
from blemish.review.thumbnails import heat as coloured
from blemish.scores import above
from blemish.scores.heatmaps import shown
from blemish.scores.regions import MOST_REGIONS, Region, outlines, regions_of

if TYPE_CHECKING:
    from blemish.review.reasons import Reason

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


def _seen(session: Session, row: int, beside: bool) -> tuple[Gallery, int, float]:
    """The gallery that the map of a row is from, the row there, its pixel threshold; of the other Run with `beside`."""
    session.check(row)
    if not beside:
        return session.gallery, row, session.gallery.pixel_threshold
    if session.beside is None:
        raise UnreadableImageError("One Run is shown alone")
    return session.beside.gallery, session.beside.row(row), session.beside.gallery.pixel_threshold


@router.get("/heat/{row}")
def heat(session: Same, row: Row, beside: bool = False) -> Response:
    """The coloured layer that lies over an image; with `beside`, that of the other Run."""
    gallery, row, _ = _seen(session, row, beside)
    return Response(coloured(gallery, row), media_type="image/png", headers=KEEP)


@router.get("/outline/{row}")
def outline(session: Same, row: Row, beside: bool = False) -> Response:
    """The outlines of the regions as an SVG that lies over a thumbnail; with `beside`, of the other Run."""
    width, height, path = outline_path(*_seen(session, row, beside))
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
    values = session.gallery.map(row, map_size(session.gallery, row)).astype("<f4")
    return Response(values.tobytes(), media_type="application/octet-stream", headers=KEEP)


def map_size(gallery: Gallery, row: int) -> tuple[int, int]:
    """(width, height) at which the map of an image is sent: its shape, the longer side `MAP`."""
    width, height = (int(each) for each in gallery.scores.sizes[row])
    factor = MAP / max(width, height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def outline_path(gallery: Gallery, row: int, level: float) -> tuple[int, int, str]:
    """Width and height of an image, and the outlines of its regions as an SVG path in its pixels."""
    size = map_size(gallery, row)
    width, height = (int(each) for each in gallery.scores.sizes[row])
    scale = np.array([width / size[0], height / size[1]])
    lines = outlines(gallery.map(row, size), level)
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
    width, height, path = outline_path(session.gallery, row, session.gallery.pixel_threshold)
    (card,) = session.cards([row])
    other = outline_path(*_seen(session, row, beside=True))[2] if card.other else ""
    return session.render(
        "zoom.html", card=card, other_outline=Markup(other),  # noqa: S704 - numbers
        trouble=trouble,
        changed=not trouble and session.gallery.changed(row), width=width, height=height, outline=Markup(path),  # noqa: S704 - numbers
        map_size=map_size(session.gallery, row), boxes=_boxes(session, row),
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


def nearest_normal(session: Session, row: int, reasons: "list[Reason]") -> int | None:
    """The row of the most similar image that is neither flagged nor labelled bad; None if there is none."""
    words, image = session.labelling.words(), session.gallery.scores.image
    flags = above(image, session.labelling.threshold)
    for reason in reasons:
        for place in reason.nearest:
            word = words.get(place.row)
            if place.row != row and (word == "good" or (word != "bad" and not flags[place.row])):
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
    """Keep where an image shows a defect, which makes it bad.

    That is a box (x, y, width, height), a `stroke` of a brush (points "x,y x,y", and its `radius`), or with `regions`
    what is outlined, as "boxes" or as "masks"; all in pixels.
    """

    def work(values: dict[str, str]) -> str:
        row, kind, name = number_of(values.get("row", "")), values.get("type", ""), person(request)
        session.check(row)
        if values.get("regions") == "masks":
            session.labelling.paint(row, _outlined(session, row), kind, name)
        elif values.get("regions"):
            session.labelling.add_boxes(row, _around_outlines(session, row), kind, name)
        elif "stroke" in values:
            session.labelling.paint(row, [_painted(session, row, values)], kind, name)
        else:
            try:
                x, y, width, height = (round(float(values[name])) for name in ("x", "y", "width", "height"))
            except (KeyError, ValueError, OverflowError):
                raise RequestError("A box needs four numbers, x, y, width and height, in pixels.") from None
            session.labelling.add_boxes(row, [(x, y, width, height)], kind, name)
        return _drawn(session, row)

    return await form(request, work)


@router.post("/boxes/remove")
async def remove_box(session: Same, request: Request) -> HTMLResponse:
    """Take a box away again."""

    def work(values: dict[str, str]) -> str:
        row = number_of(values.get("row", ""))
        session.check(row)
        session.labelling.remove_box(row, number_of(values.get("number", "")), person(request))
        return _drawn(session, row)

    return await form(request, work)


@router.post("/undo")
async def undo(session: Same, request: Request) -> HTMLResponse:
    """Take back the last label, or what was drawn or removed last."""

    def work(values: dict[str, str]) -> str:
        rows, zoomed = session.labelling.undo(person(request)), number_of(values.get("zoomed", ""))
        return _drawn(session, zoomed) if rows == [zoomed] else changed(session, rows, values)

    return await form(request, work)


def _drawn(session: Session, row: int) -> str:
    """The HTML of what is different after something was drawn: the boxes, and the card."""
    boxes = session.render("boxes.html", swap=True, row=row, boxes=_boxes(session, row))
    return boxes + changed(session, [row], {"zoomed": str(row)})


def _boxes(session: Session, row: int) -> list[tuple[DefectBox, str]]:
    """What was drawn on an image, each with the SVG path of its edge if it was painted."""
    found = session.labelling.boxes().get(session.gallery.content[row], [])
    return [(box, _edge(box) if box.mask else "") for box in found]


def _edge(box: DefectBox) -> str:
    region = Region(box.x, box.y, box.x + box.width, box.y + box.height, 0, 0.0, box.pixels())
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in outer_edge(region)) + "Z"


def _painted(session: Session, row: int, values: dict[str, str]) -> Mask:
    """What a brush paints along a stroke, (H, W) bool of the image."""
    width, height = (int(each) for each in session.gallery.scores.sizes[row])
    try:
        points = [tuple(float(each) for each in point.split(",")) for point in values["stroke"].split()]
        radius = float(values.get("radius", ""))
        if (
            not points
            or not all(len(p) == 2 and math.isfinite(sum(p)) for p in points)
            or not 0 < radius <= width + height
        ):
            raise ValueError
    except ValueError:
        raise RequestError("A stroke needs points, as x,y x,y, and a radius above 0, in pixels.") from None
    canvas = Image.new("L", (width, height))
    draw = ImageDraw.Draw(canvas)
    draw.line([(x - 0.5, y - 0.5) for x, y in points], fill=1, width=max(1, round(2 * radius)))
    for x, y in points:
        draw.ellipse((x - 0.5 - radius, y - 0.5 - radius, x - 0.5 + radius, y - 0.5 + radius), fill=1)
    return np.asarray(canvas) > 0


def _outlined(session: Session, row: int) -> list[Mask]:
    """The regions above the level, each as a mask (H, W) of the image."""
    width, height = (int(each) for each in session.gallery.scores.sizes[row])
    levels = session.gallery.map(row, (width, height))
    found = regions_of(levels > session.gallery.pixel_threshold, levels)[:MOST_REGIONS]
    return [whole(each, (height, width)) for each in found]


def _around_outlines(session: Session, row: int) -> list[tuple[int, int, int, int]]:
    """The boxes (x, y, width, height) around the outlined regions, in pixels; none inside another."""
    size = map_size(session.gallery, row)
    wide, high = (int(each) for each in session.gallery.scores.sizes[row])
    found: list[tuple[int, int, int, int]] = []
    for line in outlines(session.gallery.map(row, size), session.gallery.pixel_threshold):
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
