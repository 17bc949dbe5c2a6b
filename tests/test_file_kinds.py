"""Files as people have them: each becomes the levels it holds, or is named for what it is."""

import io

import numpy as np
import pytest
import tifffile
from PIL import features

from blemish.images import ImageSet
from files_of_parts import BAD, GOOD, KINDS, OLD_WAYS, check_levels, colour, folder, part, pillow, tiff, u16

pytestmark = OLD_WAYS


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
