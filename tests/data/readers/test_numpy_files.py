"""NumPy files give what numpy.load gives; what would run code, take all memory or is damaged is refused."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seglib.data.readers.axes import orient
from seglib.data.readers.base import ImageFile, SourceFile
from seglib.data.readers.numpy_files import open_npy, open_npz
from seglib.errors import DataError

RNG = np.random.default_rng(0)
DTYPES = ["|u1", "|i1", "<u2", ">u2", "<i4", ">i4", "<u8", ">f4", "<f8", "<f2", ">f2", "|b1"]


def values(shape, dtype="<u2"):
    return RNG.integers(0, 2 if dtype == "|b1" else 100, shape).astype(dtype)


def written(path: Path, content: bytes) -> SourceFile:
    path.write_bytes(content)
    return SourceFile(path, path.name)


def npy(array, **options) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def read(image: ImageFile) -> np.ndarray:
    with image.opened() as read_window:
        return read_window(tuple(slice(0, side) for side in image.shape))


def refused(opener, source: SourceFile) -> str:
    with pytest.raises(DataError) as caught:
        read(opener(source))
    assert source.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 5), (3, 7, 5), (2, 3, 7, 5), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_of_any_kind_of_number(tmp_path, dtype, shape, version):
    array = values(shape, dtype)
    image = open_npy(written(tmp_path / "a.npy", npy(array, version=version)))
    expected = {"|b1": np.uint8, "<f2": np.float32, ">f2": np.float32}.get(dtype, array.dtype.newbyteorder("="))
    assert (image.shape, image.dtype, image.axes_known) == (shape, expected, False)
    got = read(image)
    assert got.dtype == expected
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize(("shape", "axes"), [((4, 6, 5), "XYZ"), ((6, 5), "XY"), ((2, 4, 6, 5), "XYZC")])
def test_fortran_order_is_the_reversed_shape_and_means_the_same(tmp_path, shape, axes):
    array = values(shape)
    image = open_npy(written(tmp_path / "a.npy", npy(np.asfortranarray(array))))
    assert (image.shape, image.axes) == (shape[::-1], axes)
    np.testing.assert_array_equal(read(image), array.T)
    in_c = orient(open_npy(written(tmp_path / "b.npy", npy(array))))
    with orient(image).opened() as turned, in_c.opened() as plain:
        np.testing.assert_array_equal(turned(0, in_c.shape_czyx[1]), plain(0, in_c.shape_czyx[1]))


def header(shape="(4, 4)", descr="'<f8'", order="False", text="") -> bytes:
    text = text or f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1")


def test_headers_as_other_programs_write_them_are_understood(tmp_path):
    array = values((3, 4), "<f8")
    for text in (
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3L, 4L), }",
        '{"shape":(3,4,),"fortran_order":False,"descr":"<f8"}',
        "{'shape': (3, 4, ), 'descr': '=f8', 'fortran_order': False}\n",
    ):
        source = written(tmp_path / "a.npy", header(text=text) + array.tobytes())
        np.testing.assert_array_equal(read(open_npy(source)), array)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (header("(65536, 65536)"), "claims"),
        (header(f"(2, {2**65})"), "claims a side"),
        (header(f"({2**40}, {2**40})", "'|u1'"), "claims a side"),
        (header("(4, 0x" + "f" * 9000 + ")"), "no shape"),
        (header("(4, " + "9" * 9000 + ")"), "no shape"),
        (header("(-1, 5)"), "no shape"),
        (header("(-4, -4)") + bytes(128), "no shape"),
        (header("(True, 4)"), "no shape"),
        (header("(4.0, 4)"), "no shape"),
        (header("[4, 4]"), "no shape"),
        (header("()"), "no shape"),
        (header() + bytes(127), "cut off"),
        (header("(0, 4)"), "no pixels"),
        (header("(4,)") + bytes(32), "1 dimensions"),
        (header("(1, 1, 1, 1, 1, 1)") + bytes(8), "6 dimensions"),
        (header(descr="[('a', '<f4')]"), "holds 'mixed'"),
        (header(descr="'<c16'"), "holds '<c16'"),
        (header(descr="'|O'"), r"holds '\|O'"),
        (header(descr="'<f1'"), "holds '<f1'"),
        (header(descr="'|b2'"), r"holds '\|b2'"),
        (header(descr="'<U4'"), "holds '<U4'"),
        (header(descr="'<M8[ns]'"), "holds"),
        (header(order="'no'"), "damaged header"),
        (header(text="-" * 9000 + "1"), "damaged header"),
        (header(text="{" + "(" * 9000), "damaged header"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{", "2,147,483,648 bytes"),
        (b"\x93NUMPY\x09\x00", "unknown version"),
        (b"\x93NUMPY", "not a NumPy array"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "it is a PNG image"),
        (b"", "empty"),
    ],
)
def test_forged_headers_are_refused_before_anything_is_allocated(tmp_path, content, told):
    source = written(tmp_path / "a.npy", content)
    tracemalloc.start()
    with pytest.raises(DataError, match=told) as caught:
        read(open_npy(source))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "a.npy" in str(caught.value)
    assert len(str(caught.value)) < 300
    assert peak < 2 << 20


def test_a_file_that_is_cut_off_is_told_when_it_is_opened(tmp_path):
    with pytest.raises(DataError, match=r"a\.npy is cut off"):
        open_npy(written(tmp_path / "a.npy", npy(values((4, 5)))[:-1]))
    with pytest.raises(DataError, match=r"a\.npz is cut off"):
        open_npz(written(tmp_path / "a.npz", npz(raw=npy(values((4, 5)))[:-1])))


def test_opening_and_reading_a_plane_takes_the_memory_of_a_plane(tmp_path):
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (300, 300, 300))
    array[150] = 9
    array.flush()
    tracemalloc.start()
    with open_npy(SourceFile(tmp_path / "a.npy", "a.npy")).opened() as read_window:
        assert read_window((slice(150, 151), slice(0, 300), slice(0, 300))).min() == 9
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 300 * 300


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_unpickled(tmp_path):
    trap = tmp_path / "was-here"
    content = npy(np.array([[Evil(trap)] * 2] * 2, dtype=object), allow_pickle=True)
    assert "holds '|O'" in refused(open_npy, written(tmp_path / "a.npy", content))
    assert "no array of numbers" in refused(open_npz, written(tmp_path / "a.npz", npz(raw=content)))
    assert not trap.exists()


# ---------------------------------------------------------------- .npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["|u1", ">u2", "<f4", "|b1"])
def test_npz_packed_or_not_also_read_backwards(tmp_path, save, dtype):
    array = values((20, 30, 40), dtype)
    save(tmp_path / "a.npz", array)
    image = open_npz(SourceFile(tmp_path / "a.npz", "a.npz"))
    assert (image.shape, image.members) == ((20, 30, 40), ())
    with image.opened() as read_window:
        for z in (19, 3, 4, 0):
            got = read_window((slice(z, z + 1), slice(0, 30), slice(5, 9)))
            np.testing.assert_array_equal(got, array[z : z + 1, :, 5:9])


@pytest.mark.parametrize("usual", ["image", "raw", "data", "volume", "label", "labels", "mask"])
def test_npz_takes_the_usual_name_then_the_largest(tmp_path, usual):
    small, large = values((3, 4, 5)), values((9, 9, 9), "|u1")
    np.savez(tmp_path / "a.npz", **{"other": large, usual: small, "words": np.array(["a"]), "line": np.arange(9)})
    image = open_npz(SourceFile(tmp_path / "a.npz", "a.npz"))
    np.testing.assert_array_equal(read(image), small)
    assert {member.name: (member.shape, member.dtype) for member in image.members} == {
        "other": ((9, 9, 9), "uint8"),
        usual: ((3, 4, 5), "uint16"),
    }
    np.savez(tmp_path / "b.npz", p=small, q=large)
    np.testing.assert_array_equal(read(open_npz(SourceFile(tmp_path / "b.npz", "b.npz"))), large)
    np.testing.assert_array_equal(read(open_npz(SourceFile(tmp_path / "b.npz", "b.npz", "p"))), small)
    assert "holds no array 'z'" in refused(open_npz, SourceFile(tmp_path / "b.npz", "b.npz", "z"))


def test_only_the_wanted_array_is_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", raw=values((3, 4, 5)), other=np.zeros((64, 1024, 1024), np.uint8))
    tracemalloc.start()
    read(open_npz(SourceFile(tmp_path / "a.npz", "a.npz")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def with_flag(content: bytes, central: int, local: int, value: int) -> bytes:
    """An archive of one array with a number changed in both of its headers."""
    changed = bytearray(content)
    changed[content.index(b"PK\x01\x02") + central] = value
    changed[content.index(b"PK\x03\x04") + local] = value
    return bytes(changed)


def test_npz_with_a_password_or_an_unusual_packing_is_refused(tmp_path):
    content = npz(raw=npy(values((3, 4, 5))))
    assert "password" in refused(open_npz, written(tmp_path / "a.npz", with_flag(content, 8, 6, 1)))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("raw.npy", npy(values((3, 4, 5))))
    assert "no array of numbers" in refused(open_npz, written(tmp_path / "b.npz", stream.getvalue()))


def test_npz_that_claims_more_than_it_holds_is_refused(tmp_path):
    assert "claims" in refused(open_npz, written(tmp_path / "a.npz", npz(raw=header("(65536, 65536)"))))
    assert "cut off" in refused(open_npz, written(tmp_path / "b.npz", npz(raw=header("(9, 9)") + bytes(600))))
    # Both sizes in the archive's own list may be forged as well.
    content = npz(raw=header("(30000, 30000)", "'|u1'") + bytes(100))
    forged = bytearray(content)
    struct.pack_into("<II", forged, content.index(b"PK\x01\x02") + 20, 2**31, 2**31)
    assert "claims" in refused(open_npz, written(tmp_path / "c.npz", bytes(forged)))


def test_npz_with_a_wrong_checksum_is_told(tmp_path):
    array = values((30, 40), "|u1")
    content = bytearray(npz(raw=npy(array)))
    content[content.index(b"PK\x01\x02") + 16] ^= 1
    assert "damaged (Bad CRC" in refused(open_npz, written(tmp_path / "a.npz", bytes(content)))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"plain words", "it is a text file"),
        (npz(raw=npy(values((9, 9))))[:-30], "cut off or damaged"),
        (npz(raw=b"not an array", other=npy(np.arange(3))), "no array of numbers"),
        (npz(), "no array of numbers|not an archive"),
    ],
)
def test_what_is_no_npz_is_told(tmp_path, content, told):
    with pytest.raises(DataError, match=told) as caught:
        open_npz(written(tmp_path / "a.npz", content))
    assert "a.npz" in str(caught.value)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_reads_or_is_refused_and_nothing_else(tmp_path, data):
    array = np.arange(60, dtype="<u2").reshape(3, 4, 5)
    opener, whole = data.draw(st.sampled_from([(open_npy, npy(array)), (open_npz, npz(raw=npy(array)))]))
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    source = written(tmp_path / "damaged.np", bytes(content[: data.draw(st.sampled_from([None, -1, 100, 20]))]))
    try:
        got = read(opener(source))
    except DataError as error:
        assert "damaged.np" in str(error)
    else:
        assert got.dtype.kind in "uif"
