"""Array formats give what their own libraries give, whatever the layout; what does harm or is damaged is refused."""

import gzip
import json
import struct
import zipfile
from pathlib import Path

import h5py
import nibabel
import nrrd
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seglib.data.readers import SourceFile, open_image
from seglib.data.readers.axes import orient
from seglib.errors import DataError

RNG = np.random.default_rng(0)
DTYPES = ["|u1", "|i1", "<u2", ">u2", "<i4", ">f4", "<f8", "<f2", "|b1"]


def values(shape, dtype="<u2"):
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return RNG.integers(0, 2, shape).astype(bool)
    return RNG.integers(0, 100, shape).astype(dtype)


def opened(path: Path, member=""):
    return open_image(SourceFile(path, path.name, member))


def whole(file):
    with file.opened() as read:
        return read(tuple(slice(0, side) for side in file.shape))


def assert_reads(file, expected):
    """Everything, and a window that cuts every dimension, is as expected; the dtype is plain."""
    assert file.shape == expected.shape
    assert file.dtype.isnative
    assert file.dtype.kind in "uif"
    window = tuple(slice(side // 3, max(side // 3 + 1, side - 1)) for side in expected.shape)
    with file.opened() as read:
        got = read(tuple(slice(0, side) for side in file.shape))
        assert got.dtype == file.dtype
        np.testing.assert_array_equal(got, expected)
        np.testing.assert_array_equal(read(window), expected[window])
        np.testing.assert_array_equal(read((slice(0, 1), *window[1:])), expected[(slice(0, 1), *window[1:])])


def refused(path: Path, told: str, member="") -> None:
    with pytest.raises(DataError, match=told) as caught:
        whole(opened(path, member))
    assert path.name in str(caught.value)


# ---------------------------------------------------------------- NumPy


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(7, 5), (3, 7, 5), (2, 3, 7, 5)])
def test_npy(tmp_path, dtype, shape):
    array = values(shape, dtype)
    np.save(tmp_path / "a.npy", array)
    assert_reads(opened(tmp_path / "a.npy"), array)


def test_npy_in_fortran_order_has_its_dimensions_in_reverse(tmp_path):
    array = values((4, 6, 5))
    np.save(tmp_path / "a.npy", np.asfortranarray(array))
    file = opened(tmp_path / "a.npy")
    assert (file.shape, file.axes) == ((5, 6, 4), "XYZ")
    assert_reads(file, array.T)
    with orient(file).opened() as read_planes:
        np.testing.assert_array_equal(read_planes(1, 3)[0], array[1:3])


def test_npz_gives_the_usual_array_or_the_one_asked_for(tmp_path):
    first, second = values((3, 4, 5)), values((9, 9, 9), "|u1")
    np.savez_compressed(tmp_path / "a.npz", raw=first, big=second, words=np.array(["a"]), line=np.arange(9))
    file = opened(tmp_path / "a.npz")
    assert_reads(file, first)
    assert {member.name: member.shape for member in file.members} == {"raw": (3, 4, 5), "big": (9, 9, 9)}
    assert_reads(opened(tmp_path / "a.npz", "big"), second)
    refused(tmp_path / "a.npz", "holds no array 'other'.*raw", "other")


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_are_never_loaded(tmp_path):
    trap = tmp_path / "was-here"
    np.save(tmp_path / "a.npy", np.array([[Evil(trap)] * 2] * 2, dtype=object), allow_pickle=True)
    refused(tmp_path / "a.npy", "holds '|O'")
    np.savez(tmp_path / "b.npz", raw=np.array([[Evil(trap)] * 2] * 2, dtype=object))
    refused(tmp_path / "b.npz", "no array of numbers")
    assert not trap.exists()


def forged(shape, descr="'<f8'", order="False") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (forged("(65536, 65536)"), "claims"),
        (forged(f"(2, {2**65})"), "claims a side"),
        (forged("(-1, 5)"), "no shape"),
        (forged("(4, 4)") + bytes(100), "cut off"),
        (forged("(0, 4)"), "no pixels"),
        (forged("(4,)") + bytes(32), "1 dimensions"),
        (forged("(4, 4)", "[('a', '<f4')]"), "holds"),
        (forged("(4, 4)", "'<c16'"), "holds"),
        (forged("(True, 4)"), "no shape"),
        (b"\x93NUMPY\x01\x00" + struct.pack("<H", 8) + b"{[[[[[[[", "damaged header"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{", "2,147,483,648 bytes"),
        (b"\x93NUMPY\x09\x00", "unknown version"),
        (b"not numbers at all", "text file"),
        (b"", "empty"),
    ],
)
def test_forged_npy_headers_are_refused_before_anything_is_allocated(tmp_path, content, told):
    (tmp_path / "a.npy").write_bytes(content)
    refused(tmp_path / "a.npy", told)


