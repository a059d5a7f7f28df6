"""TIFF files that are damaged, or made to do harm: each is refused by name, before it takes memory or time."""

import io
import itertools
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seglib.data.readers.base import SourceFile
from seglib.data.readers.tiff import open_tiff
from seglib.errors import DataError

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 4000, (7, 33, 40)).astype(np.uint16)
WIDTH, LENGTH, BITS, COMPRESSION, STRIP_OFFSETS, STRIP_ROWS, STRIP_BYTES = 256, 257, 258, 259, 273, 278, 279
SHORT, LONG = 3, 4


def handmade(
    path: Path, tags: dict[int, tuple[int, int, int]], data: bytes = bytes(400), *, pages: int = 1
) -> SourceFile:
    """A TIFF of equal pages. tags: code -> (type, count, value or offset); `data` lies from byte 8 on."""
    entries = b"".join(struct.pack("<HHII", code, *tags[code]) for code in sorted(tags))
    starts = [8 + len(data) + page * (6 + len(entries)) for page in range(pages)] + [0]
    directories = b"".join(struct.pack("<H", len(tags)) + entries + struct.pack("<I", after) for after in starts[1:])
    path.write_bytes(b"II*\0" + struct.pack("<I", starts[0]) + data + directories)
    return SourceFile(path, path.name)


def plain_tags(width: int = 20, length: int = 20, **changed: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    """What a page of 8-bit pixels says; `changed` by the names above."""
    tags = {
        "WIDTH": (LONG, 1, width), "LENGTH": (LONG, 1, length), "BITS": (SHORT, 1, 8), "COMPRESSION": (SHORT, 1, 1),
        "STRIP_OFFSETS": (LONG, 1, 8), "STRIP_ROWS": (LONG, 1, length), "STRIP_BYTES": (LONG, 1, width * length),
    }  # fmt: skip
    return {globals()[name]: value for name, value in (tags | changed).items()}


def write_tiff(path: Path, array: np.ndarray = STACK, **options) -> SourceFile:
    tifffile.imwrite(path, array, **({"photometric": "minisblack"} | options))
    return SourceFile(path, path.name)


def read(source: SourceFile) -> np.ndarray:
    image = open_tiff(source)
    with image.opened() as read_window:
        return read_window(tuple(slice(0, side) for side in image.shape))


def refused(source: SourceFile) -> str:
    with pytest.raises(DataError) as caught:
        read(source)
    assert source.name in str(caught.value)
    return str(caught.value)


def test_the_handmade_file_is_sound(tmp_path):
    np.testing.assert_array_equal(read(handmade(tmp_path / "a.tif", plain_tags())), np.zeros((20, 20), np.uint8))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"z y x\n1 2 3\n", "a text file"),
        (b"", "empty"),
        (b"\x89PNG\r\n", "a PNG image"),
        (b"II*\0" + bytes(4), "a TIFF image"),
    ],
)
def test_content_that_is_no_tiff_is_named_for_what_it_is(tmp_path, content, found):
    (tmp_path / "notes.tif").write_bytes(content)
    assert found in refused(SourceFile(tmp_path / "notes.tif", "notes.tif"))


def test_a_file_that_is_not_there_is_told(tmp_path):
    assert "cannot be read" in refused(SourceFile(tmp_path / "a.tif", "a.tif"))


@pytest.mark.parametrize("compression", [1, 5, 8, 7, 50000, 32773])
def test_a_small_file_may_not_claim_gigabytes(tmp_path, compression):
    tags = plain_tags(65_000, 65_000, COMPRESSION=(SHORT, 1, compression), STRIP_BYTES=(LONG, 1, 400))
    assert "claims 4,225,000,000 bytes" in refused(handmade(tmp_path / "a.tif", tags))


def test_pages_that_share_one_strip_may_not_add_up_to_gigabytes(tmp_path):
    data = zlib.compress(bytes(1 << 24), 9)
    tags = plain_tags(4096, 4096, COMPRESSION=(SHORT, 1, 8), STRIP_BYTES=(LONG, 1, len(data)))
    assert read(handmade(tmp_path / "one.tif", tags, data)).shape == (4096, 4096)
    assert "claims 1,677,721,600 bytes" in refused(handmade(tmp_path / "a.tif", tags, data, pages=100))


