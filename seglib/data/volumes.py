"""A volume as the workspace keeps it: OME-Zarr v0.5, image CZYX, any number of label layers ZYX.

One folder holds one image and its labels:

    <path>/0, 1, …                 image, (C, Z, Y, X), in full and at ever coarser resolution
    <path>/labels/<layer>/0, 1, …  labels, (Z, Y, X), unsigned integers, 0 is background

Chunks are four planes deep and 512 voxels wide, so that a plane along z touches few chunks and one along
y or x does not touch all of them; very large planes are chunked one by one, which bounds the memory of writing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import BloscCodec

from seglib.errors import DataError

if TYPE_CHECKING:
    from seglib.data.pyramids import Level

VoxelSize = tuple[float, float, float]
CHUNK_ZYX = (4, 512, 512)
LARGE_PLANE_BYTES = 32 << 20
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
    contrast: grey values shown as black and as white; windows: the same for each channel, where they differ.
    channel_names: one for each channel, or none.
    group: volumes of one group must not be split between training and validation.
    """

    name: str
    image: Array
    labels: Array | None = None
    voxel_size_nm: VoxelSize = (1.0, 1.0, 1.0)
    contrast: tuple[float, float] = (0.0, 255.0)
    group: str = ""
    windows: tuple[tuple[float, float], ...] = ()
    channel_names: tuple[str, ...] = ()

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
    group.attrs.update(image_description(name=name, scales=[(1.0, *voxel_size_nm)]))
    return create_array(group, "0", shape_czyx, dtype)


def image_description(
    *,
    name: str,
    scales: Sequence[tuple[float, ...]],
    windows: Sequence[tuple[float, float]] = (),
    channel_names: Sequence[str] = (),
) -> dict[str, Any]:
    """The attributes of an image group. scales: voxel size (c, z, y, x) of each level, in nm, with 1 for c.

    windows: grey values shown as black and as white, of each channel. channel_names: as many, or none.
    """
    axes = [{"name": "c", "type": "channel"}, *_SPACE_AXES]
    described: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [_multiscale(name, axes, scales)],
        "omero": {"channels": _channels(windows, channel_names)},
    }
    return {"ome": described}


def labels_description(*, name: str, scales: Sequence[tuple[float, ...]]) -> dict[str, Any]:
    """The attributes of the group of a label layer. scales: voxel size (z, y, x) of each level, in nm."""
    described: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [_multiscale(name, _SPACE_AXES, scales)],
        "image-label": {"source": {"image": "../../"}},
    }
    return {"ome": described}


def layers_description(layers: Iterable[str]) -> dict[str, Any]:
    """The attributes of the group that holds the label layers."""
    return {"ome": {"version": "0.5", "labels": sorted(layers)}}


def scales_of(levels: Sequence["Level"], voxel_size_nm: VoxelSize) -> list[tuple[float, ...]]:
    """Voxel sizes (z, y, x) in nm of each level of a pyramid."""
    return [tuple(size * f for size, f in zip(voxel_size_nm, level.factors, strict=True)) for level in levels]


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
    group = label_group(path, layer)
    group.attrs.update(labels_description(name=layer, scales=[voxel_size_nm]))
    return create_array(group, "0", shape_zyx, dtype)


def label_group(path: str | PathLike[str], layer: str) -> zarr.Group:
    """An empty group for a label layer of the volume at `path`; one of the same name is replaced."""
    root = zarr.open_group(store=str(path), mode="a", zarr_format=3)
    labels = root.require_group("labels")
    labels.attrs.update(layers_description({*_ome(labels).get("labels", []), layer}))
    return labels.create_group(layer, overwrite=True)


