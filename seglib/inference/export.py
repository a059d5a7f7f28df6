"""Predictions as files for other programs."""

import os
import uuid
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from seglib.data.volumes import Array, VoxelSize, open_labels
from seglib.errors import DataError

# Beyond 4 GB a TIFF needs 64-bit offsets, which ImageJ's own reader does not know; some room for the tags.
CLASSIC_TIFF_BYTES = 2**32 - 2**25
_READ_BYTES = 64 * 2**20


def exported_tiff(folder: str | PathLike[str], layer: str) -> Path:
    """Path of the layer of `<folder>/labels.zarr` as a TIFF beside it, made if missing or older than the labels.

    Raises DataError where there is no such layer.
    """
    labels = Path(folder) / "labels.zarr"
    array = open_labels(labels, layer)
    described = labels / "labels" / layer
    path = labels.with_name(f"{layer}.tif")
    if not path.exists() or path.stat().st_mtime < (described / "0" / "zarr.json").stat().st_mtime:
        export_tiff(array, path, voxel_size_nm(labels, layer))
    return path


def export_tiff(labels_array: Array, path: str | PathLike[str], voxel_size_nm: VoxelSize) -> None:
    """Writes labels (Z, Y, X) as a deflate-compressed TIFF, a page a plane, with its voxel size.

    uint8 and uint16 up to 4 GB become an ImageJ hyperstack; larger ones and uint32 an OME-TIFF (BigTIFF).
    At most 64 MB, or one plane, is in memory; the file appears only once it is complete.
    Raises DataError for another number of axes, and for other types (OME-TIFF knows no 64-bit integers).
    """
    path = Path(path)
    if len(labels_array.shape) != 3 or labels_array.dtype not in (np.uint8, np.uint16, np.uint32):
        found = f"{labels_array.dtype} with {len(labels_array.shape)} axes"
        raise DataError(f"{path.name} needs labels of uint8, uint16 or uint32 with axes ZYX, not {found}.")
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        _write(labels_array, temporary, voxel_size_nm)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def voxel_size_nm(labels: str | PathLike[str], layer: str) -> VoxelSize:
    """Voxel size (z, y, x) in nanometres that a label layer of an OME-Zarr folder names."""
    ome: Any = zarr.open_group(store=str(labels), path=f"labels/{layer}", mode="r").attrs["ome"]
    scale = ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    return float(scale[-3]), float(scale[-2]), float(scale[-1])


def _write(labels: Array, path: Path, voxel_size_nm: VoxelSize) -> None:
    size = labels.dtype.itemsize * int(np.prod(labels.shape))
    imagej = labels.dtype in (np.uint8, np.uint16) and size < CLASSIC_TIFF_BYTES
    z_um, y_um, x_um = (side / 1000 for side in voxel_size_nm)
    if imagej:
        metadata: dict[str, Any] = {"axes": "ZYX", "spacing": z_um, "unit": "um"}
    else:
        sides = {"PhysicalSizeZ": z_um, "PhysicalSizeY": y_um, "PhysicalSizeX": x_um}
        units = dict.fromkeys((f"{side}Unit" for side in sides), "µm")
        metadata = {"axes": "ZYX", **sides, **units}
    with tifffile.TiffWriter(path, bigtiff=not imagej, imagej=imagej, ome=not imagej) as writer:
        writer.write(
            _planes(labels),
            shape=labels.shape,
            dtype=labels.dtype,
            photometric="minisblack",
            compression="zlib",
            resolution=(1 / x_um, 1 / y_um),
            # ImageJ takes the unit from its own metadata; TIFF itself knows no micrometre.
            resolutionunit="NONE",
            metadata=metadata,
        )


def _planes(labels: Array) -> Iterator[NDArray[Any]]:
    depth, height, width = labels.shape
    step = int(max(1, min(16, _READ_BYTES // max(1, height * width * labels.dtype.itemsize))))
    for start in range(0, depth, step):
        yield from np.asarray(labels[start : start + step])
