"""HDF5: which datasets are found and what they say, and that no number of another file ever comes out."""

import json
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seglib.data.readers.base import ImageFile, SourceFile
from seglib.data.readers.hdf5 import open_hdf5
from seglib.errors import DataError

RNG = np.random.default_rng(0)
SECRET = 123_456_789.0
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def opened(path: Path, member: str = "") -> ImageFile:
    return open_hdf5(SourceFile(path, path.name, member))


def whole(file: ImageFile) -> np.ndarray:
    with file.opened() as read:
        return read(tuple(slice(0, side) for side in file.shape))


def refused(path: Path, told: str, member: str = "") -> None:
    with pytest.raises(DataError, match=told) as caught:
        whole(opened(path, member))
    assert path.name in str(caught.value)


def names(file: ImageFile) -> list[str]:
    return [member.name for member in file.members]


@pytest.fixture
def secret(tmp_path) -> Path:
    """A file beside the one that is imported, with numbers that must never be seen."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["raw"] = np.full((4, 4), SECRET)
    np.full((4, 4), SECRET).tofile(tmp_path / "secret.bin")
    return tmp_path


def link_outside(file: h5py.File, folder: Path) -> None:
    file["raw"] = h5py.ExternalLink(str(folder / "secret.h5"), "/raw")


def link_to_a_link(file: h5py.File, folder: Path) -> None:
    file["raw"] = h5py.SoftLink("/hidden/raw")
    file["hidden"] = h5py.ExternalLink(str(folder / "secret.h5"), "/")


def store_outside(file: h5py.File, folder: Path) -> None:
    file.create_dataset("raw", (4, 4), "<f8", external=[(str(folder / "secret.bin"), 0, 128)])


def make_virtual(file: h5py.File, folder: Path) -> None:
    layout = h5py.VirtualLayout((4, 4), "<f8")
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "raw", (4, 4))
    file.create_virtual_dataset("raw", layout)


@pytest.mark.parametrize("hide", [link_outside, link_to_a_link, store_outside, make_virtual])
def test_numbers_of_other_files_are_left_out_and_it_is_said(secret, hide):
    path = secret / "a.h5"
    with h5py.File(path, "w") as file:
        hide(file, secret)
        if hide is not link_to_a_link:
            assert file["raw"][0, 0] == SECRET  # the trap works
    refused(path, "Left out: .*1 lies in other files, which are not followed")
    with h5py.File(path, "a") as file:
        file["own"] = np.ones((3, 3))
    file = opened(path)
    assert (whole(file) == 1).all()
    assert file.members == ()
    assert "1 lies in other files" in file.notes[0]
    refused(path, "no array 'raw'", "raw")


def test_a_forged_name_that_is_a_path_through_a_link_is_not_followed(secret):
    path = secret / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink(str(secret / "secret.h5"), "/")
        file["x_raw"] = np.ones((4, 4))
    content = path.read_bytes()
    assert content.count(b"x_raw") == 1
    path.write_bytes(content.replace(b"x_raw", b"x/raw"))
    with h5py.File(path) as file:
        assert file["x/raw"][0, 0] == SECRET  # the trap works
    refused(path, "1 has names that are too long or no text")


def test_a_soft_link_within_the_file_is_no_second_array(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.ones((3, 3))
        file["again"] = h5py.SoftLink("/raw")
    assert opened(tmp_path / "a.h5").members == ()


@settings(QUICK, max_examples=60)
@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=5),
    dtype=st.sampled_from(["?", "u1", "<i2", ">i2", "<u4", ">i8", "<f2", ">f4", "<f8"]),
    packing=st.sampled_from([None, "gzip", "lzf"]),
    chunked=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_what_is_read_is_what_h5py_reads(tmp_path, shape, dtype, packing, chunked, seed):
    rng = np.random.default_rng(seed)
    array = rng.integers(0, 2 if dtype == "?" else 100, shape).astype(dtype)
    chunks = tuple(rng.integers(1, side + 1) for side in shape) if chunked or packing else None
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=array, chunks=chunks, compression=packing, fletcher32=packing == "gzip")
    image = opened(path)
    window = tuple(slice(start, start + 1 + rng.integers(side - start)) for side in shape for start in [side // 2])
    with h5py.File(path) as file:
        expected = file["raw"][window]
    with image.opened() as read:
        assert read(window).dtype == image.dtype == image.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read(window), expected)
    np.testing.assert_array_equal(whole(image), array)
    assert image.chunks == (chunks or (*(1,) * (len(shape) - 2), *shape[-2:]))
    assert not image.lossy


def test_a_window_of_a_large_array_does_not_load_the_array(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", (250, 1000, 1000), "u1", chunks=(1, 1000, 1000), compression="gzip")[100] = 7
    with opened(tmp_path / "a.h5").opened() as read:
        tracemalloc.start()
        plane = read((slice(100, 101), slice(0, 1000), slice(0, 1000)))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert plane.min() == 7
    assert peak < 8e6  # the array is 250 million bytes


@pytest.mark.parametrize(
    ("attributes", "expected", "noted"),
    [
        ({"element_size_um": [0.05, 0.01, 0.02]}, (50, 10, 20), ""),
        ({"resolution": [40, 4, 8]}, (40, 4, 8), ""),
        ({"resolution": [0.04, 0.004, 0.008], "unit": "um"}, (40, 4, 8), ""),
        ({"voxel_size": [2, 1, 1], "units": ["µm", "µm", "µm"]}, (2000, 1000, 1000), ""),
        ({"spacing": [2.5, 1, 1], "unit": np.bytes_(b"nm")}, (2.5, 1, 1), ""),
        ({"spacing": [2.5, 1, 1]}, (None, None, None), "2.5 × 1 × 1 without a unit"),
        ({"voxel_size": [2, 1, 1], "unit": "pixel"}, (None, None, None), "without a unit"),
        ({"resolution": [0, -4, 8]}, (None, 4, 8), ""),
        ({"resolution": [np.nan, 4, 8]}, (None, None, None), ""),
        ({"resolution": "words"}, (None, None, None), ""),
        ({"element_size_um": [1, 2]}, (None, None, None), ""),
    ],
)
def test_voxel_sizes_by_the_attributes_in_use(tmp_path, attributes, expected, noted):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.ones((3, 4, 5))
        file["raw"].attrs.update(attributes)
    image = opened(tmp_path / "a.h5")
    assert image.voxel_size_nm == pytest.approx(expected)
    assert noted in " ".join(image.notes)
    assert bool(image.notes) == bool(noted)


def axistags(keys: str) -> str:
    return json.dumps({"axes": [{"key": key, "typeFlags": 2} for key in keys]})


@pytest.mark.parametrize(
    ("tags", "axes", "known"),
    [
        (axistags("zyxc"), "ZYXC", True),
        (axistags("xyzc").encode(), "XYZC", True),
        (axistags("zyx"), "CZYX", False),
        (axistags("zzyx"), "CZYX", False),
        (axistags("zcyq"), "CZYX", False),
        ("{", "CZYX", False),
        ("[" * 50_000, "CZYX", False),
        (7, "CZYX", False),
    ],
)
def test_axes_as_ilastik_says_them_or_guessed_where_that_makes_no_sense(tmp_path, tags, axes, known):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exported_data"] = np.ones((5, 6, 7, 8))
        file["exported_data"].attrs["axistags"] = tags
    image = opened(tmp_path / "a.h5")
    assert (image.axes, image.axes_known) == (axes, known)


def test_axes_by_labels_of_dimensions(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.ones((5, 6, 2))
        for dimension, label in zip(file["raw"].dims, ("Y", "x", "channel"), strict=True):
            dimension.label = label
    image = opened(tmp_path / "a.h5")
    assert (image.axes, image.axes_known) == ("YXC", True)


def test_a_usual_name_comes_before_a_larger_array_and_the_largest_before_others(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["small"], file["big"] = np.ones((3, 3)), np.ones((9, 9))
        file["text"], file["line"] = "words", np.ones(9)
        file["pairs"] = np.ones((3, 3), [("a", "u1"), ("b", "u1")])
        file["complex"], file["long"] = np.ones((3, 3), complex), np.ones((3, 3), np.longdouble)
        file.create_dataset("empty", (0, 5), "u1")
    image = opened(tmp_path / "a.h5")
    assert (image.shape, names(image)) == ((9, 9), ["big", "small"])
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["volumes/raw"] = np.ones((2, 2))
    assert opened(tmp_path / "a.h5").shape == (2, 2)
    assert opened(tmp_path / "a.h5", "small").shape == (3, 3)


def test_types_without_a_counterpart_do_not_spoil_the_rest(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["own"] = np.ones((3, 3))
        h5py.h5d.create(file.id, b"times", h5py.h5t.UNIX_D32LE, h5py.h5s.create_simple((4, 4)))
        file["kind"] = np.dtype("u1")
    assert opened(tmp_path / "a.h5").shape == (3, 3)


def test_names_that_cannot_be_shown_are_left_out(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in ("own", "a\x1b[2Jb", "n" * 600):
            file[name] = np.ones((3, 3))
        file[b"\xff\xfe"] = np.ones((3, 3))
    image = opened(tmp_path / "a.h5")
    assert image.members == ()
    assert "3 have names that are too long or no text" in image.notes[0]


def packed_by(path: Path, *filters: int) -> None:
    stored = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    stored.set_chunk((4, 4))
    for code in filters:
        stored.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (1,))
    with h5py.File(path, "w") as file:
        data = h5py.h5d.create(file.id, b"raw", h5py.h5t.STD_U8LE, h5py.h5s.create_simple((4, 4)), stored)
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones((4, 4), np.uint8))


def test_a_filter_that_is_not_installed_is_named(tmp_path):
    packed_by(tmp_path / "a.h5", 32001)
    refused(tmp_path / "a.h5", "filter 32001 .*Blosc.* not installed .*gzip")


def test_the_same_filter_twice_is_refused(tmp_path):
    packed_by(tmp_path / "a.h5", 1, 1)
    refused(tmp_path / "a.h5", "packed twice")


def test_packing_that_rounds_is_told(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("real", data=np.ones((4, 4)), chunks=(4, 4), scaleoffset=2)
        file.create_dataset("whole", data=np.ones((4, 4), int), chunks=(4, 4), scaleoffset=0)
        file.create_dataset("bits", data=np.ones((4, 4), int), chunks=(4, 4), scaleoffset=3)
    assert [opened(tmp_path / "a.h5", name).lossy for name in ("real", "whole", "bits")] == [True, False, True]


@pytest.mark.parametrize(
    ("shape", "chunks", "told"),
    [
        ((1 << 18, 1 << 18), (1024, 1024), "claims"),
        ((4, 4), (1 << 15, (1 << 15) + 1), "blocks .* 1,073,774,592 bytes each"),
        ((4, 4), (1 << 14, 1 << 15), "blocks"),
        ((8192, 8192), (2, 2), "cut into 16,777,216 blocks"),
    ],
)
def test_small_files_that_claim_much_are_refused(tmp_path, shape, chunks, told):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", shape, "u1", chunks=chunks, maxshape=(None, None))
    refused(tmp_path / "a.h5", told)


def test_too_many_objects_and_circles_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one/two/raw"] = np.ones((3, 3))
        file["one/two/again"] = file["one"]
    image = opened(tmp_path / "a.h5")
    assert (whole(image).sum(), image.members, image.notes) == (9, (), ())
    with h5py.File(tmp_path / "b.h5", "w", libver="latest") as file:
        file["kind"] = np.dtype("u1")
        for number in range(10_000):
            file[str(number)] = file["kind"]
    refused(tmp_path / "b.h5", "more than 10,000 objects")


def test_what_is_no_hdf5_file_is_told(tmp_path):
    (tmp_path / "folder.h5").mkdir()
    refused(tmp_path / "folder.h5", "is not a file")
    refused(tmp_path / "missing.h5", "cannot be read .*No such file")
    (tmp_path / "text.h5").write_text("words")
    refused(tmp_path / "text.h5", "not an HDF5 file, .* a text file")
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    refused(tmp_path / "cut.h5", "cut off or damaged|not an HDF5 file")


def test_an_error_of_whoever_reads_stays_that_error(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.ones((3, 3))
    with pytest.raises(KeyError, match="mine"), opened(tmp_path / "a.h5").opened():
        raise KeyError("mine")


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> list[bytes]:
    contents = []
    for libver in ("earliest", "latest"):
        path = tmp_path_factory.mktemp("valid") / "a.h5"
        with h5py.File(path, "w", libver=libver) as file:
            data = file.create_dataset("volumes/raw", data=np.arange(60).reshape(3, 4, 5), chunks=(2, 4, 5))
            data.attrs["resolution"] = (4.0, 4.0, 4.0)
            data.attrs["axistags"] = axistags("zyx")
            file.create_dataset("packed", data=np.arange(60).reshape(3, 4, 5), compression="gzip")
        contents.append(path.read_bytes())
    return contents


@settings(QUICK, max_examples=200)
@given(which=st.integers(0, 1), flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_file_gives_numbers_or_a_data_error(tmp_path, valid, which, flips):
    content = bytearray(valid[which])
    for place, byte in flips:
        content[min(len(content) - 1, int(place * len(content)))] = byte
    (tmp_path / "a.h5").write_bytes(content)
    try:
        file = opened(tmp_path / "a.h5")
        with file.opened() as read:
            read(tuple(slice(0, min(side, 50)) for side in file.shape))
    except DataError as error:
        assert "a.h5" in str(error)
