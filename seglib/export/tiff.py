"""Layers as TIFF files: a hyperstack for ImageJ, or a tiled OME-TIFF with ever smaller copies of large planes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from seglib.data.pyramids import SMALLEST_PLANE, halve
from seglib.errors import DataError
from seglib.export.placing import placed
from seglib.export.sources import BLOCK_BYTES, LABELS, Layer, Watch, blocks

# Beyond 4 GB a TIFF needs 64-bit offsets, which ImageJ's own reader does not know; some room for the tags.
CLASSIC_TIFF_BYTES = 2**32 - 2**25
TILE = 512
_IMAGEJ = (np.uint8, np.uint16, np.float32)
_OME = (*_IMAGEJ, np.uint32)


def write_tiff(layer: Layer, path: Path, watch: Watch) -> None:
    """Writes a layer as a deflate-compressed TIFF, a page a plane, with its voxel size.

    uint8, uint16 and float up to 4 GB become an ImageJ hyperstack (float16 as float32, which TIFF knows), larger ones
    and uint32 an OME-TIFF. Memory: under 200 MB, or a few planes where one is larger than 64 MB.
    Raises DataError for types and axes a TIFF does not hold.
    """
    dtype = _stored(layer, path)
    large = dtype.itemsize * int(np.prod(layer.array.shape)) >= CLASSIC_TIFF_BYTES
    # tifffile takes hyperstacks one voxel wide for other shapes.
    if large or dtype.type not in _IMAGEJ or layer.array.shape[-1] == 1:
        write_ome_tiff(layer, path, watch)
        return
    z_um, y_um, x_um = (side / 1000 for side in layer.voxel_size_nm)
    metadata: dict[str, Any] = {"axes": "ZYX", "spacing": z_um, "unit": "um"}
    shape = layer.array.shape
    if layer.axes == "CZYX":
        # In a hyperstack all channels of a plane come before the next plane.
        shape = (shape[1], shape[0], *shape[2:])
        names = list(layer.channel_names) or [layer.name] * shape[1]
        metadata |= {"axes": "ZCYX", "mode": "grayscale", "Labels": names * shape[0], "Info": _info(layer)}
    with placed(path) as temporary, tifffile.TiffWriter(temporary, imagej=True) as writer:
        writer.write(
            _hyperstack_planes(layer, dtype, watch, path.name),
            shape=shape,
            dtype=dtype,
            photometric="minisblack",
            compression="zlib",
            buffersize=BLOCK_BYTES,
            resolution=(1 / x_um, 1 / y_um),
            # ImageJ takes the unit from its own metadata; TIFF itself knows no micrometre.
            resolutionunit="NONE",
            metadata=metadata,
        )


def write_ome_tiff(layer: Layer, path: Path, watch: Watch) -> None:
    """Writes a layer as a deflate-compressed BigTIFF with OME metadata: voxel size, and names of channels.

    Planes wider than 512 voxels are tiled, and halved copies follow as SubIFDs: means of probabilities, every second
    voxel of labels. float16 becomes float32. Memory: under 200 MB, or a few planes where one is larger than 64 MB.
    Raises DataError for types and axes a TIFF does not hold.
    """
    dtype, shape = _stored(layer, path), layer.array.shape
    halvings = _halvings(shape[-2:])
    options: dict[str, Any] = {
        "dtype": dtype,
        "photometric": "minisblack",
        "compression": "zlib",
        "buffersize": BLOCK_BYTES,
        "tile": (TILE, TILE) if halvings else None,
    }
    with placed(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True, ome=True) as writer:
        for times in range(halvings + 1):
            planes = _halved_planes(
                layer, dtype, times, watch, path.name if not times else f"{path.name}, smaller copy"
            )
            sides = tuple(-(-side // 2**times) for side in shape[-2:])
            first = {"metadata": _ome_metadata(layer), "subifds": halvings} if not times else {"subfiletype": 1}
            data = _tiles(planes) if halvings else planes
            writer.write(data, shape=(*shape[:-2], *sides), **first, **options)


def _stored(layer: Layer, path: Path) -> np.dtype[Any]:
    """The type the file will have. Raises DataError where a TIFF cannot hold the layer."""
    dtype, axes = layer.array.dtype, len(layer.array.shape)
    if layer.name == LABELS and (axes != 3 or dtype not in (np.uint8, np.uint16, np.uint32)):
        found = f"{dtype} with {axes} axes"
        raise DataError(
            f"{path.name} needs labels of uint8, uint16 or uint32 with axes ZYX, not {found}: OME-Zarr, HDF5 and "
            "NumPy hold others."
        )
    stored = np.dtype(np.float32) if dtype == np.float16 else np.dtype(dtype)
    if axes not in (3, 4) or stored.type not in _OME:
        raise DataError(f"A TIFF cannot hold {layer.name} of {dtype} with {axes} axes: take OME-Zarr, HDF5 or NumPy.")
    return stored


def _info(layer: Layer) -> str:
    changed = " Stored as float32, because TIFF knows no float16." if layer.array.dtype == np.float16 else ""
    return f"{layer.name}. {layer.meaning}{changed}"


def _ome_metadata(layer: Layer) -> dict[str, Any]:
    sizes = {f"PhysicalSize{axis}": side / 1000 for axis, side in zip("ZYX", layer.voxel_size_nm, strict=True)}
    units = dict.fromkeys((f"{size}Unit" for size in sizes), "µm")
    metadata: dict[str, Any] = {"axes": layer.axes, "Name": layer.name, **sizes, **units}
    if layer.axes == "CZYX":
        names = layer.channel_names or (layer.name,) * layer.array.shape[0]
        metadata |= {"Channel": {"Name": list(names)}, "Description": _info(layer)}
    return metadata


def _hyperstack_planes(layer: Layer, dtype: np.dtype[Any], watch: Watch, text: str) -> Iterator[NDArray[Any]]:
    """Planes (Y, X) as a hyperstack has them: z slowest, then channels."""
    if layer.axes == "ZYX":
        yield from _halved_planes(layer, dtype, 0, watch, text)
        return
    channels, depth, height, width = layer.array.shape
    plane = max(1, height * width * layer.array.dtype.itemsize)
    # A block of all channels, or plane by plane where they are too many.
    step = int(min(16, BLOCK_BYTES // (plane * channels)))
    for start in range(0, depth, step or 1):
        watch.step(start, depth, text)
        if step:
            block = np.asarray(layer.array[:, start : start + step])
            yield from (page.astype(dtype, copy=False) for planes in block.swapaxes(0, 1) for page in planes)
        else:
            for channel in range(channels):
                yield np.asarray(layer.array[channel, start]).astype(dtype, copy=False)
    watch.step(depth, depth, text)


def _halvings(plane: tuple[int, ...]) -> int:
    """How often a plane is halved until it fits a small screen."""
    times = 0
    while max(plane) > SMALLEST_PLANE * 2**times:
        times += 1
    return times


def _halved_planes(layer: Layer, dtype: np.dtype[Any], times: int, watch: Watch, text: str) -> Iterator[NDArray[Any]]:
    """Planes (Y, X), channel by channel, of half the sides so many times."""
    for _, block in blocks(layer.array, watch, text):
        for plane in block:
            if layer.name == LABELS:
                yield np.ascontiguousarray(plane[:: 2**times, :: 2**times])
                continue
            smaller = plane.astype(dtype, copy=False)
            for _ in range(times):
                smaller = halve(halve(smaller, -2), -1)
            yield smaller


def _tiles(planes: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for plane in planes:
        for y in range(0, plane.shape[0], TILE):
            for x in range(0, plane.shape[1], TILE):
                yield plane[y : y + TILE, x : x + TILE]