def test_a_jpeg_tile_may_not_unpack_to_more_than_a_tile(tmp_path):
    jpeg = bytearray(imagecodecs.jpeg_encode(RNG.integers(0, 255, (16, 16)).astype(np.uint8), level=90))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    data = bytes(jpeg)
    tags = plain_tags(16, 16, COMPRESSION=(SHORT, 1, 7), STRIP_BYTES=(LONG, 1, len(data)))
    assert "claims 3,600,000,000" in refused(handmade(tmp_path / "a.tif", tags, data))


@pytest.mark.parametrize("compression", ["zlib", "lzw", "packbits", "zstd"])
def test_a_strip_that_unpacks_to_too_little_is_refused(tmp_path, compression):
    source = write_tiff(tmp_path / "a.tif", np.zeros((40, 40), np.uint8), compression=compression, metadata=None)
    with tifffile.TiffFile(source.path, mode="r+b") as tif:
        for name in ("ImageLength", "RowsPerStrip"):
            tif.pages[0].tags[name].overwrite(4000)
    assert "damaged in page 1" in refused(source)


def test_a_strip_that_unpacks_to_far_too_much_is_cut(tmp_path):
    data = zlib.compress(bytes(1 << 24))
    tags = plain_tags(COMPRESSION=(SHORT, 1, 8), STRIP_BYTES=(LONG, 1, len(data)))
    try:
        assert read(handmade(tmp_path / "a.tif", tags, data)).shape == (20, 20)
    except DataError as error:
        assert "a.tif is damaged in page 1" in str(error)


def test_a_list_of_pages_that_bites_its_tail_is_refused(tmp_path):
    directory = struct.pack("<H", 0) + struct.pack("<I", 8)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + directory + bytes(16))
    assert "circle" in refused(SourceFile(tmp_path / "a.tif", "a.tif"))


@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_circle_after_many_pages_is_refused(tmp_path, bigtiff):
    source = write_tiff(tmp_path / "a.tif", np.zeros((170, 4, 4), np.uint8), bigtiff=bigtiff)
    with tifffile.TiffFile(source.path) as tif:
        last, target = tif.pages[169], tif.pages[155].offset
        head, entry, pointer = (8, 20, "<Q") if bigtiff else (2, 12, "<I")
        place = last.offset + head + entry * len(last.tags)
    data = bytearray(source.path.read_bytes())
    assert struct.unpack_from(pointer, data, place) == (0,)
    struct.pack_into(pointer, data, place, target)
    source.path.write_bytes(data)
    assert "circle" in refused(source)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "lzw", "bigtiff": True}])
def test_a_file_cut_off_anywhere_is_refused_by_name_unless_all_pixels_are_there(tmp_path, options):
    whole = write_tiff(tmp_path / "whole.tif", STACK[:2], **options).path.read_bytes()
    outcomes = []
    for kept in itertools.chain(range(0, 600, 7), range(600, len(whole), 97), [len(whole) - 1]):
        (tmp_path / "cut.tif").write_bytes(whole[:kept])
        try:
            np.testing.assert_array_equal(read(SourceFile(tmp_path / "cut.tif", "cut.tif")), STACK[:2])
            outcomes.append("whole")
        except DataError as error:
            assert "cut.tif" in str(error)
            outcomes.append("refused")
    assert outcomes.count("whole") <= 2  # only the resolution of the last page was lost


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_missing_pixels_at_the_end_already_show_when_the_header_is_read(tmp_path, compression):
    source = write_tiff(tmp_path / "a.tif", STACK[0], compression=compression, metadata=None)
    source.path.write_bytes(source.path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"a\.tif is cut off: it ends after"):
        open_tiff(source)


def test_a_file_that_shrinks_after_it_was_opened_is_refused(tmp_path):
    source = write_tiff(tmp_path / "a.tif")
    image = open_tiff(source)
    source.path.write_bytes(source.path.read_bytes()[:-3000])
    with image.opened() as read_window, pytest.raises(DataError, match=r"a\.tif is cut off"):
        read_window((slice(0, 7), slice(0, 33), slice(0, 40)))


