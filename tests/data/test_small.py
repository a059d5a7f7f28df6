"""Small volumes written file by file are the same Zarr as those written by zarr-python."""

import json

import numpy as np
import pytest
import zarr

from seglib.data.pyramids import layer_writer, levels_of
from seglib.data.small import is_small, small_layer, write_group
from seglib.data.volumes import (
    TRUTH,
    image_description,
    label_group,
    labels_description,
    layers_description,
    open_volume,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1, 7, 9), (3, 1, 20, 5), (2, 4, 512, 11)])
def test_what_is_written_is_read_by_zarr_and_as_a_volume(tmp_path, dtype, shape):
    image = RNG.integers(0, 200, shape).astype(dtype)
    labels = RNG.integers(0, 9, shape[1:]).astype(np.uint16)
    path, levels = tmp_path / "1.zarr", levels_of(shape[1:], (3.0, 2.0, 1.0))
    description = image_description(name="leaf ü", scales=[(1.0, 3.0, 2.0, 1.0)], windows=[(0.0, 9.0)] * shape[0])
    with small_layer(path, shape[1:], channels=shape[0], dtype=image.dtype) as layer:
        for z in range(shape[1]):
            layer.write(image[:, z : z + 1])
    write_group(path, description)
    with small_layer(path / "labels" / TRUTH, shape[1:], channels=0, dtype=labels.dtype) as layer:
        layer.write(labels)
    write_group(path / "labels", layers_description([TRUTH]))
    write_group(path / "labels" / TRUTH, labels_description(name=TRUTH, scales=[(3.0, 2.0, 1.0)]))

    volume = open_volume(path)
    np.testing.assert_array_equal(volume.image[:], image)
    np.testing.assert_array_equal(volume.labels[:], labels)
    assert (volume.name, volume.voxel_size_nm, volume.windows[-1]) == ("leaf ü", (3.0, 2.0, 1.0), (0.0, 9.0))

    usual = tmp_path / "2.zarr"
    group = zarr.create_group(str(usual), attributes=description)
    with layer_writer(group, levels, channels=shape[0], dtype=image.dtype, average=True) as writer:
        writer.write(image)
    with layer_writer(label_group(usual, TRUTH), levels, channels=0, dtype=labels.dtype, average=False) as writer:
        writer.write(labels)
    for array in ("0", "labels/labels/0"):
        ours, theirs = (json.loads((root / array / "zarr.json").read_text()) for root in (path, usual))
        assert ours.pop("chunk_key_encoding") != theirs.pop("chunk_key_encoding")
        assert ours == theirs
        np.testing.assert_array_equal(zarr.open_array(str(path / array))[:], zarr.open_array(str(usual / array))[:])
    assert zarr.open_group(str(path)).attrs.asdict() == zarr.open_group(str(usual)).attrs.asdict()


def test_only_what_is_one_chunk_is_small():
    assert is_small((1, 512, 512))
    assert is_small((4, 1, 1))
    assert not is_small((5, 8, 8))
    assert not is_small((1, 513, 8))
    assert not is_small((1, 8, 513))
