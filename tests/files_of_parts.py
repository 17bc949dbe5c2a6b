"""A soft pattern with a ring, and a bright blob in bad ones, written to files of every kind."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

OLD_WAYS = [  # of packages that write these files
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tifffile"),
]
SIDE, GOOD, BAD = 64, 12, 3
rng = np.random.default_rng


def part(index):
    """A soft pattern with a ring, (SIDE, SIDE) floats 0 to 1; the last `BAD` of a folder have a bright blob."""
    noise, (y, x) = rng(index), np.mgrid[0:SIDE, 0:SIDE]
    shown = 0.4 + 0.08 * np.sin((y + 0.3 * x) / 5 + index) + noise.normal(0, 0.02, (SIDE, SIDE))
    shown[np.abs(np.hypot(x - 32, y - 32) - 18) < 4] -= 0.2
    if index >= GOOD:
        shown[np.hypot(x - 20 - 3 * (index - GOOD), y - 30) < 6] = 0.9
    return shown.clip(0, 1)


def name_of(index):
    return f"{'bad' if index >= GOOD else 'part'}-{index:02d}"


def folder(root, write, suffix, count=GOOD + BAD):
    """A folder of parts, each written by `write(path, part, index)`."""
    root.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        write(root / f"{name_of(index)}{suffix}", part(index), index)
    return root


def truth(shown):
    return shown


def check_levels(images, *, ids=None, tolerance=4.0, shown=truth):
    """All images are one brightness of their parts: the same line from the part's to the image's levels, few off it."""
    ids = ids or images.ids
    want = np.stack([shown(part(int(Path(name).stem.split("-")[1]))) for name in ids])
    found = np.stack([images.read(name).astype(float).mean(axis=2) for name in ids])
    slope, offset = np.polyfit(want.ravel(), found.ravel(), 1)
    assert abs(slope) > 80, "hardly any contrast is left"
    off = np.abs(found - (slope * want + offset))
    assert np.percentile(off, 98) <= tolerance
    return slope


def pillow(mode="L", form=None, **options):
    def write(path, shown, index):
        image = Image.fromarray((shown * 255).round().astype(np.uint8)).convert(mode)
        image.save(path, format=form, **options)

    return write


def tiff(make, **options):
    def write(path, shown, index):
        tifffile.imwrite(path, make(shown), **options)

    return write


def turned(form="PNG", **options):
    """Saved on its side, with the EXIF orientation that sets it upright."""

    def write(path, shown, index):
        about = Image.Exif()
        about[0x0112] = 6
        image = Image.fromarray((shown * 255).round().astype(np.uint8)).transpose(Image.Transpose.ROTATE_90)
        image.save(path, form, exif=about, **options)

    return write


def animated(form, **options):
    """A file of three pictures, of which the part is the first."""

    def write(path, shown, index):
        image = Image.fromarray((shown * 255).round().astype(np.uint8)).convert("RGB")
        others = [image.point(lambda level: 255 - level), image.point(lambda level: level // 3)]
        image.save(path, form, save_all=True, append_images=others, **options)

    return write


def paged(make):
    def write(path, shown, index):
        with tifffile.TiffWriter(path) as file:
            for page in (shown, shown[::-1], shown / 2):
                file.write(make(page))

    return write


def png16(channels, *, interlaced=False):
    """A PNG of 16 bits, written by hand: Pillow cannot."""
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def write(path, shown, index):
        levels = (shown * 1000 + 40).astype(">u2")  # a camera of 12 bits, moderately exposed
        planes = [levels] * (channels - (channels in (2, 4)))
        planes += [np.full_like(levels, 65535)] if channels in (2, 4) else []
        rows = np.stack(planes, -1).reshape(SIDE, -1)
        parts = [rows]
        if interlaced:
            whole = rows.reshape(SIDE, SIDE, channels)
            parts = [
                whole[top::down, left::across].reshape(len(whole[top::down]), -1) for left, top, across, down in ADAM7
            ]
        data = b"".join(b"\0" + row.astype(">u2").tobytes() for part in parts for row in part)
        header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, colour, 0, 0, interlaced)
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
        )

    return write


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def text_pnm(kind, most):
    def write(path, shown, index):
        levels = np.repeat((shown * most).round().astype(int).ravel(), 3 if kind == "P3" else 1)
        path.write_text(f"{kind}\n# made by hand\n{SIDE} {SIDE}\n{most}\n# levels\n" + "\n".join(map(str, levels)))

    return write


def float_map(path, shown, index):
    path.write_bytes(f"Pf\n{SIDE} {SIDE}\n-1.0\n".encode() + shown[::-1].astype("<f4").tobytes())


def pnm(kind, most):
    def write(path, shown, index):
        levels = (shown * most).round().astype(">u2" if most > 255 else np.uint8)
        levels = np.repeat(levels[:, :, None], 3, 2) if kind == "P6" else levels
        path.write_bytes(f"{kind}\n{SIDE} {SIDE}\n{most}\n".encode() + levels.tobytes())

    return write


def u16(shown):
    return (shown * 1000 + 40).astype(np.uint16)


def colour(make, channels=3):
    return lambda shown: np.stack([make(shown)] * channels, -1)


def with_alpha(make):
    return lambda shown: np.dstack([make(shown), np.full(shown.shape, 65535, np.uint16)])


KINDS = {
    "png 8 grey": (pillow("L"), ".png"),
    "png 8 colour": (pillow("RGB"), ".png"),
    "png 8 colour, alpha": (pillow("RGBA"), ".png"),
    "png 8 grey, alpha": (pillow("LA"), ".png"),
    "png palette": (pillow("P"), ".png"),
    "png 16 grey": (png16(1), ".png"),
    "png 16 grey, alpha": (png16(2), ".png"),
    "png 16 colour": (png16(3), ".png"),
    "png 16 colour, alpha": (png16(4), ".png"),
    "png 16 grey, interlaced": (png16(1, interlaced=True), ".png"),
    "png 16 colour, interlaced": (png16(3, interlaced=True), ".png"),
    "png palette, one colour transparent": (pillow("P", transparency=255), ".png"),
    "png, turned by EXIF": (turned("PNG"), ".png"),
    "jpeg, turned by EXIF": (turned("JPEG", quality=95), ".jpg"),
    "webp, turned by EXIF": (turned("WEBP", lossless=True), ".webp"),
    "tiff 16, turned": (tiff(lambda s: np.rot90(u16(s)).copy(), extratags=[(274, "H", 1, 6, True)]), ".tif"),
    "png, animated": (animated("PNG"), ".png"),
    "gif, animated": (animated("GIF"), ".gif"),
    "webp, animated": (animated("WEBP", lossless=True), ".webp"),
    "jpeg of a phone, two pictures": (animated("MPO", quality=95), ".jpg"),
    "tiff 8, pages": (paged(lambda s: (s * 255).astype(np.uint8)), ".tif"),
    "tiff 16, pages": (paged(u16), ".tif"),
    "tiff 8, palette": (
        tiff(
            lambda s: (s * 255).astype(np.uint8),
            photometric="palette",
            colormap=np.stack([np.arange(256, dtype=np.uint16) * 257] * 3),
        ),
        ".tif",
    ),
    "tiff 8, CMYK": (pillow("CMYK", "TIFF"), ".tif"),
    "tiff 8, LAB": (
        tiff(
            lambda s: np.dstack([(s * 255).astype(np.uint8), *np.full((2, SIDE, SIDE), 128, np.uint8)]),
            photometric="cielab",
        ),
        ".tif",
    ),
    "tiff 8 colour, planes": (
        tiff(lambda s: np.stack([(s * 255).astype(np.uint8)] * 3), photometric="rgb", planarconfig="separate"),
        ".tif",
    ),
    "tiff 64 signed": (tiff(lambda s: (s * 1e12).astype(np.int64)), ".tif"),
    "tiff 8": (tiff(lambda s: (s * 255).astype(np.uint8)), ".tif"),
    "tiff 8, 0 is white": (tiff(lambda s: (s * 255).astype(np.uint8), photometric="miniswhite"), ".tif"),
    "tiff 8 signed": (tiff(lambda s: (s * 255 - 128).astype(np.int8)), ".tif"),
    "tiff 16": (tiff(u16), ".tif"),
    "tiff 16, big-endian": (tiff(u16, byteorder=">"), ".tiff"),
    "tiff 16, BigTIFF": (tiff(u16, bigtiff=True), ".tif"),
    "tiff 16, tiled": (tiff(u16, tile=(16, 16)), ".tif"),
    "tiff 16, deflate": (tiff(u16, compression="zlib", predictor=True), ".tif"),
    "tiff 16 signed": (tiff(lambda s: (s * 1000 - 500).astype(np.int16)), ".tif"),
    "tiff 32 signed": (tiff(lambda s: (s * 1e6 - 5e5).astype(np.int32)), ".tif"),
    "tiff 32 unsigned": (tiff(lambda s: (s * 4e9).astype(np.uint32)), ".tif"),
    "tiff half": (tiff(lambda s: s.astype(np.float16)), ".tif"),
    "tiff float": (tiff(lambda s: (s * 3 - 1).astype(np.float32)), ".tif"),
    "tiff double": (tiff(lambda s: s * 1e-6), ".tif"),
    "tiff 16 colour": (tiff(colour(u16), photometric="rgb"), ".tif"),
    "tiff 16 colour, deflate": (tiff(colour(u16), photometric="rgb", compression="zlib", predictor=True), ".tif"),
    "tiff 16 colour, planes": (
        tiff(lambda s: np.stack([u16(s)] * 3), photometric="rgb", planarconfig="separate"),
        ".tif",
    ),
    "tiff 16 colour, alpha": (tiff(with_alpha(colour(u16)), photometric="rgb", extrasamples=["unassalpha"]), ".tif"),
    "tiff 16 grey, alpha": (tiff(with_alpha(u16), photometric="minisblack", extrasamples=["unassalpha"]), ".tif"),
    "tiff float colour": (tiff(colour(lambda s: s.astype(np.float32)), photometric="rgb"), ".TIF"),
    "jpeg": (pillow("RGB", "JPEG", quality=95), ".jpg"),
    "jpeg, .jfif": (pillow("L", "JPEG", quality=95), ".jfif"),
    "jpeg, .jpe": (pillow("L", "JPEG", quality=95), ".jpe"),
    "jpeg, progressive": (pillow("L", "JPEG", quality=95, progressive=True), ".JPEG"),
    "jpeg, CMYK": (pillow("CMYK", "JPEG", quality=95), ".jpg"),
    "jpeg, without a suffix": (pillow("L", "JPEG", quality=95), ""),
    "jpeg, numbered": (pillow("L", "JPEG", quality=95), ".0001"),
    "png, without a suffix": (pillow("L", "PNG"), ""),
    "tiff, without a suffix": (tiff(u16), ""),
    "jpeg 2000": (pillow("L", "JPEG2000"), ".jp2"),
    "jpeg 2000 colour": (pillow("RGB", "JPEG2000"), ".jp2"),
    "jpeg 2000 stream": (pillow("L", "JPEG2000", no_jp2=True), ".j2k"),
    "gif": (pillow("L", "GIF"), ".gif"),
    "bmp": (pillow("RGB", "BMP"), ".bmp"),
    "bmp, without a suffix": (pillow("RGB", "BMP"), ""),
    "webp": (pillow("RGB", "WEBP", lossless=True), ".webp"),
    "pgm": (pnm("P5", 255), ".pgm"),
    "pgm 12": (pnm("P5", 4095), ".pgm"),
    "ppm": (pnm("P6", 255), ".ppm"),
    "ppm 16": (pnm("P6", 65535), ".ppm"),
    "pnm": (pnm("P5", 255), ".pnm"),
    "pgm 12 as text": (text_pnm("P2", 4095), ".pgm"),
    "ppm 12 as text": (text_pnm("P3", 4095), ".ppm"),
    "pgm of floats": (float_map, ".pgm"),
}


def lost_at(share, index, *, fixed=False):
    return rng(0 if fixed else 900 + index).random((SIDE, SIDE)) < share


def hole():
    lost = np.zeros((SIDE, SIDE), bool)
    lost[4:16, 40:60] = True
    return lost


def with_lost(make, level, where):
    def write(path, shown, index):
        values = make(shown)
        values[where(index)] = level
        tifffile.imwrite(path, values)

    return write


def height(shown):
    return (shown * 3 - 1).astype(np.float32)


def depth(shown):
    return (shown * 800 + 30000).astype(np.uint16)


def signed(shown):
    return (shown * 800).astype(np.int16)


def scattered(index):
    return lost_at(0.01, index)


def in_one_place(index):
    return lost_at(0.01, index, fixed=True)


def in_a_hole(index):
    return hole()


LOST = {
    "-9999": (with_lost(height, -9999, scattered), "-9999"),
    "-9999, always at the same places": (with_lost(height, -9999, in_one_place), "-9999"),
    "-9999, a hole": (with_lost(height, -9999, in_a_hole), "-9999"),
    "nan": (with_lost(height, np.nan, scattered), "not a number"),
    "nan, a hole": (with_lost(height, np.nan, in_a_hole), "not a number"),
    "inf": (with_lost(height, np.inf, scattered), "not a number"),
    "-inf": (with_lost(height, -np.inf, scattered), "not a number"),
    "-3.4e38": (with_lost(height, np.finfo(np.float32).min, scattered), "-3.4"),
    "1e38": (with_lost(height, 1e38, scattered), "1e+38"),
    "-99999": (with_lost(lambda s: s * 3 - 1, -99999.0, scattered), "-99999"),
    "-32768": (with_lost(signed, -32768, scattered), "-32768"),
    "0 below a depth": (with_lost(depth, 0, scattered), "(0;"),
    "65535 above a depth": (with_lost(depth, 65535, in_a_hole), "65535"),
}


def grey(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)
