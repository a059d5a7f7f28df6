"""A volume as the workspace keeps it: OME-Zarr v0.5, image CZYX, any number of label layers ZYX.

One folder holds one image and its labels:

    <path>/0                 image, (C, Z, Y, X)
    <path>/labels/<layer>/0  labels, (Z, Y, X), unsigned integers, 0 is background

Chunks are four planes deep and 512 voxels wide, so that a plane along z touches few chunks and one along
y or x does not touch all of them.
"""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import BloscCodec

from seglib.errors import DataError

VoxelSize = tuple[float, float, float]
CHUNK_ZYX = (4, 512, 512)
TRUTH = "labels"


class Array(Protocol):
    """What a volume's data must offer: a NumPy array, a Zarr array, or anything sliced like them."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True)
class Volume:
    """A lazy image with its meaning.

    image: (C, Z, Y, X), any real dtype; 2D data have Z = 1.
    labels: (Z, Y, X) unsigned integers, 0 is background; None where there are none.
    voxel_size_nm: (z, y, x) in nanometres.
    contrast: grey values shown as black and as white.
    group: volumes of one group must not be split between training and validation.
    """

    name: str
    image: Array
    labels: Array | None = None
    voxel_size_nm: VoxelSize = (1.0, 1.0, 1.0)
    contrast: tuple[float, float] = (0.0, 255.0)
    group: str = ""

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        _, z, y, x = self.image.shape
        return z, y, x

    @property
    def channels(self) -> int:
        return int(self.image.shape[0])


def create_volume(
    path: str | PathLike[str],
    *,
    name: str,
    shape_czyx: tuple[int, int, int, int],
    dtype: DTypeLike,
    voxel_size_nm: VoxelSize,
) -> zarr.Array:
    """Makes an empty OME-Zarr volume and returns its image array (C, Z, Y, X), to be filled slab by slab."""
    group = zarr.create_group(store=str(path), zarr_format=3, overwrite=False)
    array = _create_array(group, "0", shape_czyx, dtype)
    axes = [{"name": "c", "type": "channel"}, *_SPACE_AXES]
    described: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [_multiscale(name, axes, (1.0, *voxel_size_nm))],
        "omero": {"channels": []},
    }
    group.attrs["ome"] = described
    return array


def create_labels(
    path: str | PathLike[str],
    layer: str,
    *,
    shape_zyx: tuple[int, int, int],
    dtype: DTypeLike,
    voxel_size_nm: VoxelSize,
) -> zarr.Array:
    """Adds an empty label layer (Z, Y, X) to a volume, or to a folder of its own, and returns its array.

    A layer of the same name is replaced.
    """
    root = zarr.open_group(store=str(path), mode="a", zarr_format=3)
    labels = root.require_group("labels")
    named = {*_ome(labels).get("labels", []), layer}
    labels.attrs["ome"] = {"version": "0.5", "labels": sorted(named)}
    group = labels.create_group(layer, overwrite=True)
    described: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [_multiscale(layer, _SPACE_AXES, voxel_size_nm)],
        "image-label": {"source": {"image": "../../"}},
    }
    group.attrs["ome"] = described
    return _create_array(group, "0", shape_zyx, dtype)


def set_contrast(path: str | PathLike[str], contrast: tuple[float, float]) -> None:
    """Records which grey values are shown as black and as white (OME `omero` window, all channels)."""
    group = zarr.open_group(store=str(path), mode="r+")
    low, high = contrast
    window = {"window": {"start": low, "end": high, "min": low, "max": high}, "active": True, "color": "FFFFFF"}
    channels = [window] * int(_array(group, "0").shape[0])
    described = _ome(group) | {"omero": {"channels": channels}}
    group.attrs["ome"] = described


def open_volume(path: str | PathLike[str], *, layer: str = TRUTH, group: str = "") -> Volume:
    """The volume at `path`, nothing read yet; `labels` is the named layer, or None without one.

    Raises DataError where there is no volume.
    """
    try:
        root = zarr.open_group(store=str(path), mode="r")
    except FileNotFoundError as error:
        raise DataError(f"The volume {Path(path).name} is not in the workspace any more.") from error
    ome = _ome(root)
    multiscale = ome["multiscales"][0]
    scale = multiscale["datasets"][0]["coordinateTransformations"][0]["scale"]
    channels = ome["omero"]["channels"]
    window = channels[0]["window"] if channels else {"start": 0.0, "end": 255.0}
    has_labels = f"labels/{layer}/0" in root
    return Volume(
        name=multiscale["name"],
        image=_array(root, "0"),
        labels=_array(root, f"labels/{layer}/0") if has_labels else None,
        voxel_size_nm=(float(scale[-3]), float(scale[-2]), float(scale[-1])),
        contrast=(float(window["start"]), float(window["end"])),
        group=group,
    )


def open_labels(path: str | PathLike[str], layer: str) -> zarr.Array:
    """The label layer's array (Z, Y, X). Raises DataError where there is none."""
    try:
        return _array(zarr.open_group(store=str(path), mode="r"), f"labels/{layer}/0")
    except (FileNotFoundError, KeyError) as error:
        raise DataError(f"There is no label layer {layer!r} in {Path(path).name}.") from error


def fitting_uint(largest: int) -> np.dtype[Any]:
    """The smallest unsigned dtype that holds ids up to `largest`."""
    return np.min_scalar_type(max(1, largest))


def contrast_of(image: NDArray[Any], share: float = 0.2) -> tuple[float, float]:
    """Grey values at the `share` and 100 − `share` percentiles; never equal."""
    sample = image.ravel()
    sample = sample[:: max(1, sample.size // 1_000_000)]
    sample = sample[np.isfinite(sample)] if sample.dtype.kind == "f" else sample
    if sample.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(sample, [share, 100 - share]))
    return (low, high) if high > low else (low, low + 1.0)


_SPACE_AXES: list[dict[str, str]] = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]


def _ome(group: zarr.Group) -> dict[str, Any]:
    """The OME metadata of a group; empty where there are none."""
    attributes: Any = group.attrs.get("ome", {})
    return dict(attributes)


def _multiscale(name: str, axes: list[dict[str, str]], scale: tuple[float, ...]) -> dict[str, Any]:
    transform = {"type": "scale", "scale": list(scale)}
    return {"name": name, "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [transform]}]}


def _create_array(group: zarr.Group, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> zarr.Array:
    spatial = tuple(min(chunk, side) for chunk, side in zip(CHUNK_ZYX, shape[-3:], strict=True))
    return group.create_array(
        name,
        shape=shape,
        dtype=np.dtype(dtype),
        chunks=(1,) * (len(shape) - 3) + spatial,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
        dimension_names=["c", "z", "y", "x"][-len(shape) :],
    )


def _array(group: zarr.Group, name: str) -> zarr.Array:
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise DataError(f"{name} in {group.store_path} is not an array.")
    return found
