"""NRRD files give what pynrrd gives; headers that point elsewhere, forms not supported and damage are refused."""

import bz2
import gzip
import io
import tracemalloc
from functools import partial
from pathlib import Path

import nrrd
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seglib.data.readers.base import ImageFile, SourceFile
from seglib.data.readers.nrrd_files import open_nrrd
from seglib.errors import DataError

RNG = np.random.default_rng(0)
PACKED = {"raw": bytes, "gzip": partial(gzip.compress, mtime=0), "bzip2": bz2.compress}


def values(shape, dtype="<u2"):
    return RNG.integers(0, 100, shape).astype(dtype)


def written(path: Path, content: bytes) -> SourceFile:
    path.write_bytes(content)
    return SourceFile(path, path.name)


def header(*lines: str, sizes="4 5 6", encoding="raw", kind="uint16") -> bytes:
    fields = [f"type: {kind}", f"dimension: {len(sizes.split())}", f"sizes: {sizes}", "endian: little"]
    return "\n".join(["NRRD0005", "# written by hand", *fields, f"encoding: {encoding}", *lines, "", ""]).encode()


def read(image: ImageFile) -> np.ndarray:
    with image.opened() as read_window:
        return read_window(tuple(slice(0, side) for side in image.shape))


def refused(source: SourceFile) -> str:
    with pytest.raises(DataError) as caught:
        read(open_nrrd(source))
    assert source.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">u2", "<i2", ">i4", "<u4", "<i8", ">u8", "<f4", ">f8"])
@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 5)])
def test_every_kind_of_number_is_as_pynrrd_reads_it(tmp_path, encoding, dtype, shape):
    array = values(shape, dtype)
    options = {"encoding": encoding, "endian": "big" if dtype[0] == ">" else "little"}
    nrrd.write(str(tmp_path / "a.nrrd"), array, options)
    image = open_nrrd(SourceFile(tmp_path / "a.nrrd", "a.nrrd"))
    native = array.dtype.newbyteorder("=")
    assert (image.shape, image.axes_known, image.dtype) == (shape[::-1], False, native)
    expected = nrrd.read(str(tmp_path / "a.nrrd"))[0].T
    with image.opened() as read_window:
        got = read_window(tuple(slice(0, side) for side in image.shape))
        assert got.dtype == native
        np.testing.assert_array_equal(got, expected)
        window = (slice(1, 3), *(slice(2, side) for side in image.shape[1:]))
        # A packed stream must go back for this.
        np.testing.assert_array_equal(read_window(window), expected[window])


def test_lines_may_end_as_on_windows(tmp_path):
    array = values((6, 5, 4))
    content = header().replace(b"\n", b"\r\n") + array.tobytes()
    np.testing.assert_array_equal(read(open_nrrd(written(tmp_path / "a.nrrd", content))), array)


def test_a_header_ends_at_the_first_empty_line(tmp_path):
    array = np.full((6, 5, 4), 0x0A0A, "<u2")
    content = header() + array.tobytes()
    np.testing.assert_array_equal(read(open_nrrd(written(tmp_path / "a.nrrd", content))), array)


@pytest.mark.parametrize(
    ("kinds", "sizes", "axes", "known"),
    [
        ("domain domain domain", "4 5 6", "ZYX", True),
        ("space space space", "4 5 6", "ZYX", True),
        ("domain domain", "4 5", "YX", True),
        ("RGB-color domain domain", "3 5 6", "YXS", True),
        ("vector domain domain domain", "3 4 5 6", "ZYXS", True),
        ("list domain domain domain", "2 4 5 6", "ZYXS", True),
        ("domain domain domain list", "4 5 6 2", "CZYX", True),
        ("domain domain domain time", "4 5 6 2", "TZYX", True),
        ("domain domain vector domain", "4 5 2 6", "ZCYX", True),
        ("domain domain", "4 5 6", "ZYX", False),
        ("??? ??? ???", "4 5 6", "ZYX", False),
        ("??? domain domain", "3 20 30", "YXC", False),
        ("domain list vector", "4 5 6", "ZYX", False),
        ("domain domain domain domain", "4 5 6 2", "CZYX", False),
    ],
)
def test_kinds_say_what_dimensions_are(tmp_path, kinds, sizes, axes, known):
    shape = tuple(int(size) for size in sizes.split())[::-1]
    array = values(shape)
    image = open_nrrd(written(tmp_path / "a.nrrd", header(f"kinds: {kinds}", sizes=sizes) + array.tobytes()))
    assert (image.axes, image.axes_known, image.shape) == (axes, known, shape)
    np.testing.assert_array_equal(read(image), array)


