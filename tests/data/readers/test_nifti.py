"""NIfTI files give what nibabel gives; pairs, complex numbers, bombs and damage are refused."""

import gzip
import struct
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seglib.data.readers.axes import orient
from seglib.data.readers.base import ImageFile, SourceFile
from seglib.data.readers.nifti import open_nifti
from seglib.errors import DataError

RNG = np.random.default_rng(0)
DIM, DATATYPE, BITPIX, OFFSET = 40, 70, 72, 108
KINDS = [nibabel.Nifti1Image, nibabel.Nifti2Image]


def values(shape, dtype="<i2"):
    return RNG.integers(0, 100, shape).astype(dtype)


def image_of(array, *, kind=nibabel.Nifti1Image, unit="micron", zooms=None, order="<"):
    header = kind.header_class(endianness=order)
    header.set_data_dtype(array.dtype)
    image = kind(array, np.eye(4), header)
    image.header.set_zooms(zooms or (1.0,) * array.ndim)
    image.header.set_xyzt_units(unit)
    return image


def written(path: Path, content: bytes) -> SourceFile:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return SourceFile(path, path.name)


def read(image: ImageFile) -> np.ndarray:
    with image.opened() as read_window:
        return read_window(tuple(slice(0, side) for side in image.shape))


def refused(source: SourceFile) -> str:
    with pytest.raises(DataError) as caught:
        read(open_nifti(source))
    assert source.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_kind_of_number_is_as_nibabel_reads_it(tmp_path, ending, kind, order, dtype):
    array = values((6, 7, 5), order + dtype)
    source = written(tmp_path / f"a{ending}", image_of(array, kind=kind, order=order, zooms=(2, 3, 4)).to_bytes())
    image = open_nifti(source)
    assert (image.shape, image.axes, image.axes_known, image.dtype) == ((5, 7, 6), "ZYX", True, np.dtype(dtype))
    assert (image.voxel_size_nm, image.notes) == ((4000.0, 3000.0, 2000.0), ())
    got = read(image)
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got, np.asarray(nibabel.load(source.path).dataobj).T)
    window = (slice(1, 4), slice(2, 3), slice(0, 5))
    with image.opened() as read_window:
        np.testing.assert_array_equal(read_window(window), array.T[window])
        np.testing.assert_array_equal(read_window((slice(0, 1), *window[1:])), array.T[:1, 2:3, :5])


@pytest.mark.parametrize(
    ("shape", "axes", "stored"),
    [
        ((6, 7), "YX", (7, 6)),
        ((6, 7, 1), "YX", (7, 6)),
        ((6, 7, 5, 1, 1), "ZYX", (5, 7, 6)),
        ((6, 7, 1, 3), "TZYX", (3, 1, 7, 6)),
        ((6, 7, 5, 1, 3), "CTZYX", (3, 1, 5, 7, 6)),
    ],
)
def test_dimensions_keep_their_meaning_and_those_of_length_1_at_the_end_go(tmp_path, shape, axes, stored):
    array = values(shape)
    image = open_nifti(written(tmp_path / "a.nii", image_of(array).to_bytes()))
    assert (image.axes, image.shape) == (axes, stored)
    np.testing.assert_array_equal(read(image), array.T.reshape(stored))


def test_a_vector_image_is_oriented_as_channels_and_time_is_told(tmp_path):
    array = values((6, 7, 5, 1, 3))
    with orient(open_nifti(written(tmp_path / "a.nii", image_of(array).to_bytes()))).opened() as read_planes:
        np.testing.assert_array_equal(read_planes(1, 3), array[:, :, 1:3, 0].transpose(3, 2, 1, 0))
    times = open_nifti(written(tmp_path / "b.nii", image_of(values((6, 7, 5, 3))).to_bytes()))
    with pytest.raises(DataError, match="3 time points"):
        orient(times)