def test_damage_that_only_shows_when_planes_are_read_is_refused_by_name(tmp_path):
    source = write_tiff(tmp_path / "a.tif", compression="zlib")
    with tifffile.TiffFile(source.path) as tif:
        start, length = tif.pages[4].dataoffsets[0], tif.pages[4].databytecounts[0]
    data = bytearray(source.path.read_bytes())
    data[start : start + length] = bytes(length)
    source.path.write_bytes(data)
    with open_tiff(source).opened() as read_window:
        rows_and_columns = (slice(0, 33), slice(0, 40))
        np.testing.assert_array_equal(read_window((slice(0, 4), *rows_and_columns)), STACK[:4])
        with pytest.raises(DataError, match=r"a\.tif is damaged in page 5"):
            read_window((slice(4, 5), *rows_and_columns))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"STRIP_OFFSETS": (LONG, 1, 0)}, "holes"),
        ({"STRIP_OFFSETS": (LONG, 1, 0xFFFFFFF0)}, "cut off"),
        ({"STRIP_OFFSETS": (LONG, 1 << 30, 8)}, "header entry claims 4,294,967,296 bytes"),
        ({"STRIP_OFFSETS": (LONG, 5000, 0xFFFFFF00)}, "holes"),
        ({"COMPRESSION": (SHORT, 1, 8), "STRIP_BYTES": (LONG, 1, 0)}, "holes"),
        ({"COMPRESSION": (SHORT, 1, 8), "STRIP_ROWS": (LONG, 1, 2)}, "holes"),
        ({"COMPRESSION": (SHORT, 1, 8), "STRIP_ROWS": (LONG, 1, 0)}, "damaged in page 1"),
        ({"COMPRESSION": (SHORT, 1, 8)}, "damaged in page 1"),
        ({"COMPRESSION": (SHORT, 1, 4)}, "TIFF compression 4, which is not supported"),
        ({"COMPRESSION": (SHORT, 1, 50001)}, "TIFF compression 50001, which is not supported"),
        ({"WIDTH": (LONG, 1, 0)}, "no readable pixels"),
        ({"LENGTH": (LONG, 1, 0)}, "no readable pixels"),
        ({"BITS": (SHORT, 1, 37)}, "no readable pixels"),
        ({"WIDTH": (LONG, 1, 0x7FFFFFFF)}, "claims a side"),
    ],
)
def test_a_page_that_makes_no_sense_is_refused(tmp_path, changed, said):
    assert said in refused(handmade(tmp_path / "a.tif", plain_tags(**changed)))


def test_a_strip_that_is_read_over_and_over_is_refused(tmp_path):
    data = struct.pack("<1000I", *[8] * 1000) + struct.pack("<1000I", *[8000] * 1000) + bytes(8000)
    tags = plain_tags(
        20, 1000, COMPRESSION=(SHORT, 1, 8), STRIP_ROWS=(LONG, 1, 1), STRIP_OFFSETS=(LONG, 1000, 8),
        STRIP_BYTES=(LONG, 1000, 4008),
    )  # fmt: skip
    assert "claims 8,000,000 bytes" in refused(handmade(tmp_path / "a.tif", tags, data))


def test_hundreds_of_header_entries_are_no_harm_but_thousands_are(tmp_path):
    tags = plain_tags() | {40_000 + extra: (SHORT, 1, extra) for extra in range(300)}
    assert read(handmade(tmp_path / "a.tif", tags)).shape == (20, 20)
    tags = plain_tags() | {40_000 + extra: (SHORT, 1, extra) for extra in range(5000)}
    assert "5,007 header entries" in refused(handmade(tmp_path / "a.tif", tags))