def test_an_npz_that_claims_more_than_it_can_hold_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("raw.npy", forged("(65536, 65536)"))
    refused(tmp_path / "a.npz", "claims")


# ---------------------------------------------------------------- HDF5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"chunks": (2, 3, 5), "compression": "gzip", "shuffle": True}])
def test_hdf5(tmp_path, dtype, options):
    array = values((5, 7, 6), dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("volumes/raw", data=array, **options)
        file.create_dataset("volumes/larger", data=np.zeros((9, 9, 9)))
        file["text"] = "words"
    file = opened(tmp_path / "a.h5")
    assert_reads(file, array)
    assert [member.name for member in file.members] == ["volumes/larger", "volumes/raw"]
    assert file.chunks == options.get("chunks", (1, 7, 6))


def test_hdf5_says_its_axes_and_voxel_size(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        one = file.create_dataset("raw", data=values((5, 7, 6, 2)))
        one.attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in "zyxc"]})
        one.attrs["element_size_um"] = (0.05, 0.01, 0.02)
        two = file.create_dataset("crop", data=values((3, 4, 5)))
        two.attrs["resolution"] = (40.0, 4.0, 8.0)
        for dimension, label in zip(two.dims, "xyz", strict=True):
            dimension.label = label
    first, second = opened(tmp_path / "a.h5"), opened(tmp_path / "a.h5", "/crop")
    assert (first.axes, first.axes_known, first.voxel_size_nm) == ("ZYXC", True, (50.0, 10.0, 20.0))
    assert (second.axes, second.axes_known, second.voxel_size_nm) == ("XYZ", True, (40.0, 4.0, 8.0))


def test_hdf5_never_reads_another_file(tmp_path):
    secret = values((4, 4), "<f8") + 1000
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["raw"] = secret
    secret.tofile(tmp_path / "secret.bin")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["linked"] = h5py.ExternalLink("secret.h5", "/raw")
        file["soft"] = h5py.SoftLink("/linked")
        file.create_dataset("outside", (4, 4), "<f8", external=[(str(tmp_path / "secret.bin"), 0, 128)])
        layout = h5py.VirtualLayout((4, 4), "<f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "raw", (4, 4))
        file.create_virtual_dataset("virtual", layout)
    refused(tmp_path / "a.h5", "3 lie in other files")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["own"] = values((3, 3))
    assert opened(tmp_path / "a.h5").members == ()
    refused(tmp_path / "a.h5", "no array 'outside'", "outside")


def test_hdf5_that_runs_in_circles_or_claims_too_much(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("one/two")
        group["again"] = file["one"]
        file.create_dataset("huge", (1 << 18, 1 << 18), "u1", chunks=(1024, 1024))
    refused(tmp_path / "a.h5", "claims")


# ---------------------------------------------------------------- Zarr


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("version", [2, 3])
def test_zarr_arrays_and_groups(tmp_path, dtype, version):
    array = values((5, 7, 6), dtype)
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=version)
    group.create_array("raw", data=array, chunks=(2, 4, 6))
    group.create_array("deep/labels", data=values((3, 3)), chunks=(3, 3))
    group.create_array("line", data=np.arange(5), chunks=(5,))
    file = opened(tmp_path / "a.zarr")
    assert_reads(file, array)
    assert file.chunks == (2, 4, 6)
    assert {member.name for member in file.members} == {"raw", "deep/labels"}
    zarr.create_array(str(tmp_path / "b.zarr"), data=array, chunks=(2, 4, 6), zarr_format=version)
    assert_reads(opened(tmp_path / "b.zarr"), array)


def test_sharded_and_sparse_zarr_arrays(tmp_path):
    array = values((8, 8, 8))
    zarr.create_array(str(tmp_path / "a.zarr"), data=array, chunks=(2, 2, 2), shards=(4, 4, 4))
    file = opened(tmp_path / "a.zarr")
    assert_reads(file, array)
    assert file.chunks == (4, 4, 4)
    zarr.create_array(str(tmp_path / "b.zarr"), shape=(64, 64, 64), dtype="u2", chunks=(8, 8, 8), fill_value=7)
    assert whole(opened(tmp_path / "b.zarr")).min() == 7


def ome(path, version, scale, unit="micrometer"):
    axes = [{"name": "c", "type": "channel"}, *[{"name": name, "type": "space", "unit": unit} for name in "zyx"]]
    levels = [
        {
            "path": str(level),
            "coordinateTransformations": [{"type": "scale", "scale": [1, *np.array(scale) * 2**level]}],
        }
        for level in (0, 1)
    ]
    said = {
        "multiscales": [{"axes": axes, "datasets": levels, "version": "0.4"}],
        "omero": {"channels": [{"label": "DAPI"}, {"label": "GFP"}]},
    }
    group = zarr.create_group(str(path), zarr_format=2 if version == "0.4" else 3)
    group.attrs.update(said if version == "0.4" else {"ome": {**said, "version": "0.5"}})
    group.create_array("1", data=values((2, 2, 3, 4)), chunks=(1, 2, 3, 4))
    return group.create_array("0", data=values((2, 4, 6, 8)), chunks=(1, 4, 6, 8))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_gives_its_image_with_axes_voxels_and_channels(tmp_path, version):
    array = ome(tmp_path / "a.ome.zarr", version, (0.4, 0.1, 0.2))[:]
    file = opened(tmp_path / "a.ome.zarr")
    assert_reads(file, array)
    assert (file.axes, file.axes_known, file.channel_names) == ("CZYX", True, ("DAPI", "GFP"))
    assert file.voxel_size_nm == pytest.approx((400.0, 100.0, 200.0))
    assert opened(tmp_path / "a.ome.zarr", "1").voxel_size_nm == pytest.approx((800.0, 200.0, 400.0))


def test_what_this_program_stores_can_be_imported_again(tmp_path):
    from seglib.data.volumes import create_labels, create_volume

    image, labels = values((1, 3, 5, 6)), values((3, 5, 6), "|u1")
    options = {"voxel_size_nm": (40.0, 8.0, 4.0)}
    create_volume(tmp_path / "1.zarr", name="x", shape_czyx=image.shape, dtype=image.dtype, **options)[:] = image
    create_labels(tmp_path / "1.zarr", "labels", shape_zyx=labels.shape, dtype=labels.dtype, **options)[:] = labels
    file = opened(tmp_path / "1.zarr")
    assert_reads(file, image)
    assert file.voxel_size_nm == (40.0, 8.0, 4.0)
    assert_reads(opened(tmp_path / "1.zarr", "labels/labels/0"), labels)


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_zarr_that_would_unpickle_or_follow_links_is_refused(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), data=values((4, 4)), chunks=(4, 4), zarr_format=2)
    edit(tmp_path / "a.zarr" / ".zarray", dtype="|O", filters=[{"id": "pickle"}])
    refused(tmp_path / "a.zarr", r"type '\|O'")
    edit(tmp_path / "a.zarr" / ".zarray", dtype="<u2")
    refused(tmp_path / "a.zarr", "'pickle', which is not allowed")
    edit(tmp_path / "a.zarr" / ".zarray", filters=None, shape=[1 << 18, 1 << 18])
    refused(tmp_path / "a.zarr", "claims")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "a.zarr" / "0.1").symlink_to(tmp_path / "secret")
    refused(tmp_path / "a.zarr", "link in it that leads elsewhere")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"zarr_format": 3}', "[" * 100_000])