SPACE = "space dimension: 3"
MICRONS = 'space units: "um" "um" "um"'


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((SPACE, MICRONS, "space directions: (0.1,0,0) (0,0.2,0) (0,0,0.4)"), (400, 200, 100)),
        ((SPACE, MICRONS, "space directions: (0.1, 0, 0) (0, 0.2, 0)  (0, 0, -0.4)"), (400, 200, 100)),
        ((SPACE, MICRONS, "space directions: (3,4,0) (-4,3,0) (0,0,1)"), (1000, 5000, 5000)),
        ((SPACE, 'space units: "nm" "um" "mm"', "space directions: (2,0,0) (0,2,0) (0,0,2)"), (2e6, 2e3, 2)),
        ((SPACE, 'space units: "nm" "um" "mm"', "space directions: (0,0,2) (0,2,0) (2,0,0)"), (2, 2e3, 2e6)),
        ((MICRONS, "spacings: 0.1 0.2 0.4"), (400, 200, 100)),
        (('units: "nm" "nm" "um"', "spacings: 4 5 0.6"), (600, 5, 4)),
        (('units: "micro meters" "nm" ""', "spacings: 4 5 6"), (None, 5, None)),
        ((MICRONS, "spacings: 0.1 nan 0.4"), (400, None, 100)),
    ],
)
def test_voxel_sizes_in_nanometres(tmp_path, lines, expected):
    image = open_nrrd(written(tmp_path / "a.nrrd", header(*lines) + bytes(240)))
    assert image.notes == ()
    assert [size and round(size, 6) for size in image.voxel_size_nm] == list(expected)


def test_voxel_sizes_beside_a_dimension_that_is_not_space(tmp_path):
    lines = ("kinds: vector domain domain domain", SPACE, MICRONS, "space directions: none (1,0,0) (0,2,0) (0,0,3)")
    image = open_nrrd(written(tmp_path / "a.nrrd", header(*lines, sizes="2 4 5 6") + bytes(480)))
    assert image.voxel_size_nm == (3000, 2000, 1000)
    lines = ("kinds: vector domain domain domain", MICRONS, "spacings: nan 1 2 3")
    image = open_nrrd(written(tmp_path / "b.nrrd", header(*lines, sizes="2 4 5 6") + bytes(480)))
    assert image.voxel_size_nm == (3000, 2000, 1000)
    lines = ("kinds: vector domain domain domain", 'units: "" "um" "um" "um"', "spacings: nan 1 2 3")
    image = open_nrrd(written(tmp_path / "c.nrrd", header(*lines, sizes="2 4 5 6") + bytes(480)))
    assert image.voxel_size_nm == (3000, 2000, 1000)


@pytest.mark.parametrize(
    "lines",
    [
        ("spacings: 1 2 3",),
        (SPACE, "space directions: (1,0,0) (0,2,0) (0,0,3)"),
        ('space units: "pixels" "pixels" "pixels"', "spacings: 1 2 3"),
    ],
)
def test_a_voxel_size_without_a_unit_is_not_used_and_said_so(tmp_path, lines):
    image = open_nrrd(written(tmp_path / "a.nrrd", header(*lines) + bytes(240)))
    assert image.voxel_size_nm == (None, None, None)
    assert "a.nrrd gives a voxel size (1, 2, 3) without a unit" in image.notes[0]


@pytest.mark.parametrize(
    "line",
    [
        "spacings: 1 2",
        "spacings: one two three",
        "spacings: 1e400 1e400 1e400",
        "space directions: (1,0,0) (0,1,0)",
        "space directions: none none none",
        "space directions: ((((((",
    ],
)
def test_sizes_that_make_no_sense_are_no_voxel_size(tmp_path, line):
    image = open_nrrd(written(tmp_path / "a.nrrd", header(line, MICRONS) + bytes(240)))
    assert image.voxel_size_nm == (None, None, None)