def test_headers_that_share_large_values_may_not_add_up(tmp_path, monkeypatch):
    monkeypatch.setattr("seglib.data.readers.tiff_pages._MAX_HEADERS", 1000)
    text = bytes(20_000)
    entry = struct.pack("<HHII", 270, 2, len(text), 8)
    start, length = 8 + len(text), 2 + 12 + 4
    directories = b"".join(
        struct.pack("<H", 1) + entry + struct.pack("<I", start + (number + 1) * length) for number in range(100)
    )
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", start) + text + directories + bytes(6))
    assert "headers claim more bytes than it has" in refused(SourceFile(tmp_path / "a.tif", "a.tif"))


@pytest.mark.parametrize(
    "description",
    [
        "ImageJ=1\nimages=999999999\nslices=999999999\n",
        "ImageJ=1\nimages=-5\nchannels=0\nslices=x\nframes=99999999999999999999\n",
        '{"shape": [99999999999999999999, 20, 20], "axes": "ZYX"}',
        '{"shape": [0, -1, 20, 20]}',
        '{"shape": "text"}',
        '{"shape": [2, 2, 2, 2, 2, 2, 20, 20], "truncated": true}',
        '{"shape": [' + "[" * 5000,
    ],
)
def test_descriptions_that_make_no_sense_are_refused_or_passed_over(tmp_path, description):
    source = write_tiff(tmp_path / "a.tif", np.zeros((20, 20), np.uint8), description=description, metadata=None)
    try:
        assert read(source).shape == (20, 20)
    except DataError as error:
        assert "a.tif" in str(error)


def test_a_block_of_more_planes_than_can_be_is_refused(tmp_path):
    text = "ImageJ=1\nimages=200000\nslices=200000\n"
    source = write_tiff(tmp_path / "a.tif", np.zeros((2, 2), np.uint8), description=text, metadata=None)
    source.path.write_bytes(source.path.read_bytes() + bytes(1 << 20))
    assert "200,000 planes; at most 100,000" in refused(source)


def test_complex_numbers_are_refused(tmp_path):
    assert "complex" in refused(write_tiff(tmp_path / "a.tif", np.zeros((8, 8), np.complex64)))


def test_planes_within_a_page_are_refused(tmp_path):
    options = {"volumetric": True, "tile": (16, 16, 16), "metadata": None}
    assert "volumetric" in refused(write_tiff(tmp_path / "a.tif", np.zeros((16, 16, 16), np.uint8), **options))


def small_files() -> list[bytes]:
    files = []
    imagej = {"imagej": True, "metadata": {"axes": "ZYX", "spacing": 0.5, "unit": "um"}}
    for options in (
        {}, {"compression": "zlib"}, {"compression": "lzw", "predictor": True}, {"bigtiff": True}, {"byteorder": ">"},
        {"tile": (16, 16)}, {"compression": "jpeg2000"}, {"truncate": True}, {"ome": True}, imagej,
    ):  # fmt: skip
        tifffile.imwrite(buffer := io.BytesIO(), STACK[:3], photometric="minisblack", **options)
        files.append(buffer.getvalue())
    rgb = (STACK[:2, :32, :39].reshape(2, 32, 13, 3) >> 4).astype(np.uint8)
    for options in ({}, {"compression": "jpeg"}):
        tifffile.imwrite(buffer := io.BytesIO(), rgb, photometric="rgb", **options)
        files.append(buffer.getvalue())
    return files


FILES = small_files()


@settings(deadline=5000, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    whole=st.sampled_from(FILES),
    changes=st.lists(
        st.tuples(st.integers(0, 700) | st.integers(0, 20_000), st.integers(0, 255)), min_size=1, max_size=6
    ),
    kept=st.just(1.0) | st.floats(0, 1),
)
def test_damaged_bytes_give_an_image_or_an_error_by_name(tmp_path, whole, changes, kept):
    data = bytearray(whole)
    for place, value in changes:
        data[place % len(data)] = value
    (tmp_path / "a.tif").write_bytes(data[: round(kept * len(data))])
    try:
        image = open_tiff(SourceFile(tmp_path / "a.tif", "a.tif"))
        if np.prod(image.shape, dtype=object) < 1e6:
            with image.opened() as read_window:
                pixels = read_window(tuple(slice(0, side) for side in image.shape))
            assert (pixels.shape, pixels.dtype) == (image.shape, image.dtype)
    except DataError as error:
        assert "a.tif" in str(error)