def test_zarr_metadata_that_make_no_sense_are_refused(tmp_path, content):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(content)
    refused(tmp_path / "a.zarr", "JSON|metadata|not a Zarr")


def test_a_damaged_chunk_is_told(tmp_path):
    zarr.create_array(str(tmp_path / "a.zarr"), data=values((64, 64)), chunks=(64, 64))
    chunk = tmp_path / "a.zarr" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:10])
    refused(tmp_path / "a.zarr", "damaged")


# ---------------------------------------------------------------- NIfTI and NRRD


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i2", ">i2", "u2", "f4", "f8"])
def test_nifti(tmp_path, ending, dtype):
    array = values((6, 7, 5), dtype)
    image = nibabel.Nifti1Image(array, np.diag([2, 3, 4, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / f"a{ending}")
    file = opened(tmp_path / f"a{ending}")
    assert (file.axes, file.axes_known, file.voxel_size_nm) == ("ZYX", True, (4000.0, 3000.0, 2000.0))
    assert_reads(file, np.asarray(nibabel.load(tmp_path / f"a{ending}").dataobj).T)


def test_nifti_scaling_time_and_units(tmp_path):
    image = nibabel.Nifti2Image(values((6, 7, 5, 3), "i2"), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nibabel.save(image, tmp_path / "a.nii")
    file = opened(tmp_path / "a.nii")
    assert (file.axes, file.dtype) == ("TZYX", np.float32)
    assert "scaled by 0.5" in " ".join(file.notes)
    assert "millimetres" in " ".join(file.notes)
    np.testing.assert_allclose(whole(file), nibabel.load(tmp_path / "a.nii").get_fdata().T)
    with pytest.raises(DataError, match="3 time points"):
        orient(file)
    nibabel.save(nibabel.Nifti1Pair(values((3, 3, 3)), np.eye(4)), tmp_path / "b.img")
    (tmp_path / "b.hdr").rename(tmp_path / "b.nii")
    refused(tmp_path / "b.nii", "in another file")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 3, 3), np.complex64), np.eye(4)), tmp_path / "c.nii")
    refused(tmp_path / "c.nii", "complex64")


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "u4", "f4", ">f8", "i8"])
def test_nrrd(tmp_path, encoding, dtype):
    array = values((6, 7, 5), dtype)
    header = {"encoding": encoding, "space directions": np.diag([0.2, 0.3, 0.4]), "space dimension": 3}
    header |= {
        "space units": ["um", "um", "um"],
        "kinds": ["domain"] * 3,
        "endian": "big" if dtype[0] == ">" else "little",
    }
    nrrd.write(str(tmp_path / "a.nrrd"), array, header)
    file = opened(tmp_path / "a.nrrd")
    assert_reads(file, nrrd.read(str(tmp_path / "a.nrrd"))[0].T)
    assert (file.axes, file.axes_known) == ("ZYX", True)
    assert file.voxel_size_nm == pytest.approx((400.0, 300.0, 200.0))


