"""Every kind of image file becomes the uint8 RGB a person would see, or a reason."""

import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.images.decoding import Decoding, decode, read_header, read_values
from blemish.images.levels import measured
from blemish.machine.errors import UnreadableImageError
from conftest import picture

PLAIN = Decoding()
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def png_header(width: int, height: int, body: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff"])
def test_a_lossless_file_gives_back_its_pixels(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", Image.fromarray(picture(1)))
    assert np.array_equal(decode(path, PLAIN), picture(1))
    assert read_header(path).size == (64, 64)


def test_webp_and_jpeg_give_nearly_their_pixels(tmp_path):
    smooth = Image.fromarray(picture(1)).resize((16, 16)).resize((64, 64))
    for path in (
        saved(tmp_path / "a.webp", smooth, lossless=True),
        saved(tmp_path / "a.jpg", smooth, quality=98, subsampling=0),
    ):
        assert np.abs(decode(path, PLAIN).astype(int) - np.asarray(smooth)).mean() < 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_gives_the_colours_a_viewer_shows(tmp_path, mode):
    image = Image.fromarray(picture(1)).convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    rgb = decode(saved(tmp_path / f"a.{suffix}", image), PLAIN)
    assert rgb.shape == (64, 64, 3)
    assert np.abs(rgb.astype(int) - np.asarray(image.convert("RGB"))).max() <= 2


def test_transparent_pixels_stand_over_black(tmp_path):
    rgba = np.full((16, 16, 4), 200, np.uint8)
    rgba[:8, :, 3] = 0
    rgba[8:, :, 3] = 255
    rgb = decode(saved(tmp_path / "a.png", Image.fromarray(rgba)), PLAIN)
    assert (rgb[:8] == 0).all()
    assert (rgb[8:] == 200).all()
    palette = Image.fromarray(np.zeros((16, 16), np.uint8), "P")
    palette.putpalette([250, 10, 20])
    rgb = decode(saved(tmp_path / "p.png", palette, transparency=0), PLAIN)
    assert (rgb == 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_applied_to_pixels_and_size_alike(tmp_path, suffix, orientation):
    from PIL import ImageOps

    image = Image.fromarray(picture(0)[:48])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"a.{suffix}", image, exif=exif)
    rgb = decode(path, PLAIN)
    with Image.open(path) as opened:
        opened.load()
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert np.array_equal(rgb, expected)
    assert read_header(path).size == (rgb.shape[1], rgb.shape[0])


def test_damaged_exif_does_not_spoil_the_pixels(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(1)).save(path, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage")
    assert decode(path, PLAIN).shape == (64, 64, 3)
    assert read_header(path).size == (64, 64)


def test_for_a_small_picture_a_jpeg_is_decoded_no_larger_than_it_has_to_be(tmp_path):
    whole = Image.fromarray(picture(1)).resize((640, 480))
    whole.save(tmp_path / "a.jpg", quality=95)
    whole.save(tmp_path / "a.png")
    small = decode(tmp_path / "a.jpg", PLAIN, longer=288)
    assert small.shape == (240, 320, 3)
    assert np.abs(small - np.asarray(whole.reduce(2), float)).mean() < 2
    assert decode(tmp_path / "a.jpg", PLAIN, longer=321).shape == (480, 640, 3)
    assert decode(tmp_path / "a.png", PLAIN, longer=288).shape == (480, 640, 3)


def test_reading_a_header_decodes_no_pixels(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png_header(64, 64, b"no pixels in here"))
    assert read_header(path).size == (64, 64)
    with pytest.raises(UnreadableImageError):
        decode(path, PLAIN)


@pytest.mark.parametrize("kind", ["I;16", "I", "F"])
def test_deep_images_are_scaled_by_one_range_and_not_by_their_own(tmp_path, kind):
    levels = np.linspace(1000, 3000, 64 * 64).reshape(64, 64)
    types = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    bright = saved(tmp_path / "bright.tif", Image.fromarray(levels.astype(types[kind])))
    dark = saved(tmp_path / "dark.tif", Image.fromarray((levels / 2).astype(types[kind])))
    levels = measured(read_values(bright))
    assert levels.low == pytest.approx(1000, abs=5)
    assert levels.high == pytest.approx(3000, abs=5)
    decoding = Decoding((0.0, 3000.0))
    assert decode(bright, decoding)[-1, -1].tolist() == [255] * 3
    assert decode(dark, decoding)[-1, -1].tolist() == [128] * 3
    assert read_header(bright).deep
    with pytest.raises(UnreadableImageError, match="give `levels`"):
        decode(bright, PLAIN)


def test_levels_that_are_no_numbers_are_filled_and_do_not_set_the_range(tmp_path):
    values = np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64)
    values[3, 3] = np.nan
    path = saved(tmp_path / "a.tif", Image.fromarray(values))
    levels = measured(read_values(path))
    assert 0 <= levels.low < levels.high <= 1
    assert list(levels.share.values()) == [1 / 4096]
    rgb = decode(path, Decoding((0.0, 1.0))).astype(int)
    assert abs(rgb[3, 3] - rgb[3, 2]).max() <= 4
    nothing = saved(tmp_path / "b.tif", Image.fromarray(np.full((64, 64), np.nan, np.float32)))
    with pytest.raises(UnreadableImageError, match="no finite number"):
        decode(nothing, Decoding((0.0, 1.0)))


def test_the_first_page_of_a_file_with_several_is_used(tmp_path):
    pages = [Image.fromarray(picture(index)) for index in range(3)]
    path = saved(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:])
    assert read_header(path).pages == 3
    assert np.array_equal(decode(path, PLAIN), picture(0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_thumbnail_before_the_image_is_passed_over(tmp_path, dtype):
    import tifffile

    whole = picture(0).astype(dtype) * (257 if dtype == np.uint16 else 1)
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(whole[::4, ::4], subfiletype=1, photometric="rgb")
        file.write(whole, photometric="rgb")
    assert read_header(path).size == whole.shape[1::-1]
    assert np.array_equal(decode(path, Decoding((0.0, 65535.0)) if dtype == np.uint16 else PLAIN), picture(0))


def test_damage_behind_the_first_page_does_not_matter(tmp_path):
    pages = [Image.fromarray(picture(index)) for index in range(3)]
    path = saved(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:])
    path.write_bytes(path.read_bytes()[:14_000])
    assert read_header(path).pages >= 1
    assert np.array_equal(decode(path, PLAIN), picture(0))


def broken(folder: Path, case: str) -> Path:
    path = folder / f"{case}.png"
    if case == "empty":
        path.touch()
    elif case == "text":
        path.write_text("this is a shopping list")
    elif case == "tiny":
        Image.new("RGB", (1, 1)).save(path)
    elif case == "truncated":
        Image.fromarray(picture(1)).save(path)
        path.write_bytes(path.read_bytes()[:3000])
    elif case == "huge":
        path.write_bytes(png_header(20_000, 20_000))
    elif case == "loop":
        path.symlink_to(path.name)
    elif case == "dangling":
        path.symlink_to("nowhere.png")
    elif case == "pipe":
        os.mkfifo(path)
    elif case == "folder":
        path.mkdir()
    return path


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("empty", r"the file is empty \(0 bytes\)"),
        ("text", "not an image"),
        ("tiny", "1 x 1 pixels; each side needs at least 8"),
        ("huge", "20000 x 20000 is 400,000,000 pixels, more than `max_pixels` 180,000,000"),
        ("loop", "cannot be opened: Too many levels of symbolic links"),
        ("dangling", "cannot be opened: No such file"),
        ("pipe", "not a file"),
        ("folder", "not a file"),
        ("missing", "cannot be opened: No such file"),
    ],
)
def test_the_header_tells_why_a_file_is_no_image(tmp_path, case, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        read_header(broken(tmp_path, case))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp"])
def test_a_truncated_file_is_a_reason_wherever_it_was_cut(tmp_path, suffix):
    whole = saved(tmp_path / f"whole.{suffix}", Image.fromarray(picture(1))).read_bytes()
    for share in (0.02, 0.3, 0.7, 0.9):
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(whole[: max(1, int(share * len(whole)))])
        with pytest.raises(UnreadableImageError):
            decode(path, PLAIN)


def test_random_damage_never_raises_anything_but_a_reason(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in ("png", "jpg", "tif", "webp", "bmp"):
        whole = saved(tmp_path / f"whole.{suffix}", Image.fromarray(picture(1)[:24, :24])).read_bytes()
        for _ in range(40):
            data = np.frombuffer(whole, np.uint8).copy()
            data[rng.integers(0, len(data), 12)] = rng.integers(0, 256, 12)
            path = tmp_path / f"damaged.{suffix}"
            path.write_bytes(data.tobytes())
            with suppress(UnreadableImageError):
                read_header(path, 10_000)
                decode(path, PLAIN)


def test_large_images_are_averaged_down_and_jpeg_agrees_with_png(tmp_path):
    ramp = np.linspace(0, 255, 4200).astype(np.uint8)
    image = Image.fromarray(np.repeat(np.repeat(ramp[None], 90, 0)[:, :, None], 3, 2))
    png = decode(saved(tmp_path / "a.png", image), PLAIN)
    jpg = decode(saved(tmp_path / "a.jpg", image, quality=95), PLAIN)
    assert png.shape == jpg.shape == (45, 2100, 3)
    assert np.abs(png.astype(int) - jpg).mean() < 2


def test_pillows_own_limit_is_as_it_was(tmp_path):
    before = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "a.png"
    path.write_bytes(png_header(20_000, 20_000))
    assert read_header(path, 10**9).size == (20_000, 20_000)
    assert before == Image.MAX_IMAGE_PIXELS
