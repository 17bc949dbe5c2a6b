"""From the body of an HTTP request to images: what is too large, damaged or of the wrong kind is refused by name."""

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from blemish.images.decoding import MIN_SIDE, Decoding, Pixels, decode, lost_in, read_header
from blemish.machine.errors import UnreadableImageError

FORMATS = ("PNG", "JPEG")  # Pillow's names; no other decoder is ever handed what a stranger sent
RAW = "application/octet-stream"
SAME_KIND = {"image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg", "image/x-png": "image/png"}  # what clients send
KINDS = ("image/png", "image/jpeg", RAW, "multipart/form-data")
FIELD, SHAPE = "images", "shape"


@dataclass(frozen=True)
class Limits:
    """What one request may cost.

    Attributes
    ----------
    body : bytes of a request.
    pixels : of one image, before it is decoded.
    images : of a request.
    seconds : for the whole body to arrive.
    answer_seconds : from there to the scores.
    requests : being read or answered at once; their bodies are in memory.
    pixels_at_once : of all images that are decoded and not answered yet, 3 bytes each.
    """

    body: int = 32 * 2**20
    pixels: int = 25_000_000
    images: int = 64
    seconds: float = 30.0
    answer_seconds: float = 60.0
    requests: int = 32
    pixels_at_once: int = 200_000_000


class RefusedError(Exception):
    """A request that is not answered with scores: the HTTP status and one sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


@dataclass(frozen=True)
class Upload:
    """One image of a request: its name, its pixels (H, W, 3), and the SHA-256 of what was sent.

    `lost` is where nothing was measured, as `ImageSet.lost` has it; None where all of it was.
    """

    name: str
    pixels: Pixels
    content: str
    lost: bytes | None = None


class BusyError(Exception):
    """There is no room for more images; try again later."""


class PixelRoom:
    """What may be decoded at once, over all requests."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    @contextmanager
    def taking(self, pixels: int) -> Iterator[None]:
        """Take room for a `with` block. Raises `BusyError`, or `RefusedError` for what never has room."""
        if pixels > self.most:
            raise RefusedError(413, f"The images of a request may have {self.most:,} pixels; these have {pixels:,}.")
        if self.taken + pixels > self.most:
            raise BusyError
        self.taken += pixels
        try:
            yield
        finally:
            self.taken -= pixels


async def parts_of(request: Request, limits: Limits) -> list["Part"]:
    """The images of a request as they were sent. Raises `RefusedError`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    kind = SAME_KIND.get(kind, kind)
    if kind not in KINDS:
        raise RefusedError(415, f"The content type must be one of {', '.join(KINDS)}; got '{kind[:80]}'.")
    sent = request.headers.get("content-length", "")
    if sent.isdigit() and int(sent) > limits.body:
        raise RefusedError(413, f"A request may have {limits.body:,} bytes; this one has {int(sent):,}.")
    try:
        async with asyncio.timeout(limits.seconds):
            parts = await _parts(request, kind, limits)
    except TimeoutError:
        raise RefusedError(408, f"The request did not arrive within {limits.seconds:g} s; send it again.") from None
    except ClientDisconnect:
        raise RefusedError(400, "The upload was cut short.") from None
    if not parts:
        raise RefusedError(422, f"There is no image; send one as the body, or several as parts named '{FIELD}'.")
    if len(parts) > limits.images:
        raise RefusedError(413, f"A request may have {limits.images} images; this one has {len(parts)}.")
    return parts


@dataclass(frozen=True)
class Part:
    """One image as it was sent: a file's bytes, or a raw array and its shape."""

    name: str
    data: bytes
    shape: str | None  # of a raw array