def test_nrrd_with_channels_spacings_or_another_file(tmp_path):
    nrrd.write(str(tmp_path / "a.nrrd"), values((3, 6, 7), "u1"), {"kinds": ["RGB-color", "domain", "domain"]})
    assert opened(tmp_path / "a.nrrd").axes == "YXS"
    nrrd.write(str(tmp_path / "b.nrrd"), values((5, 6, 7)), {"spacings": [1, 2, 3]})
    assert "without a unit" in opened(tmp_path / "b.nrrd").notes[0]
    (tmp_path / "secret.raw").write_bytes(bytes(24))
    header = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 4 6\nencoding: raw\n{}\n\n"
    (tmp_path / "c.nrrd").write_text(header.format("data file: secret.raw"))
    refused(tmp_path / "c.nrrd", "in another file")
    (tmp_path / "d.nrrd").write_text(header.format("byte skip: -1"))
    refused(tmp_path / "d.nrrd", "leaves out bytes")
    (tmp_path / "e.nrrd").write_text(header.format("").replace("raw", "ascii"))
    refused(tmp_path / "e.nrrd", "encoding 'ascii'")
    (tmp_path / "f.nrrd").write_text(header.format("").replace("4 6", "40 60"))
    refused(tmp_path / "f.nrrd", "cut off")


def test_a_packed_bomb_is_read_no_further_than_its_shape(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4))
    content = image.to_bytes() + bytes(50 << 20)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content))
    assert whole(opened(tmp_path / "a.nii.gz")).shape == (4, 4, 4)
    forged_shape = bytearray(image.to_bytes())
    struct.pack_into("<4h", forged_shape, 40, 3, 30_000, 30_000, 30_000)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(forged_shape)))
    refused(tmp_path / "b.nii.gz", "claims")


# ---------------------------------------------------------------- all of them


def samples(folder: Path) -> list[Path]:
    array = values((4, 5, 6))
    np.save(folder / "a.npy", array)
    np.savez_compressed(folder / "a.npz", raw=array)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("raw", data=array, chunks=(2, 5, 6), compression="gzip")
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / "a.nii")
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / "a.nii.gz")
    nrrd.write(str(folder / "a.nrrd"), array, {"encoding": "gzip"})
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in samples(tmp_path_factory.mktemp("valid"))]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, 5), place=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_file_reads_or_is_refused_and_nothing_else(tmp_path, valid, which, place, byte, cut):
    name, content = valid[which]
    where = min(len(content) - 1, int(place * len(content)))
    damaged = content[:where] if cut else content[:where] + bytes([byte]) + content[where + 1 :]
    (tmp_path / name).write_bytes(damaged)
    try:
        file = opened(tmp_path / name)
        if np.prod(file.shape, dtype=object) < 1_000_000:
            whole(file)
    except DataError as error:
        assert name in str(error)


@pytest.mark.parametrize("index", range(6))
def test_a_file_of_another_kind_is_told(tmp_path, valid, index):
    name, _ = valid[index]
    (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(600))
    refused(tmp_path / name, "it is a PNG image|damaged")


def test_reading_a_window_leaves_the_rest_alone(tmp_path, monkeypatch):
    array = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (200, 500, 500))
    array[150] = 9
    array.flush()
    file, counted = opened(tmp_path / "a.npy"), []
    import seglib.data.readers.raw as raw

    numbers = raw._numbers
    monkeypatch.setattr(raw, "_numbers", lambda *args: counted.append(args[3]) or numbers(*args))
    with file.opened() as read:
        assert read((slice(150, 151), slice(0, 500), slice(0, 500))).min() == 9
    assert sum(counted) == 500 * 500
