"""Files as people have them: each becomes the levels it holds, for all images of a folder alike, or is named."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, features

import blemish
from blemish.images import ImageSet
from blemish.images.levels import CELLS
from blemish.machine.errors import JobError, RequestError
from conftest import small_detector

SIDE, GOOD, BAD = 64, 12, 3
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tifffile"),
]
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


# --- kinds of files ---


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_file_becomes_the_levels_it_holds(kind, tmp_path):
    write, suffix = KINDS[kind]
    images = ImageSet.of(folder(tmp_path / "in", write, suffix))
    assert len(images) == GOOD + BAD
    assert images.skipped == {}
    assert any("first of each" in note for note in images.notes) == any(
        word in kind for word in ("animated", "pages", "pictures")
    )
    check_levels(images, tolerance=8 if "jpeg" in kind else 4)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path):
    check_levels(ImageSet.of(folder(tmp_path / "in", pillow("L", "AVIF", quality=95), ".avif")), tolerance=8)


# --- levels that are no measurements ---


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


@pytest.mark.parametrize("kind", LOST)
def test_lost_pixels_are_named_filled_and_do_not_set_the_range(kind, tmp_path):
    write, named = LOST[kind]
    images = ImageSet.of(folder(tmp_path / "in", write, ".tif"))
    assert len(images) == GOOD + BAD
    assert any("without a measurement" in note and named in note for note in images.notes)
    inside = hole()

    def measured_only(shown):
        return np.where(inside, np.nan, shown) if "hole" in kind or "65535" in kind else shown

    want = np.stack([measured_only(part(int(name[-6:-4]))) for name in images.ids])
    found = np.stack([images.read(name)[:, :, 0].astype(float) for name in images.ids])
    there = np.isfinite(want)
    slope, offset = np.polyfit(want[there], found[there], 1)
    assert slope > 150
    assert np.percentile(np.abs(found - (slope * want + offset))[there], 98) <= 4


def test_a_hole_is_not_scored_and_scattered_pixels_are(tmp_path):
    images = ImageSet.of(folder(tmp_path / "in", with_lost(height, np.nan, in_a_hole), ".tif"))
    cells = np.unpackbits(np.frombuffer(images.lost[images.ids[0]], np.uint8)).reshape(CELLS, CELLS)
    assert cells[5:15, 41:59].all()
    assert cells.mean() < 0.12
    assert not ImageSet.of(folder(tmp_path / "dots", with_lost(height, np.nan, scattered), ".tif")).lost


def test_a_far_level_of_a_few_images_is_a_defect_and_not_lost(tmp_path):
    def write(path, shown, index):
        values = depth(shown)
        if index >= GOOD:  # a hot spot that saturates
            values[20:30, 20:30] = 65535
        tifffile.imwrite(path, values)

    images = ImageSet.of(folder(tmp_path / "in", write, ".tif", GOOD + 2))
    assert not images.lost
    assert images.read("bad-12.tif")[20:30, 20:30].min() == 255
    assert any("levels far outside" in note and "bad-12.tif, bad-13.tif" in note for note in images.notes)
    check_levels(images, ids=[name for name in images.ids if name.startswith("part")])


@pytest.mark.parametrize("what", ["image", "strip", "line"])
def test_one_image_does_not_set_the_range_of_all(what, tmp_path):
    def write(path, shown, index):
        values = u16(shown).astype(np.float32)
        if index == 3:
            rows = {"image": slice(None), "strip": slice(0, 8), "line": slice(5, 6)}[what]
            values[rows] = values[rows] * 50 + rng(1).normal(0, 500, values[rows].shape)
        tifffile.imwrite(path, values)

    images = ImageSet.of(folder(tmp_path / "in", write, ".tif"))
    assert any("1 image has levels far outside" in note and "part-03.tif" in note for note in images.notes)
    check_levels(images, ids=[name for name in images.ids if name != "part-03.tif"])


def test_images_without_any_measurement_are_skipped_by_name(tmp_path):
    root = folder(tmp_path / "in", with_lost(height, -9999, scattered), ".tif")
    tifffile.imwrite(root / "empty.tif", np.full((SIDE, SIDE), np.nan, np.float32))
    tifffile.imwrite(root / "nearly.tif", np.where(lost_at(0.95, 0), -9999, height(part(0))).astype(np.float32))
    images = ImageSet.of(root)
    assert "nearly.tif" in images.skipped
    assert "9" in images.skipped["nearly.tif"]
    with pytest.raises(Exception, match="no finite number"):
        images.read("empty.tif")


def test_new_images_are_read_with_the_range_and_the_lost_levels_of_the_fit(tmp_path):
    before = ImageSet.of(folder(tmp_path / "in", with_lost(height, -9999, scattered), ".tif"))
    new = folder(tmp_path / "new", with_lost(height, -9999, in_a_hole), ".tif", 3)
    tifffile.imwrite(new / "hot-03.tif", height(part(3)) * 100)
    images = ImageSet.of(new, decoding=before.decoding, find_range=False)
    assert images.decoding == before.decoding
    assert set(images.lost) == {"part-00.tif", "part-01.tif", "part-02.tif"}
    assert any("hot-03.tif" in note for note in images.notes)


@pytest.mark.parametrize(("share", "measured"), [(0.005, 99), (0.02, 97)])
def test_few_grey_levels_are_named(share, measured, tmp_path):
    def write(path, shown, index):
        values = height(shown)
        some = lost_at(share, index)
        values[some] = rng(index).uniform(-9000, -5000, some.sum())
        tifffile.imwrite(path, values)

    notes = ImageSet.of(folder(tmp_path / "in", write, ".tif")).notes
    assert any(f"1 grey level is left for {measured} %" in note and "`levels`" in note for note in notes)


@pytest.mark.parametrize("other", [truth, lambda shown: u16(shown) // 16], ids=["floats", "12 bits"])
def test_images_of_another_depth_in_the_folder_are_named(other, tmp_path):
    def write(path, shown, index):
        tifffile.imwrite(path, (other(shown) if index % 5 == 0 else u16(shown)).astype(np.float32))

    notes = ImageSet.of(folder(tmp_path / "in", write, ".tif")).notes
    assert any(
        "3 images have fewer than 32 grey levels" in note and "part-00.tif, part-05.tif" in note for note in notes
    )


def test_thumbnails_and_deleted_files_of_a_server_are_no_images(tmp_path):
    root = folder(tmp_path / "in", pillow("L"), ".png", 4)
    for place in ("@eaDir/part-00.png", "#recycle", "__MACOSX", "below/$RECYCLE.BIN"):
        folder(root / place, pillow("L"), ".png", 2)
    assert len(ImageSet.of(root)) == 4


# --- what cannot be read is named for what it is ---


def saved_by(make):
    def data():
        file = io.BytesIO()
        make(file)
        return file.getvalue()

    return data


NAMED = {
    "five channels": (
        saved_by(lambda f: tifffile.imwrite(f, np.zeros((16, 16, 5), np.uint16), planarconfig="contig")),
        "5 x 16-bit TIFF",
    ),
    "two channels": (
        saved_by(lambda f: tifffile.imwrite(f, np.zeros((16, 16, 2), np.uint16), photometric="minisblack",
                                            planarconfig="contig")),
        "2 x 16-bit TIFF",
    ),
    "a fourth channel": (
        saved_by(lambda f: tifffile.imwrite(f, np.zeros((16, 16, 4), np.uint8), photometric="rgb",
                                            extrasamples=["unspecified"])),
        "4 x 8-bit TIFF",
    ),
    "CMYK 16": (
        saved_by(lambda f: tifffile.imwrite(f, np.zeros((16, 16, 4), np.uint16), photometric="separated")),
        "4 x 16-bit TIFF",
    ),
    "a cut TIFF": (lambda: b"II*\0\x08\0\0\0" + bytes(2), "damaged"),
    "complex": (saved_by(lambda f: tifffile.imwrite(f, np.zeros((16, 16), np.complex64))), "64-bit complex TIFF"),
    "NumPy": (saved_by(lambda f: np.save(f, np.zeros((16, 16)))), "NumPy array"),
    "HEIC": (lambda: b"\0\0\0\x18ftypheic" + bytes(300), "HEIC"),
    "video": (lambda: b"\0\0\0\x18ftypisom" + bytes(300), "video"),
    "DICOM": (lambda: bytes(128) + b"DICM" + bytes(300), "DICOM"),
    "PDF": (lambda: b"%PDF-1.7\n" + bytes(300), "PDF"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "PostScript"),
    "SVG": (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
    "web page": (lambda: b"<!DOCTYPE html><title>404</title>", "web page"),
    "gzip": (lambda: b"\x1f\x8b" + bytes(300), "gzip"),
    "FITS": (lambda: b"SIMPLE  =                    T" + bytes(300), "FITS"),
    "OpenEXR": (lambda: b"v/1\x01" + bytes(300), "OpenEXR"),
    "Git LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
    "empty": (lambda: b"", "0 bytes"),
    "a torn JPEG": (lambda: b"\xff\xd8\xff\xe0" + bytes(64), "JPEG"),
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMED)
def test_what_cannot_be_read_is_called_what_it_is(kind, tmp_path):
    data, named = NAMED[kind]
    root = folder(tmp_path / "in", pillow("L"), ".png", 4)
    (root / "odd.png").write_bytes(data())
    images = ImageSet.of(root)
    assert len(images) == 4
    assert named in images.skipped["odd.png"]


def test_a_jpeg_2000_of_16_bits_in_colour_is_refused_rather_than_cut(tmp_path):
    codecs = pytest.importorskip("imagecodecs")
    root = folder(tmp_path / "in", pillow("L"), ".png", 4)
    (root / "deep.jp2").write_bytes(codecs.jpeg2k_encode(colour(u16)(part(0)), level=0))
    assert "16 bits a channel" in ImageSet.of(root).skipped["deep.jp2"]


@pytest.mark.parametrize("compression", ["jpeg2000", "lzw"])
def test_a_compression_needs_imagecodecs_or_is_named(compression, tmp_path, monkeypatch):
    pytest.importorskip("imagecodecs")
    write = tiff(colour(u16), photometric="rgb", compression=compression)
    root = folder(tmp_path / "in", write, ".tif")
    check_levels(ImageSet.of(root), tolerance=6)

    def without(self, *_, **__):
        raise ValueError("<COMPRESSION> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", without)
    images = ImageSet.of(root)
    with pytest.raises(Exception, match=r"pip install 'blemish\[tiff\]'"):
        images.read(images.ids[0])


def test_other_files_are_counted_by_kind(tmp_path):
    root = folder(tmp_path / "in", pillow("L"), ".png", 4)
    for name in ("a.nef", "b.nef", "notes.txt", ".hidden"):
        (root / name).write_bytes(b"II*\0 something else")
    (root / "README").write_text("no image")
    assert ImageSet.of(root).notes == ("4 other files were not looked at: 2 .nef, 1 README, 1 .txt.",)


# --- data sets handed in whole ---


def grey(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def photo(root, name, index):
    grey(root / name, part(index) * 255)


def drawn_mask(root, name, levels=(0, 255), **options):
    mask = np.full((SIDE, SIDE), levels[0])
    mask[20:30, 20:30] = levels[1]
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8)).save(path, **options)


DATA_SETS = {  # photos, then masks, by where they lie; {} stands for a number
    "mvtec": (("train/good/{}.png", "test/dent/{}.png"), "ground_truth/dent/{}_mask.png"),
    "mvtec loco": (("train/good/{}.png", "test/logical/{}.png"), "ground_truth/logical/{}/000.png"),
    "mvtec 3d": (("train/good/rgb/{}.png", "test/dent/rgb/{}.png"), "test/dent/gt/{}.png"),
    "visa": (("Data/Images/Normal/{}.JPG", "Data/Images/Anomaly/{}.JPG"), "Data/Masks/Anomaly/{}.png"),
    "btad": (("train/ok/{}.bmp", "test/ko/{}.bmp"), "ground_truth/ko/{}.png"),
    "dagm": (("Train/{}.PNG", "Test/{}.PNG"), "Test/Label/{}_label.PNG"),
    "kolektor": (("kos01/Part{}.jpg", "kos02/Part{}.jpg"), "kos02/Part{}_label.bmp"),
    "kolektor 2": (("train/{}.png", "test/{}.png"), "test/{}_GT.png"),
    "real-iad": (("OK/C1/{}.jpg", "NG/C1/{}.jpg"), "NG/C1/{}.png"),
    "segmentation": (("images/{}.png", "more/{}.png"), "SegmentationClass/{}.png"),
    "other folder": (("images/a{}.png", "more/{}.png"), "drawn/{}.png"),
    "label studio": (("images/{}.png", "more/{}.png"), "annotations/task-{}.png"),
}


@pytest.mark.parametrize("levels", [(0, 255), (0, 1), (255, 0)])
@pytest.mark.parametrize("layout", DATA_SETS)
def test_masks_of_a_data_set_are_left_out_and_counted(layout, levels, tmp_path):
    photos, masks = DATA_SETS[layout]
    for index in range(8):
        photo(tmp_path, photos[0].format(f"{index:03d}"), index)
        photo(tmp_path, photos[1].format(f"{index + 8:03d}"), index + 8)
        drawn_mask(tmp_path, masks.format(f"{index + 8:03d}"), levels)
    images = ImageSet.of(tmp_path)
    assert len(images) == 16
    assert any(note.startswith("8 files are masks of other images") for note in images.notes)
    of_masks = {masks.format(f"{index + 8:03d}"): "a mask of another image" for index in range(8)}
    assert (images.left_out, images.skipped) == (of_masks, {})


def test_masks_saved_as_jpeg_are_known_all_the_same(tmp_path):
    for index in range(4):
        photo(tmp_path, f"images/{index}.jpg", index)
        drawn_mask(tmp_path, f"masks/{index}.jpg", quality=80)
    assert len(ImageSet.of(tmp_path)) == 4


def test_positions_of_points_are_no_pictures(tmp_path):
    for index in range(4):
        photo(tmp_path, f"good/rgb/{index:03d}.png", index)
        (tmp_path / "good/xyz").mkdir(exist_ok=True)
        tifffile.imwrite(
            tmp_path / f"good/xyz/{index:03d}.tiff", np.zeros((SIDE, SIDE, 3), np.float32), photometric="rgb"
        )
    images = ImageSet.of(tmp_path)
    assert [name.split("/")[1] for name in images.ids] == ["rgb"] * 4
    assert any("4 files are positions of points" in note for note in images.notes)


@pytest.mark.parametrize("place", ["labels", "seg", "masks"])
def test_photos_in_a_folder_that_sounds_like_masks_are_photos(place, tmp_path):
    for index in range(4):
        photo(tmp_path, f"{place}/{index}.png", index)
        photo(tmp_path, f"others/{index}.png", 20 + index)
    assert len(ImageSet.of(tmp_path)) == 8


def test_a_folder_of_nothing_but_black_and_white_images_is_looked_at(tmp_path):
    for index in range(6):
        drawn_mask(tmp_path, f"prints/{index}.png")
        drawn_mask(tmp_path, f"more/{index}.png", (0, 254 - index))
    assert len(ImageSet.of(tmp_path)) == 12


def test_a_list_says_what_is_looked_at(tmp_path):
    for index in range(4):
        photo(tmp_path, f"images/{index}.png", index)
        drawn_mask(tmp_path, f"masks/{index}.png")
    (tmp_path / "all.txt").write_text(
        "".join(f"{each}/{index}.png\n" for each in ("images", "masks") for index in range(4))
    )
    assert len(ImageSet.of(tmp_path / "all.txt")) == 8


# --- through a whole fit ---

FITTED = {
    "png 16 colour": KINDS["png 16 colour"][0],
    "tiff 16 colour": KINDS["tiff 16 colour"][0],
    "-9999": LOST["-9999"][0],
    "nan, a hole": LOST["nan, a hole"][0],
    "65535 above a depth": LOST["65535 above a depth"][0],
}


@pytest.mark.parametrize("kind", FITTED)
def test_the_bad_parts_rank_first(kind, tmp_path):
    suffix = ".png" if kind.startswith("png") else ".tif"
    root = folder(tmp_path / "in", FITTED[kind], suffix)
    run = blemish.fit(root, tmp_path / "run", detector=small_detector(), threads=1)
    assert {name[:3] for name in run.scores.ranking()[:BAD]} == {"bad"}
    assert run.about["notes"] == list(ImageSet.of(root).notes)
    new = folder(tmp_path / "new", FITTED[kind], suffix)
    scores = blemish.score(new, tmp_path / "run", tmp_path / "out", threads=1)
    assert {name[:3] for name in scores.ranking()[:BAD]} == {"bad"}
    assert (tmp_path / "out" / "report.html").is_file()
    if kind in LOST:
        assert any("without a measurement" in note for note in scores.notes)
        assert "without a measurement" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_what_is_the_same_flat_colour_all_over_is_no_result(tmp_path):
    root = folder(tmp_path / "in", lambda path, _, index: grey(path, np.full((SIDE, SIDE + index), 255)), ".png")
    with pytest.raises(JobError, match="give a folder"):
        blemish.fit(root, detector=small_detector(), threads=1)


def test_equal_scores_are_no_ranking(tmp_path, monkeypatch):
    from dataclasses import replace

    detector = small_detector()
    whole = type(detector).fit

    def equal(self, images):
        whole(self, images)
        self._training_scores = replace(self._training_scores, image=np.full(len(images), 3, np.float32))
        return self

    monkeypatch.setattr(type(detector), "fit", equal)
    with pytest.raises(JobError, match=r"15 images .* 3, .*`levels`"):
        blemish.fit(folder(tmp_path / "in", pillow("L"), ".png"), detector=detector, threads=1)


def test_scores_of_a_list_are_in_its_order(tmp_path, run):
    import blemish

    root = folder(tmp_path / "in", pillow("L"), ".png", 4)
    paths = [root / f"part-{index:02d}.png" for index in (2, 0, 3, 2)]
    scores = blemish.load(run).score(paths, threads=1)
    assert scores.ids == tuple(path.as_posix() for path in paths)
    alone = [blemish.load(run).score([path], threads=1).image[0] for path in paths]
    np.testing.assert_array_equal(scores.image, alone)


def test_a_deep_image_of_the_camera_is_refused_by_a_run_of_8_bits(tmp_path, run):
    import blemish

    root = folder(tmp_path / "in", png16(3), ".png", 2)
    with pytest.raises((RequestError, JobError), match="give `levels`"):
        blemish.load(run).score(root, threads=1)


def test_a_server_does_not_score_what_was_not_measured(tmp_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    from fastapi.testclient import TestClient

    from blemish.deploy.application import create_app
    from blemish.deploy.current import CurrentRun

    def write(path, shown, index):
        values = depth(shown)
        values[hole()] = 65535
        Image.fromarray(values).save(path)

    root = folder(tmp_path / "in", write, ".png")
    blemish.fit(root, tmp_path / "run", detector=small_detector(), threads=1)
    new = folder(tmp_path / "new", lambda path, _, index: write(path, part(50 + index), index), ".png", 2)
    expected = blemish.score(new, tmp_path / "run", threads=1)
    with TestClient(create_app({"run": CurrentRun(tmp_path / "run")})) as client:
        for path in sorted(new.iterdir()):
            answer = client.post("/score", content=path.read_bytes(), headers={"content-type": "image/png"}).json()
            assert answer["results"][0]["score"] == pytest.approx(expected[path.name], rel=1e-4)
