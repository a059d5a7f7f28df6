"""Opening image files: what is read, and what a person is told about files that cannot be."""

import io
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from seglib.data.readers import SourceFile, open_image
from seglib.data.readers.base import check_claim
from seglib.errors import DataError

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 4000, (7, 33, 40)).astype(np.uint16)


def write_tiff(path: Path, array: np.ndarray, **options) -> SourceFile:
    tifffile.imwrite(path, array, **options)
    return SourceFile(path, path.name)


def refused(source: SourceFile) -> str:
    with pytest.raises(DataError) as caught:
        image = open_image(source)
        image.read_planes(0, image.shape_czyx[1])
    assert source.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits", "lzma"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pages_become_planes_whatever_the_compression_and_byte_order(tmp_path, compression, byteorder):
    source = write_tiff(
        tmp_path / "a.tif", STACK, compression=compression, byteorder=byteorder, photometric="minisblack"
    )
    image = open_image(source)
    assert image.shape_czyx == (1, 7, 33, 40)
    assert image.dtype == np.uint16
    assert image.dtype.isnative
    np.testing.assert_array_equal(image.read_planes(2, 6), STACK[None, 2:6])


def test_bigtiff_tiles_and_predictors_are_read(tmp_path):
    source = write_tiff(
        tmp_path / "a.tiff", STACK, bigtiff=True, tile=(16, 16), compression="zlib", predictor=True,
        photometric="minisblack",
    )  # fmt: skip
    np.testing.assert_array_equal(open_image(source).read_planes(0, 7)[0], STACK)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_colours_become_channels_and_alpha_is_dropped(tmp_path, planar):
    rgba = RNG.integers(0, 255, (20, 30, 4)).astype(np.uint8)
    stored = rgba if planar == "contig" else rgba.transpose(2, 0, 1)
    source = write_tiff(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, extrasamples=["unassalpha"])
    image = open_image(source)
    assert image.shape_czyx == (3, 1, 20, 30)
    np.testing.assert_array_equal(image.read_planes(0, 1)[:, 0], rgba[..., :3].transpose(2, 0, 1))


def test_an_imagej_hyperstack_keeps_its_channels_apart(tmp_path):
    zcyx = RNG.integers(0, 255, (5, 2, 12, 14)).astype(np.uint8)
    source = write_tiff(tmp_path / "a.tif", zcyx, imagej=True, metadata={"axes": "ZCYX"})
    image = open_image(source)
    assert image.shape_czyx == (2, 5, 12, 14)
    np.testing.assert_array_equal(image.read_planes(1, 4), zcyx.transpose(1, 0, 2, 3)[:, 1:4])


def test_black_and_white_tiffs_are_zero_and_one(tmp_path):
    mask = RNG.integers(0, 2, (16, 24)).astype(bool)
    image = open_image(write_tiff(tmp_path / "a.tif", mask))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image.read_planes(0, 1)[0, 0], mask)


def test_a_file_named_inside_an_ome_tiff_is_not_followed(tmp_path):
    secret = np.full((8, 8), 77, np.uint8)
    tifffile.imwrite(tmp_path / "secret.ome.tif", secret, metadata={"axes": "YX"})
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="8" SizeZ="2" SizeC="1" SizeT="1">'
        '<TiffData FirstZ="0" IFD="0"/><TiffData FirstZ="1" IFD="0"><UUID FileName="../secret.ome.tif">urn:uuid:1'
        "</UUID></TiffData></Pixels></Image></OME>"
    )
    (tmp_path / "inbox").mkdir()
    source = write_tiff(tmp_path / "inbox/a.tif", np.zeros((8, 8), np.uint8), description=xml, metadata=None)
    image = open_image(source)
    assert image.shape_czyx == (1, 1, 8, 8)
    assert not (image.read_planes(0, 1) == 77).any()
    assert "OME" in image.notes[0]


