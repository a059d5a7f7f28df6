"""OME metadata of Zarr folders (0.4 and 0.5) -> axes, voxel sizes and channel names. What makes no sense is skipped."""

import math
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seglib.data.readers.sources import without_control
from seglib.data.readers.units import length_nm, nanometres

_LETTERS = {"time": "T", "channel": "C", **{letter.lower(): letter for letter in "TCZYX"}}
_MAX_NAME = 100
# Far more than any plate has; each is kept.
_MAX_DATASETS = 1000
VoxelSizeFound = tuple[float | None, float | None, float | None]


@dataclass(frozen=True, kw_only=True)
class OmeArray:
    """What OME metadata say of an array.

    axes: a letter for each dimension, empty where they are not such as can be used. channel_names: as listed, which
    need not be as many as there are channels. note: what to tell of the voxel size, to follow the file's name.
    """

    axes: str = ""
    voxel_size_nm: VoxelSizeFound = (None, None, None)
    channel_names: tuple[str, ...] = ()
    note: str = ""


def read_multiscales(path: str, attributes: Mapping[str, Any]) -> dict[str, OmeArray]:
    """The arrays that the attributes of the group at `path` describe, by their own paths, best resolution first."""
    ome = mapping(attributes.get("ome")) or attributes
    channels = [mapping(channel).get("label") for channel in _sequence(mapping(ome.get("omero")).get("channels"))]
    named = bool(channels) and all(isinstance(label, str) and label for label in channels)
    names = tuple(without_control(str(label))[:_MAX_NAME] for label in channels) if named else ()
    found: dict[str, OmeArray] = {}
    for multiscale in map(mapping, _sequence(ome.get("multiscales"))):
        for dataset in map(mapping, _sequence(multiscale.get("datasets"))[:_MAX_DATASETS]):
            where = dataset.get("path")
            if isinstance(where, str) and len(found) < _MAX_DATASETS:
                full = posixpath.normpath(f"{path}/{where}").strip("/")
                found.setdefault("" if full == "." else full, _described(multiscale, dataset, names))
    return found


def axes_of(names: Sequence[str]) -> str:
    """A letter for each name of a dimension; empty where one has none, one is twice, or Y or X are missing."""
    letters = [_LETTERS.get(name.strip().casefold(), "") for name in names]
    fits = all(letters) and len(set(letters)) == len(letters) and {"Y", "X"} <= set(letters)
    return "".join(letters) if fits else ""


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is a JSON object, otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _described(multiscale: dict[str, Any], dataset: dict[str, Any], names: tuple[str, ...]) -> OmeArray:
    # Version 0.3 has names only, where 0.4 has objects.
    described = [mapping(axis) or {"name": axis} for axis in _sequence(multiscale.get("axes"))]
    kinds = [
        str(axis.get("type")) if axis.get("type") in ("time", "channel") else axis.get("name") for axis in described
    ]
    letters = axes_of([str(kind) for kind in kinds])
    sizes = _scale(multiscale, dataset, len(letters))
    if not letters or sizes is None:
        return OmeArray(axes=letters, channel_names=names)
    units = [nanometres(str(axis.get("unit", ""))) for axis in described]
    lengths = {
        letter: length_nm(size, unit)
        for letter, size, unit in zip(letters, sizes, units, strict=True)
        if letter in "ZYX"
    }
    note, spatial = "", [size for letter, size in zip(letters, sizes, strict=True) if letter in "ZYX"]
    if None in lengths.values() and any(size != 1 for size in spatial):
        shown = " × ".join(f"{size:g}" for size in spatial)
        note = f"gives a voxel size of {shown} that is not, or not fully, in a unit of length; give it yourself"
    z, y, x = (lengths.get(letter) for letter in "ZYX")
    return OmeArray(axes=letters, voxel_size_nm=(z, y, x), channel_names=names, note=note)


def _scale(multiscale: dict[str, Any], dataset: dict[str, Any], count: int) -> list[float] | None:
    """How large a step along each dimension is, None where it is not said in full."""
    sizes: list[float] | None = None
    for part in (dataset, multiscale):
        for transform in map(mapping, _sequence(part.get("coordinateTransformations"))):
            if "scale" not in transform:
                continue
            factors = [_number(factor) for factor in _sequence(transform["scale"])]
            if len(factors) != count or not all(map(math.isfinite, factors)):
                return None
            sizes = [size * factor for size, factor in zip(sizes or [1.0] * count, factors, strict=True)]
    return sizes


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # JSON knows whole numbers of any length
        return math.nan
