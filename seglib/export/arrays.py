"""Layers as plain arrays: one .npy file, or one data set of an HDF5 file."""

import json
from pathlib import Path

import numpy as np

from seglib.data.volumes import CHUNK_ZYX
from seglib.export.placing import placed
from seglib.export.sources import Layer, Watch, block_planes, blocks

HDF5_CHUNK = 256
# What ilastik's axistags call a channel and a direction in space.
_CHANNEL, _SPACE = 1, 2


def write_npy(layer: Layer, path: Path, watch: Watch) -> None:
    """Writes a layer as a .npy file in C order, as `numpy.load` opens it, mapped too; two blocks in memory.

    It holds no voxel size. Blocks are appended: writing through a memory map would end the whole program where the
    disk gets full.
    """
    described = {"descr": np.lib.format.dtype_to_descr(layer.array.dtype), "fortran_order": False}
    with placed(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, {**described, "shape": tuple(layer.array.shape)})
        for _, block in blocks(layer.array, watch, path.name):
            file.write(np.ascontiguousarray(block).data)


def write_hdf5(layer: Layer, path: Path, watch: Watch) -> None:
    """Writes a layer as the chunked, gzip-compressed data set of its name in an HDF5 file; two blocks in memory.

    Its attributes: `element_size_um` (z, y, x), `axes` such as "zyx", `axistags` as ilastik has them, `meaning`, and
    `channel_names` of probabilities.
    """
    import h5py

    z, y, x = layer.array.shape[-3:]
    chunk = (min(block_planes(layer.array), CHUNK_ZYX[0], z), min(HDF5_CHUNK, y), min(HDF5_CHUNK, x))
    with placed(path) as temporary, h5py.File(temporary, "w") as file:
        made = file.create_dataset(
            layer.name,
            shape=layer.array.shape,
            dtype=layer.array.dtype,
            chunks=(1,) * (len(layer.array.shape) - 3) + chunk,
            compression="gzip",
            compression_opts=4,
            shuffle=True,
        )
        made.attrs["element_size_um"] = [side / 1000 for side in layer.voxel_size_nm]
        made.attrs["axes"] = layer.axes.lower()
        made.attrs["axistags"] = _axistags(layer.axes.lower())
        made.attrs["meaning"] = layer.meaning
        if layer.channel_names:
            made.attrs["channel_names"] = list(layer.channel_names)
        for where, block in blocks(layer.array, watch, path.name):
            made[where] = block


def _axistags(axes: str) -> str:
    kinds = [{"key": axis, "typeFlags": _CHANNEL if axis == "c" else _SPACE} for axis in axes]
    return json.dumps({"axes": [{**kind, "resolution": 0, "description": ""} for kind in kinds]})