async def _parts(request: Request, kind: str, limits: Limits) -> list[Part]:
    received = 0

    async def bounded() -> AsyncGenerator[bytes, None]:
        nonlocal received
        async for chunk in request.stream():
            received += len(chunk)
            if received > limits.body:
                raise RefusedError(413, f"A request may have {limits.body:,} bytes; this one has more.")
            yield chunk

    if kind != "multipart/form-data":
        data = b"".join([chunk async for chunk in bounded()])
        shape = request.query_params.get(SHAPE, "") if kind == RAW else None
        return [Part("image", data, shape)] if data else []
    try:
        parser = MultiPartParser(
            request.headers, bounded(), max_files=limits.images + 1, max_fields=limits.images + 1, max_part_size=2**12
        )
        form = await parser.parse()
    except (MultiPartException, FormParserError, KeyError, ValueError, UnicodeError) as error:
        raise RefusedError(400, f"The multipart body cannot be read ({str(error)[:200]}).") from None
    try:
        shapes = [each for each in form.getlist(SHAPE) if isinstance(each, str)]
        files = [each for each in form.getlist(FIELD) if isinstance(each, UploadFile)]
        if any(name not in (FIELD, SHAPE) for name in form) or len(files) < len(form.getlist(FIELD)):
            raise RefusedError(
                422, f"Parts are files named '{FIELD}' and texts named '{SHAPE}'; got {sorted(form)[:4]}."
            )
        found = []
        for number, file in enumerate(files):
            raw = (file.content_type or "").partition(";")[0].strip().lower() == RAW and bool(shapes)
            shape = shapes.pop(0) if raw else None
            found.append(Part(file.filename or f"image {number + 1}", await file.read(), shape))
        if shapes:
            raise RefusedError(422, f"There are {len(shapes)} shapes more than raw arrays ({RAW}).")
        return found
    finally:
        await form.close()


def pixels_of(parts: Sequence[Part], limits: Limits) -> int:
    """How many pixels the images have, from their headers. Raises `RefusedError` for one that has too many."""
    return sum(_pixels(each, limits) for each in parts)


def _pixels(part: Part, limits: Limits) -> int:
    if part.shape is not None:
        height, width = _shape(part, limits)[:2]
        return height * width
    with _refused(part):
        width, height = read_header(part.data, limits.pixels, FORMATS).size
        return width * height


def decoded_all(parts: Sequence[Part], limits: Limits, decoding: Decoding, full: bool) -> list[Upload]:
    """The pixels of all, large images reduced unless `full`. Raises `RefusedError`."""
    pixels = [_decoded(each, limits, decoding, full) for each in parts]
    contents = [hashlib.sha256(each.data).hexdigest() for each in parts]
    lost = [None if part.shape is not None else lost_in(part.data, decoding) for part in parts]
    names = [part.name for part in parts]
    return [Upload(*each) for each in zip(names, pixels, contents, lost, strict=True)]


def _decoded(part: Part, limits: Limits, decoding: Decoding, full: bool) -> Pixels:
    if part.shape is not None:
        array = np.frombuffer(part.data, dtype=np.uint8).reshape(_shape(part, limits))
        return np.array(array if array.ndim == 3 else np.repeat(array[:, :, None], 3, axis=2))
    with _refused(part):
        return decode(part.data, decoding, FORMATS, full=full)


@contextmanager
def _refused(part: Part) -> Iterator[None]:
    """What cannot be read inside the block is refused by name."""
    try:
        yield
    except UnreadableImageError as error:
        status = 413 if "more than `max_pixels`" in str(error) else 422
        raise RefusedError(status, f"'{part.name[:80]}' cannot be used: {error}.") from None


def _shape(part: Part, limits: Limits) -> tuple[int, ...]:
    """The shape of a raw uint8 array, H,W,3 or H,W, which has as many bytes. Raises `RefusedError`."""
    words = (part.shape or "").split(",")
    if len(words) not in (2, 3) or not all(word.strip().isascii() and word.strip().isdigit() for word in words):
        raise RefusedError(422, f"A raw array needs its {SHAPE}, such as 480,640,3; got '{(part.shape or '')[:40]}'.")
    shape = tuple(int(word[:12]) for word in words)
    if shape[2:] not in ((), (3,)) or min(shape[:2]) < MIN_SIDE:
        raise RefusedError(422, f"The {SHAPE} must be H,W,3 or H,W with sides of at least {MIN_SIDE}; got {shape}.")
    if shape[0] * shape[1] > limits.pixels:
        raise RefusedError(413, f"An image may have {limits.pixels:,} pixels; got {shape[1]} x {shape[0]}.")
    if math.prod(shape) != len(part.data):
        raise RefusedError(422, f"An array of shape {shape} has {math.prod(shape):,} bytes; got {len(part.data):,}.")
    return shape
