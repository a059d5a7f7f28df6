"""Small volumes written file by file.

A data set of 2D images has tens of thousands of volumes of one chunk each. Making each through zarr-python takes ten
round trips to its event loop, several times longer than decoding the image; so the same files are written here. What
an array's metadata are is asked of zarr-python, once for each shape and dtype.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from seglib.data.volumes import CHUNK_ZYX, create_array


def is_small(shape_zyx: tuple[int, int, int]) -> bool:
    """Whether a layer of this shape is a single chunk, so that it needs no coarser levels either."""
    return all(side <= chunk for side, chunk in zip(shape_zyx, CHUNK_ZYX, strict=True))


class SmallLayer:
    """Takes the planes of one layer from front to back, as a LayerWriter does."""

    def __init__(self, planes: int) -> None:
        self.slab_planes = planes
        self.planes: list[NDArray[Any]] = []

    def write(self, planes: NDArray[Any]) -> None:
        """Appends planes (C, dz, Y, X), or (dz, Y, X) without channels."""
        self.planes.append(planes)


@contextmanager
def small_layer(
    folder: Path, shape_zyx: tuple[int, int, int], *, channels: int, dtype: np.dtype[Any]
) -> Iterator[SmallLayer]:
    """A SmallLayer whose planes become the array `0` in a folder at the end. channels: 0 for labels."""
    layer = SmallLayer(shape_zyx[0])
    yield layer
    shape = ((channels,) if channels else ()) + shape_zyx
    values = np.concatenate(layer.planes, axis=-3) if len(layer.planes) > 1 else layer.planes[0]
    values = np.ascontiguousarray(values, dtype=dtype)
    array = folder / "0"
    array.mkdir(parents=True)
    for index in range(channels or 1):
        # The key of a chunk is its place along every dimension: c.<channel>.0.0.0.
        key = ".".join(["c", *([str(index)] if channels else []), "0", "0", "0"])
        (array / key).write_bytes(_codec().encode(values[index] if channels else values))
    (array / "zarr.json").write_bytes(_array_metadata(shape, dtype.str))


def write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    """Makes a folder a Zarr group with these attributes."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    (folder / "zarr.json").write_text(json.dumps(metadata), encoding="utf-8")


@functools.lru_cache(maxsize=4096)
def _array_metadata(shape: tuple[int, ...], dtype: str) -> bytes:
    files: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(files), zarr_format=3)
    # Chunks lie beside each other, as folders cost more than what is in them.
    create_array(group, "0", shape, dtype, separator=".")
    return bytes(files["0/zarr.json"].to_bytes())


@functools.cache
def _codec() -> numcodecs.Blosc:
    # As volumes.create_array compresses.
    return numcodecs.Blosc(cname="zstd", clevel=1, shuffle=numcodecs.Blosc.SHUFFLE)