@pytest.mark.parametrize(
    "line",
    [
        "data file: secret.raw",
        "datafile: secret.raw",
        "Data File: secret.raw",
        "data file: LIST",
        "data file: secret%03d.raw 1 3 1",
    ],
)
def test_no_other_file_is_ever_opened(tmp_path, monkeypatch, line):
    (tmp_path / "secret.raw").write_bytes(bytes(240))
    source = written(tmp_path / "a.nrrd", header(line) + bytes(240))
    opened, plain = [], io.open
    monkeypatch.setattr(io, "open", lambda file, *rest, **more: opened.append(Path(file).name) or plain(file, *rest))
    assert "in another file. Save it as one file" in refused(source)
    assert set(opened) == {"a.nrrd"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header(encoding="ascii") + b"1 2 3", "'ascii'.*Save it as raw or gzip"),
        (header(encoding="hex"), "'hex'"),
        (header("byte skip: -1") + bytes(240), "leaves out bytes"),
        (header("byteskip: 8") + bytes(248), "leaves out bytes"),
        (header("line skip: 1") + bytes(240), "leaves out bytes"),
        (header(kind="block") + bytes(240), "'block'"),
        (header(kind="complex float") + bytes(240), "'complex float'"),
        (header("endian: middle") + bytes(240), "'middle'"),
        (header("dimension: 4") + bytes(240), "do not fit its dimension"),
        (header(sizes="-4 -5 6") + bytes(240), "no numbers above 0"),
        (header(sizes="0 5 6"), "no numbers above 0"),
        (header(sizes="1_0 5 6") + bytes(600), "no numbers above 0"),
        (header(sizes="9" * 5000 + " 5"), "no numbers above 0"),
        (header(sizes="240") + bytes(480), "1 dimensions"),
        (header(sizes="2 2 2 2 2 2") + bytes(480), "6 dimensions"),
        (header(sizes="100000 100000"), "claims"),
        (header(sizes=f"2 {2**59}"), "claims a side"),
        (header(sizes="100000 100000", encoding="gzip") + gzip.compress(bytes(100)), "claims"),
        (header() + bytes(239), "cut off"),
        (header(encoding="gzip") + gzip.compress(bytes(239)), "cut off"),
        (header(encoding="gzip") + gzip.compress(bytes(240))[:-9], "damaged"),
        (header(encoding="gzip") + bytes(240), "damaged"),
        (header(encoding="bzip2") + bz2.compress(bytes(239)), "cut off"),
        (header(encoding="bzip2") + bytes(240), "damaged"),
        (header()[:-1], "no end of its header"),
        (b"NRRD0005\nsizes: 4 5\n\n", "encoding|type"),
        (b"NRRD0005\n\n", "sizes"),
        (b"NRRD0005" + b"a" * (2 << 20), "no end of its header"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "it is a PNG image"),
        (b"", "empty"),
    ],
)
def test_forged_and_damaged_files_are_refused(tmp_path, content, told):
    with pytest.raises(DataError, match=told) as caught:
        read(open_nrrd(written(tmp_path / "a.nrrd", content)))
    assert "a.nrrd" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_skip_of_nothing_is_no_skip(tmp_path):
    array = values((6, 5, 4))
    content = header("byte skip: 0", "line skip: 0", "note:=byte skip: 3") + array.tobytes()
    np.testing.assert_array_equal(read(open_nrrd(written(tmp_path / "a.nrrd", content))), array)


@pytest.mark.parametrize("encoding", ["gzip", "bzip2"])
def test_a_bomb_is_unpacked_no_further_than_its_shape_needs(tmp_path, encoding):
    content = header(encoding=encoding) + PACKED[encoding](bytes(32 << 20))
    source = written(tmp_path / "a.nrrd", content)
    tracemalloc.start()
    assert read(open_nrrd(source)).max() == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_reads_or_is_refused_and_nothing_else(tmp_path, data):
    encoding = data.draw(st.sampled_from(sorted(PACKED)))
    lines = ("kinds: domain domain domain", SPACE, MICRONS, "space directions: (0.1,0,0) (0,0.2,0) (0,0,0.4)")
    content = bytearray(header(*lines, encoding=encoding) + PACKED[encoding](np.arange(120, dtype="<u2").tobytes()))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = open_nrrd(written(tmp_path / "damaged.nrrd", bytes(content)))
        got = read(image)
    except DataError as error:
        assert "damaged.nrrd" in str(error)
    else:
        assert got.shape == image.shape
        assert got.dtype == image.dtype