def test_opening_reads_headers_only(tmp_path, monkeypatch):
    source = write_tiff(tmp_path / "a.tif", STACK, compression="zlib", photometric="minisblack")

    def decode(*_args, **_options):
        raise AssertionError("pixels were read")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", decode)
    assert open_image(source).shape_czyx == (1, 7, 33, 40)


@pytest.mark.parametrize(
    ("content", "found"), [(b"z y x\n1 2 3\n", "a text file"), (b"", "empty"), (b"\x89PNG\r\n", "a PNG image")]
)
def test_content_that_is_no_tiff_is_named_for_what_it_is(tmp_path, content, found):
    (tmp_path / "notes.tif").write_bytes(content)
    assert found in refused(SourceFile(tmp_path / "notes.tif", "notes.tif"))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9, 0.999])
def test_a_cut_off_tiff_is_refused_by_name(tmp_path, compression, kept):
    whole = write_tiff(tmp_path / "whole.tif", STACK, compression=compression, photometric="minisblack").path
    data = whole.read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: int(len(data) * kept)])
    assert "again" in refused(SourceFile(tmp_path / "cut.tif", "cut.tif"))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_missing_pixels_at_the_end_already_show_when_the_header_is_read(tmp_path, compression):
    source = write_tiff(tmp_path / "a.tif", STACK[0], compression=compression, metadata=None)
    source.path.write_bytes(source.path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.tif is cut off: it ends after"):
        open_image(source)


def test_damage_that_only_shows_when_planes_are_read_is_refused_by_name(tmp_path):
    source = write_tiff(tmp_path / "a.tif", STACK, compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(source.path) as tif:
        start, length = tif.pages[4].dataoffsets[0], tif.pages[4].databytecounts[0]
    data = bytearray(source.path.read_bytes())
    data[start : start + length] = bytes(length)
    source.path.write_bytes(data)
    image = open_image(source)
    np.testing.assert_array_equal(image.read_planes(0, 4)[0], STACK[:4])
    with pytest.raises(DataError, match=r"a\.tif is damaged in page 5"):
        image.read_planes(4, 5)


def test_a_list_of_pages_that_runs_in_a_circle_is_refused(tmp_path):
    directory = struct.pack("<H", 0) + struct.pack("<I", 8)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + bytes(16))
    assert "circle" in refused(SourceFile(tmp_path / "a.tif", "a.tif"))


def test_pages_of_different_sizes_are_refused_with_both_sizes(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(np.zeros((10, 12), np.uint8))
        tif.write(np.zeros((10, 14), np.uint8))
    message = refused(SourceFile(tmp_path / "a.tif", "a.tif"))
    assert "10 × 14" in message
    assert "10 × 12" in message


def test_a_thumbnail_is_not_a_plane(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(STACK[0], metadata=None)
        tif.write(STACK[0, ::4, ::4], subfiletype=1, metadata=None)
    assert open_image(SourceFile(tmp_path / "a.tif", "a.tif")).shape_czyx == (1, 1, 33, 40)


def test_a_stack_that_lists_only_its_first_page_is_refused_and_not_shortened(tmp_path):
    source = write_tiff(tmp_path / "a.tif", STACK, truncate=True, photometric="minisblack")
    assert "planes but lists 1" in refused(source)


def test_a_header_may_not_claim_far_more_than_the_file_holds():
    flat, byte = (1, 1, 1 << 20, 1 << 12), np.dtype(np.uint8)
    check_claim("a.tif", (1, 1, 4096, 4096), byte, 400)  # an empty label plane packs this well
    with pytest.raises(DataError, match=r"a\.tif is 400 bytes but claims 4,294,967,296"):
        check_claim("a.tif", flat, byte, 400)
    check_claim("a.tif", flat, byte, 1 << 30)
    with pytest.raises(DataError, match="100,000"):
        check_claim("a.tif", (1, 100_001, 8, 8), byte, 1 << 30)
    with pytest.raises(DataError, match="1 TiB"):
        check_claim("a.tif", (1, 1000, 1 << 17, 1 << 17), byte, 1 << 40)


def test_a_tiff_bomb_is_refused_before_memory_is_taken(tmp_path):
    source = write_tiff(tmp_path / "a.tif", np.zeros((64, 64), np.uint8), compression="zlib")
    with tifffile.TiffFile(source.path, mode="r+b") as tif:
        for tag in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tif.pages[0].tags[tag].overwrite(60_000)
    assert "claims" in refused(source)


def test_complex_numbers_are_refused(tmp_path):
    assert "complex" in refused(write_tiff(tmp_path / "a.tif", np.zeros((8, 8), np.complex64)))


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_png_and_bmp_keep_every_value(tmp_path, ending):
    grey = RNG.integers(0, 255, (11, 13)).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / f"a.{ending}")
    image = open_image(SourceFile(tmp_path / f"a.{ending}", f"a.{ending}"))
    np.testing.assert_array_equal(image.read_planes(0, 1)[0, 0], grey)
    assert not image.lossy


def test_png_of_16_bits_colours_alpha_and_palette(tmp_path):
    deep = RNG.integers(0, 65535, (9, 10)).astype(np.uint16)
    rgba = RNG.integers(0, 255, (9, 10, 4)).astype(np.uint8)
    indexed = Image.fromarray((deep % 5).astype(np.uint8)).convert("P")
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    indexed.save(tmp_path / "indexed.png")
    opened = {name: open_image(SourceFile(tmp_path / name, name)) for name in ("deep.png", "rgba.png", "indexed.png")}
    np.testing.assert_array_equal(opened["deep.png"].read_planes(0, 1)[0, 0], deep)
    np.testing.assert_array_equal(opened["rgba.png"].read_planes(0, 1)[:, 0], rgba[..., :3].transpose(2, 0, 1))
    np.testing.assert_array_equal(opened["indexed.png"].read_planes(0, 1)[0, 0], deep % 5)


def test_a_photo_says_that_it_loses_values(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.jpg")
    assert open_image(SourceFile(tmp_path / "a.jpg", "a.jpg")).lossy


def test_an_oversized_png_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for side in (11, 40):  # Pillow warns above the limit, and refuses above twice the limit
        Image.fromarray(np.zeros((side, side), np.uint8)).save(tmp_path / "a.png")
        assert "more than 100 pixels" in refused(SourceFile(tmp_path / "a.png", "a.png"))


def test_a_kind_of_file_without_a_reader_is_told_what_there_is(tmp_path):
    (tmp_path / "a.czi").write_bytes(b"ZISRAW")
    assert ".tif" in refused(SourceFile(tmp_path / "a.czi", "a.czi"))


def test_damaged_files_of_every_kind_give_a_data_error_or_an_image(tmp_path):
    wild, files = random.Random(0), []
    for options in ({}, {"compression": "zlib"}, {"compression": "lzw"}, {"bigtiff": True}, {"tile": (16, 16)}):
        tifffile.imwrite(buffer := io.BytesIO(), STACK[:3], photometric="minisblack", **options)
        files.append((".tif", buffer.getvalue()))
    for kind in ("PNG", "JPEG", "BMP"):
        Image.fromarray(STACK[0].astype(np.uint8)).save(buffer := io.BytesIO(), kind)
        files.append((f".{kind.lower()}", buffer.getvalue()))
    outcomes = set()
    for _ in range(600):
        ending, whole = wild.choice(files)
        data = bytearray(whole)
        for _ in range(wild.choice([1, 3, 10])):
            data[wild.randrange(min(len(data), wild.choice([20, 400, 100_000])))] = wild.choice([0, 1, 128, 255])
        (tmp_path / "a").write_bytes(data[: wild.choice([len(data), wild.randrange(len(data))])])
        try:
            image = open_image(SourceFile(tmp_path / "a", f"a{ending}"))
            if np.prod(image.shape_czyx) < 1e6:
                image.read_planes(0, image.shape_czyx[1])
            outcomes.add("image")
        except DataError as error:
            assert f"a{ending}" in str(error)
            outcomes.add("error")
    assert outcomes == {"image", "error"}