@pytest.mark.parametrize(("unit", "nm"), [("micron", 1e3), ("mm", 1e6), ("meter", 1e9)])
def test_units_of_length(tmp_path, unit, nm):
    content = image_of(values((6, 7, 5)), unit=unit, zooms=(0.5, 1, 2)).to_bytes()
    assert open_nifti(written(tmp_path / "a.nii", content)).voxel_size_nm == pytest.approx((2 * nm, nm, nm / 2))


def test_an_unknown_unit_is_millimetres_and_said_so(tmp_path):
    image = open_nifti(written(tmp_path / "a.nii", image_of(values((6, 7, 5)), unit="unknown").to_bytes()))
    assert image.voxel_size_nm == (1e6, 1e6, 1e6)
    assert "a.nii names no unit of length: millimetres" in image.notes[0]


def test_sizes_that_are_not_given_are_not_known(tmp_path):
    content = bytearray(image_of(values((6, 7, 5))).to_bytes())
    struct.pack_into("<3f", content, 80, np.nan, 0.0, -2.0)
    assert open_nifti(written(tmp_path / "a.nii", bytes(content))).voxel_size_nm == (2000.0, None, None)
    assert open_nifti(written(tmp_path / "b.nii", image_of(values((6, 7))).to_bytes())).voxel_size_nm[0] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [(0.5, 10), (1, -7), (-2, 0)])
def test_scaled_values_are_those_of_nibabel(tmp_path, kind, scale):
    image = image_of(values((6, 7, 5)), kind=kind)
    image.header.set_slope_inter(*scale)
    opened = open_nifti(written(tmp_path / "a.nii", image.to_bytes()))
    assert opened.dtype == read(opened).dtype == np.float32
    assert f"scaled by {scale[0]:g} and shifted by {scale[1]:g}" in opened.notes[-1]
    np.testing.assert_allclose(read(opened), nibabel.load(tmp_path / "a.nii").get_fdata().T)


@pytest.mark.parametrize("scale", [(1, 0), (0, 5), (np.nan, 0), (np.inf, 1)])
def test_scaling_that_changes_nothing_or_makes_no_sense_keeps_whole_numbers(tmp_path, scale):
    content = bytearray(image_of(values((6, 7, 5))).to_bytes())
    struct.pack_into("<2f", content, 112, *scale)
    opened = open_nifti(written(tmp_path / "a.nii", bytes(content)))
    assert (opened.dtype, opened.notes) == (np.int16, ())


def test_values_that_outgrow_their_scaling_become_infinite(tmp_path):
    image = image_of(np.full((3, 3, 3), 1e300), kind=nibabel.Nifti2Image)
    image.header.set_slope_inter(1e300, 1)
    assert np.isinf(read(open_nifti(written(tmp_path / "a.nii", image.to_bytes())))).all()


@pytest.mark.parametrize(("names", "samples"), [("RGB", 3), ("RGBA", 4)])
def test_colours_are_samples_after_the_columns(tmp_path, names, samples):
    colours = values((6, 7, 5, samples), "u1")
    voxel = np.dtype([(name, "u1") for name in names])
    content = bytearray(nibabel.Nifti1Image(colours.view(voxel)[..., 0], np.eye(4)).to_bytes())
    # The standard scales numbers, not colours.
    struct.pack_into("<2f", content, 112, 2, 1)
    opened = open_nifti(written(tmp_path / "a.nii.gz", bytes(content)))
    assert (opened.axes, opened.shape, opened.dtype) == ("ZYXS", (5, 7, 6, samples), np.uint8)
    np.testing.assert_array_equal(read(opened), colours.transpose(2, 1, 0, 3))


def test_half_of_a_pair_is_refused_with_advice(tmp_path):
    nibabel.save(nibabel.Nifti1Pair(values((3, 3, 3)), np.eye(4)), tmp_path / "a.img")
    content = (tmp_path / "a.hdr").read_bytes()
    assert "Save it as one file, .nii" in refused(written(tmp_path / "a.nii", content))


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_numbers_that_are_not_real_are_refused(tmp_path, dtype):
    content = nibabel.Nifti1Image(np.zeros((3, 3, 3), dtype), np.eye(4)).to_bytes()
    assert str(np.dtype(dtype)) in refused(written(tmp_path / "a.nii", content))


