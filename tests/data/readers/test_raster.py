"""PNG, JPEG and BMP: which numbers come out, and what becomes of files that are damaged or made to do harm."""

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from seglib.data.readers.base import ImageFile, SourceFile
from seglib.data.readers.raster import open_raster
from seglib.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (11, 13)).astype(np.uint8)


def saved(path: Path, array: np.ndarray) -> SourceFile:
    Image.fromarray(array).save(path)
    return SourceFile(path, path.name)


def written(path: Path, data: bytes) -> SourceFile:
    path.write_bytes(data)
    return SourceFile(path, path.name)


def read(image: ImageFile) -> np.ndarray:
    with image.opened() as read_window:
        return read_window(tuple(slice(0, side) for side in image.shape))


def refused(source: SourceFile) -> str:
    with pytest.raises(DataError) as caught:
        read(open_raster(source))
    assert source.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_png_and_bmp_keep_every_value(tmp_path, ending):
    image = open_raster(saved(tmp_path / f"a.{ending}", GREY))
    assert (image.shape, image.axes, image.axes_known, image.chunks) == ((11, 13), "YX", True, (11, 13))
    assert (image.dtype, image.lossy, dict(image.colours)) == (np.uint8, False, {})
    np.testing.assert_array_equal(read(image), GREY)


def test_a_window_is_a_slice_of_the_whole(tmp_path):
    rgb = RNG.integers(0, 255, (11, 13, 3)).astype(np.uint8)
    window = (slice(2, 7), slice(5, 13), slice(1, 3))
    with open_raster(saved(tmp_path / "a.png", rgb)).opened() as read_window:
        np.testing.assert_array_equal(read_window(window), rgb[window])


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_alpha_is_left_out_and_16_bits_stay_16_bits(tmp_path, dtype, samples):
    array = RNG.integers(0, np.iinfo(dtype).max, (9, 10, samples)).astype(dtype)
    image = open_raster(written(tmp_path / "a.png", imagecodecs.png_encode(array.squeeze())))
    expected = array[..., :3] if samples >= 3 else array[..., 0]
    assert (image.shape, image.axes, image.dtype) == (expected.shape, "YXS"[: expected.ndim], np.dtype(dtype))
    assert read(image).dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read(image), expected)


def test_a_palette_gives_index_numbers_and_says_their_colours(tmp_path):
    labels = (GREY % 3).astype(np.uint8)
    indexed = Image.fromarray(labels, "L").convert("P")
    indexed.putpalette([0, 0, 0, 255, 0, 16, 1, 2, 3])
    indexed.save(tmp_path / "a.png")
    image = open_raster(SourceFile(tmp_path / "a.png", "a.png"))
    assert (image.shape, image.axes, image.dtype) == ((11, 13), "YX", np.uint8)
    assert {value: image.colours[value] for value in range(3)} == {0: "#000000", 1: "#ff0010", 2: "#010203"}
    assert "index numbers" in image.notes[0]
    np.testing.assert_array_equal(read(image), labels)


def test_black_and_white_is_zero_and_one(tmp_path):
    image = open_raster(saved(tmp_path / "a.png", GREY > 100))
    np.testing.assert_array_equal(read(image), (GREY > 100).astype(np.uint8))


def test_a_photo_says_that_it_loses_values(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.jpg", quality=100)
    image = open_raster(SourceFile(tmp_path / "a.jpg", "a.jpg"))
    assert image.lossy
    assert np.abs(read(image).astype(int) - GREY).max() < 8


def test_opening_reads_the_header_only(tmp_path, monkeypatch):
    source = saved(tmp_path / "a.png", GREY)

    def decode(*_args, **_options):
        raise AssertionError("pixels were read")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    assert open_raster(source).shape == (11, 13)


@pytest.mark.parametrize(
    ("content", "found"), [(b"z y x\n1 2 3\n", "a text file"), (b"", "empty"), (b"II*\0" + bytes(99), "a TIFF image")]
)
def test_content_that_is_no_such_image_is_named_for_what_it_is(tmp_path, content, found):
    assert found in refused(written(tmp_path / "a.png", content))


def test_a_file_that_is_not_there_is_told(tmp_path):
    assert "cannot be read" in refused(SourceFile(tmp_path / "a.png", "a.png"))


def test_kinds_of_pixels_that_cannot_be_are_refused(tmp_path):
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    assert "CMYK" in refused(SourceFile(tmp_path / "a.jpg", "a.jpg"))


@pytest.mark.parametrize("side", [11, 40])  # Pillow warns above the limit, and refuses above twice the limit
def test_an_oversized_png_is_refused(tmp_path, monkeypatch, side):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "more than 100 pixels" in refused(saved(tmp_path / "a.png", np.zeros((side, side), np.uint8)))


@pytest.mark.parametrize("colour", [0, 2, 6])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_small_png_may_not_claim_gigabytes(tmp_path, colour, depth):
    header = b"IHDR" + struct.pack(">IIBBBBB", 65_000, 65_000, depth, colour, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND"]
    parts = [struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks]
    source = written(tmp_path / "a.png", b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    assert "more than 89,478,485 pixels" in refused(source)


def test_a_damaged_header_is_told_from_another_kind_of_file(tmp_path):
    png = bytearray(saved(tmp_path / "a.png", GREY).path.read_bytes())
    png[16:20] = bytes(4)
    assert "is a PNG image with a damaged header" in refused(written(tmp_path / "a.png", bytes(png)))


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_png_cut_off_anywhere_is_refused(tmp_path, dtype):
    whole = imagecodecs.png_encode(RNG.integers(0, 255, (9, 10, 3)).astype(dtype))
    for kept in range(0, len(whole) - 20, 5):  # the end holds checksums, no pixels
        refused(written(tmp_path / "a.png", whole[:kept]))


def small_files() -> list[tuple[str, bytes]]:
    rgb = RNG.integers(0, 255, (12, 14, 3)).astype(np.uint8)
    files = [("a.png", imagecodecs.png_encode(rgb.astype(np.uint16)))]
    for mode in ("L", "RGB", "P", "1"):
        for kind in ("PNG", "JPEG", "BMP"):
            if kind != "JPEG" or mode in ("L", "RGB"):
                Image.fromarray(rgb).convert(mode).save(buffer := io.BytesIO(), kind)
                files.append((f"a.{kind.lower()}", buffer.getvalue()))
    return files


FILES = small_files()


def with_mended_checksums(png: bytearray) -> bytearray:
    """The same PNG, so that what comes behind the check of the checksums is reached."""
    place = 8
    while place + 12 <= len(png):
        end = place + 8 + int.from_bytes(png[place : place + 4], "big")
        png[end : end + 4] = struct.pack(">I", zlib.crc32(png[place + 4 : end]))[: max(len(png) - end, 0)]
        place = end + 4
    return png


@settings(deadline=5000, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(FILES),
    changes=st.lists(st.tuples(st.integers(0, 60) | st.integers(0, 900), st.integers(0, 255)), min_size=1, max_size=5),
    kept=st.just(1.0) | st.floats(0, 1),
    mended=st.booleans(),
)
def test_damaged_bytes_give_an_image_or_an_error_by_name(tmp_path, file, changes, kept, mended):
    name, whole = file
    data = bytearray(whole)
    for place, value in changes:
        data[place % len(data)] = value
    data = with_mended_checksums(data) if mended and name == "a.png" else data
    source = written(tmp_path / name, bytes(data[: round(kept * len(data))]))
    try:
        image = open_raster(source)
        if np.prod(image.shape) < 1e6:
            assert read(image).shape == image.shape
    except DataError as error:
        assert name in str(error)