def set_contrast(path: str | PathLike[str], contrast: tuple[float, float]) -> None:
    """Records which grey values are shown as black and as white (OME `omero` window, all channels)."""
    group = zarr.open_group(store=str(path), mode="r+")
    described = _ome(group) | {"omero": {"channels": _channels([contrast] * int(_array(group, "0").shape[0]), ())}}
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
    windows = tuple((float(c["window"]["start"]), float(c["window"]["end"])) for c in channels)
    has_labels = f"labels/{layer}/0" in root
    return Volume(
        name=multiscale["name"],
        image=_array(root, "0"),
        labels=_array(root, f"labels/{layer}/0") if has_labels else None,
        voxel_size_nm=(float(scale[-3]), float(scale[-2]), float(scale[-1])),
        contrast=windows[0] if windows else (0.0, 255.0),
        group=group,
        windows=windows,
        channel_names=tuple(str(c["label"]) for c in channels if "label" in c),
    )


def open_labels(path: str | PathLike[str], layer: str) -> zarr.Array:
    """The label layer's array (Z, Y, X). Raises DataError where there is none."""
    try:
        return _array(zarr.open_group(store=str(path), mode="r"), f"labels/{layer}/0")
    except (FileNotFoundError, KeyError) as error:
        raise DataError(f"There is no label layer {layer!r} in {Path(path).name}.") from error


def voxel_text(voxel_size_nm: VoxelSize, between: str = ", ") -> str:
    """“40, 8.5, 8.5”: every digit that counts, and no exponent."""
    return between.join(f"{side:,.10g}" if side < 1e9 else f"{side:g}" for side in voxel_size_nm)


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


def chunk_planes(shape_zyx: tuple[int, int, int], dtype: DTypeLike) -> int:
    """How many planes a chunk of such a layer is deep."""
    plane_bytes = shape_zyx[1] * shape_zyx[2] * np.dtype(dtype).itemsize
    return 1 if plane_bytes > LARGE_PLANE_BYTES else min(CHUNK_ZYX[0], shape_zyx[0])


def create_array(
    group: zarr.Group, name: str, shape: tuple[int, ...], dtype: DTypeLike, *, separator: Literal["/", "."] = "/"
) -> zarr.Array:
    """An empty array (C, Z, Y, X) or (Z, Y, X) in a group, compressed, chunked for looking at planes.

    separator: of a chunk's place in the name of its file; with "/" chunks lie in nested folders.
    """
    z, y, x = shape[-3:]
    spatial = (chunk_planes((z, y, x), dtype), min(CHUNK_ZYX[1], y), min(CHUNK_ZYX[2], x))
    return group.create_array(
        name,
        shape=shape,
        dtype=np.dtype(dtype),
        chunks=(1,) * (len(shape) - 3) + spatial,
        compressors=BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
        dimension_names=["c", "z", "y", "x"][-len(shape) :],
        chunk_key_encoding={"name": "default", "separator": separator},
    )


_SPACE_AXES: list[dict[str, str]] = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]


def _ome(group: zarr.Group) -> dict[str, Any]:
    """The OME metadata of a group; empty where there are none."""
    attributes: Any = group.attrs.get("ome", {})
    return dict(attributes)


def _multiscale(name: str, axes: list[dict[str, str]], scales: Sequence[tuple[float, ...]]) -> dict[str, Any]:
    datasets = [
        {"path": str(index), "coordinateTransformations": [{"type": "scale", "scale": list(scale)}]}
        for index, scale in enumerate(scales)
    ]
    return {"name": name, "axes": axes, "datasets": datasets}


def _channels(windows: Sequence[tuple[float, float]], names: Sequence[str]) -> list[dict[str, Any]]:
    labels = [{"label": name} for name in names] if len(names) == len(windows) else [{}] * len(windows)
    return [
        {"window": {"start": low, "end": high, "min": low, "max": high}, "active": True, "color": "FFFFFF", **label}
        for (low, high), label in zip(windows, labels, strict=True)
    ]


def _array(group: zarr.Group, name: str) -> zarr.Array:
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise DataError(f"{name} in {group.store_path} is not an array.")
    return found