def forged(where: int, form: str, *numbers) -> bytes:
    content = bytearray(image_of(values((4, 4, 4))).to_bytes())
    struct.pack_into(form, content, where, *numbers)
    return bytes(content)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (forged(DIM, "<4h", 3, 30_000, 30_000, 30_000), "claims"),
        (forged(DIM, "<4h", 3, 40, 40, 40), "cut off"),
        (forged(DIM, "<4h", 3, -4, 4, 4), "has the size"),
        (forged(DIM, "<4h", 3, 0, 4, 4), "has the size"),
        (forged(DIM, "<8h", 7, 2, 2, 2, 2, 2, 2, 1), "has the size"),
        (forged(DIM, "<2h", 1, 64), "has the size"),
        (forged(DATATYPE, "<h", 1), "holds"),
        (forged(DATATYPE, "<h", 999), "unknown kind"),
        (forged(OFFSET, "<f", np.nan), "start at byte nan"),
        (forged(OFFSET, "<f", 1e12), "start at byte 1e"),
        (forged(OFFSET, "<f", -352), "start at byte -352"),
        (forged(OFFSET, "<f", 10), "start at byte 10"),
        (forged(344, "<4s", b"what"), "not a NIfTI image"),
        (image_of(values((4, 4, 4))).to_bytes()[:-1], "cut off"),
        (image_of(values((4, 4, 4))).to_bytes()[:200], "inside its header"),
        (b"words and nothing else", "not a NIfTI image"),
        (b"", "not a NIfTI image"),
    ],
)
def test_forged_and_damaged_files_are_refused(tmp_path, ending, content, told):
    with pytest.raises(DataError, match=told) as caught:
        read(open_nifti(written(tmp_path / f"a{ending}", content)))
    assert f"a{ending}" in str(caught.value)


def test_damage_to_the_packing_is_told(tmp_path):
    source = written(tmp_path / "a.nii.gz", image_of(values((40, 40, 40))).to_bytes())
    content = source.path.read_bytes()
    source.path.write_bytes(content[:15])
    assert "cut off or damaged" in refused(source)
    source.path.write_bytes(content[:3] + b"\xff" + content[4:20] + bytes(20) + content[40:])
    assert "damaged" in refused(source)
    source.path.write_bytes(content[:-1000])
    assert "damaged" in refused(source)
    source.path.write_bytes(content[:-6] + bytes([content[-6] ^ 1]) + content[-5:])
    assert "CRC" in refused(source)


def test_an_offset_of_0_is_the_usual_one(tmp_path):
    image = image_of(values((4, 4, 4)))
    content = bytearray(image.to_bytes())
    struct.pack_into("<f", content, OFFSET, 0)
    np.testing.assert_array_equal(read(open_nifti(written(tmp_path / "a.nii", bytes(content)))), image.dataobj.T)


def test_a_bomb_is_unpacked_no_further_than_its_shape_needs(tmp_path):
    array = values((4, 4, 4))
    source = written(tmp_path / "a.nii.gz", image_of(array).to_bytes() + bytes(64 << 20))
    tracemalloc.start()
    got = read(open_nifti(source))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(got, array.T)
    assert peak < 4 << 20


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_reads_or_is_refused_and_nothing_else(tmp_path, data):
    content = bytearray(
        image_of(np.arange(60, dtype="<i2").reshape(3, 4, 5), kind=data.draw(st.sampled_from(KINDS))).to_bytes()
    )
    ending = data.draw(st.sampled_from([".nii", ".nii.gz"]))
    late = (
        bytearray(gzip.compress(bytes(content), mtime=0)) if data.draw(st.booleans()) and ending == ".nii.gz" else None
    )
    changed = late or content
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    source = written(tmp_path / f"damaged{ending}", bytes(content))
    if late:
        source.path.write_bytes(bytes(late))
    try:
        image = open_nifti(source)
        got = read(image)
    except DataError as error:
        assert source.name in str(error)
    else:
        assert got.shape == image.shape
        assert got.dtype == image.dtype
