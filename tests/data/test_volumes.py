"""Volumes in the workspace: OME-Zarr that other programs read, and what is not there is said."""

import json

import numpy as np
import pytest
import zarr

from seglib.data.volumes import (
    TRUTH,
    contrast_of,
    create_labels,
    create_volume,
    fitting_uint,
    open_labels,
    open_volume,
    set_contrast,
)
from seglib.errors import DataError

RNG = np.random.default_rng(0)
SHAPE = (2, 5, 6, 7)
VOXEL = (40.0, 8.5, 4.25)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "1.zarr"


@pytest.fixture
def image(path):
    data = RNG.integers(0, 60_000, SHAPE).astype(np.uint16)
    create_volume(path, name="leaf ü", shape_czyx=SHAPE, dtype=np.uint16, voxel_size_nm=VOXEL)[:] = data
    return data


def test_what_is_written_is_read(path, image):
    volume = open_volume(path, group="plant 1")
    np.testing.assert_array_equal(volume.image[:], image)
    assert volume.image.dtype == np.uint16
    assert (volume.name, volume.group, volume.voxel_size_nm) == ("leaf ü", "plant 1", VOXEL)
    assert (volume.shape_zyx, volume.channels) == ((5, 6, 7), 2)
    assert volume.labels is None
    assert volume.contrast == (0.0, 255.0)


def test_a_read_is_lazy_and_touches_only_what_is_asked(path, image):
    volume = open_volume(path)
    for chunk in (path / "0").rglob("c/0/1/*"):
        assert chunk.exists()
    np.testing.assert_array_equal(volume.image[0, 1:3, 2:4, 5], image[0, 1:3, 2:4, 5])


def test_labels_lie_in_layers_of_their_own(path, image):
    truth = RNG.integers(0, 3, SHAPE[1:]).astype(np.uint8)
    found = RNG.integers(0, 300, SHAPE[1:]).astype(np.uint16)
    for layer, data in ((TRUTH, truth), ("prediction", found)):
        create_labels(path, layer, shape_zyx=data.shape, dtype=data.dtype, voxel_size_nm=VOXEL)[:] = data
    np.testing.assert_array_equal(open_volume(path).labels[:], truth)
    np.testing.assert_array_equal(open_volume(path, layer="prediction").labels[:], found)
    np.testing.assert_array_equal(open_labels(path, "prediction")[:], found)
    np.testing.assert_array_equal(open_volume(path).image[:], image)


def test_a_layer_of_the_same_name_is_replaced(path, image):
    for dtype in (np.uint16, np.uint8):
        create_labels(path, TRUTH, shape_zyx=(5, 6, 7), dtype=dtype, voxel_size_nm=VOXEL)[:] = 1
    assert open_labels(path, TRUTH).dtype == np.uint8
    assert json.loads((path / "labels" / "zarr.json").read_text())["attributes"]["ome"]["labels"] == [TRUTH]


def test_labels_can_have_a_folder_of_their_own(tmp_path):
    create_labels(tmp_path / "labels.zarr", "prediction", shape_zyx=(1, 2, 3), dtype=np.uint8, voxel_size_nm=VOXEL)
    assert open_labels(tmp_path / "labels.zarr", "prediction").shape == (1, 2, 3)


def test_the_metadata_are_those_of_ome_zarr_0_5(path, image):
    """https://ngff.openmicroscopy.org/0.5/: axes in order, a scale for each axis, one dataset."""
    create_labels(path, TRUTH, shape_zyx=(5, 6, 7), dtype=np.uint8, voxel_size_nm=VOXEL)
    set_contrast(path, (3.0, 250.5))
    ome = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    assert [(axis["name"], axis["type"]) for axis in multiscale["axes"]] == [
        ("c", "channel"),
        ("z", "space"),
        ("y", "space"),
        ("x", "space"),
    ]
    assert {axis.get("unit") for axis in multiscale["axes"][1:]} == {"nanometer"}
    (dataset,) = multiscale["datasets"]
    assert dataset["path"] == "0"
    assert dataset["coordinateTransformations"] == [{"type": "scale", "scale": [1.0, *VOXEL]}]
    assert len(ome["omero"]["channels"]) == 2
    assert ome["omero"]["channels"][0]["window"]["start"] == 3.0
    layer = json.loads((path / "labels" / TRUTH / "zarr.json").read_text())["attributes"]["ome"]
    assert "image-label" in layer
    assert layer["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] == list(VOXEL)
    assert zarr.open_group(str(path), mode="r")["0"].metadata.dimension_names == ("c", "z", "y", "x")


def test_contrast_is_kept_beside_the_rest(path, image):
    set_contrast(path, (3.0, 250.5))
    volume = open_volume(path)
    assert volume.contrast == (3.0, 250.5)
    assert (volume.name, volume.voxel_size_nm) == ("leaf ü", VOXEL)


def test_an_existing_volume_is_not_overwritten(path, image):
    with pytest.raises(Exception, match=r"."):
        create_volume(path, name="other", shape_czyx=SHAPE, dtype=np.uint8, voxel_size_nm=VOXEL)
    np.testing.assert_array_equal(open_volume(path).image[:], image)


def test_what_is_not_there_is_said(path, tmp_path, image):
    with pytest.raises(DataError, match=r"7\.zarr is not in the workspace"):
        open_volume(tmp_path / "7.zarr")
    with pytest.raises(DataError, match="no label layer 'prediction' in 1.zarr"):
        open_labels(path, "prediction")
    with pytest.raises(DataError, match="no label layer"):
        open_labels(tmp_path / "7.zarr", TRUTH)


@pytest.mark.parametrize(
    ("largest", "dtype"), [(0, np.uint8), (255, np.uint8), (256, np.uint16), (65_535, np.uint16), (65_536, np.uint32)]
)
def test_ids_get_the_smallest_type_that_holds_them(largest, dtype):
    assert fitting_uint(largest) == np.dtype(dtype)


def test_contrast_leaves_out_the_outermost_grey_values():
    image = np.arange(10_001, dtype=np.float64)
    low, high = contrast_of(image, share=1.0)
    assert (low, high) == pytest.approx((100.0, 9900.0))


@pytest.mark.parametrize(
    "image",
    [np.full((1, 2, 3, 4), 7, np.uint8), np.full((2, 2), np.nan), np.zeros((0,), np.uint8), np.array([np.inf, 1.0])],
)
def test_contrast_is_always_a_range(image):
    low, high = contrast_of(image)
    assert np.isfinite([low, high]).all()
    assert low < high
