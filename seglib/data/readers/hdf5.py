"""HDF5: any dataset of numbers inside. What lies in other files is never read."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from seglib.data.readers.base import (
    ImageFile,
    Member,
    Read,
    SourceFile,
    Window,
    check_claim,
    guess_axes,
    plain_dtype,
    unreadable,
    wrong_content,
)
from seglib.data.readers.members import pick_member
from seglib.data.readers.units import length_nm, nanometres
from seglib.errors import DataError

_MAX_OBJECTS = 10_000
_MAX_DEPTH = 32
_FOREIGN = (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError)
_LETTERS = {"t": "T", "c": "C", "z": "Z", "y": "Y", "x": "X"}
VoxelSizeFound = tuple[float | None, float | None, float | None]


def open_hdf5(source: SourceFile) -> ImageFile:
    """Opens one dataset of an HDF5 file, the one named by source.member or the first likely one; no numbers are read.

    Raises DataError where it is no HDF5 file or holds no dataset of numbers of its own.
    """
    with _opened(source) as file:
        datasets, elsewhere = _datasets(source, file)
        if not datasets:
            more = (
                f" {elsewhere} lie in other files, which are not followed: copy them into one file."
                if elsewhere
                else ""
            )
            raise DataError(f"{source.name} holds no array of numbers with 2 to 5 dimensions.{more}")
        members = [Member(name, found.shape, str(found.dtype)) for name, found in datasets.items()]
        name = pick_member(source, members)
        found = datasets[name]
        shape, dtype = tuple(int(side) for side in found.shape), plain_dtype(source.name, found.dtype)
        check_claim(f"{name} in {source.name}", shape, found.dtype, source.path.stat().st_size)
        axes = _said_axes(found)
        chunks = tuple(found.chunks or (*(1 for _ in shape[:-2]), *shape[-2:]))
        voxel_size = _voxel_size(found)

    @contextmanager
    def opened() -> Iterator[Read]:
        with _opened(source) as file:
            stored = file[name]

            def read(window: Window) -> NDArray[Any]:
                try:
                    return np.asarray(stored[window]).astype(dtype, copy=False)
                except _FOREIGN as error:
                    raise _damaged(source, error) from error

            yield read

    return ImageFile(
        source=source,
        shape=shape,
        axes=axes or guess_axes(shape),
        axes_known=bool(axes),
        dtype=dtype,
        opened=opened,
        chunks=chunks,
        voxel_size_nm=voxel_size,
        members=tuple(members) if len(members) > 1 else (),
    )


def _datasets(source: SourceFile, file: h5py.File) -> tuple[dict[str, h5py.Dataset], int]:
    """Datasets of numbers by their path, and how many were left out because they lie in other files."""
    found: dict[str, h5py.Dataset] = {}
    elsewhere, visited = 0, 0
    waiting: list[tuple[str, h5py.Group]] = [("", file)]
    seen = set()
    while waiting:
        path, group = waiting.pop()
        # A hard link may lead back to a group above.
        address = h5py.h5o.get_info(group.id).addr
        if address in seen or path.count("/") > _MAX_DEPTH:
            continue
        seen.add(address)
        for name in group:
            visited += 1
            if visited > _MAX_OBJECTS:
                raise DataError(f"{source.name} holds more than {_MAX_OBJECTS:,} objects. Save the images alone.")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                elsewhere += isinstance(group.get(name, getlink=True), h5py.ExternalLink)
                continue
            item = group[name]
            if isinstance(item, h5py.Group):
                waiting.append((f"{path}{name}/", item))
            elif isinstance(item, h5py.Dataset) and _is_image(item):
                if item.is_virtual or item.external:
                    elsewhere += 1
                else:
                    found[f"{path}{name}"] = item
    return found, elsewhere


def _is_image(item: h5py.Dataset) -> bool:
    shape = item.shape or ()
    return item.dtype.kind in "buif" and 2 <= len(shape) <= 5 and math.prod(shape) > 0


def _said_axes(found: h5py.Dataset) -> str:
    """Axes as ilastik or the labels of dimensions say them, else empty."""
    try:
        tags = found.attrs.get("axistags")
        if tags is not None:
            keys = [str(axis["key"]) for axis in json.loads(tags)["axes"]]
        else:
            keys = [dimension.label for dimension in found.dims]
    except (*_FOREIGN, json.JSONDecodeError):
        return ""
    letters = "".join(_LETTERS.get(key.casefold(), "?") for key in keys)
    fits = "?" not in letters and len(letters) == len(found.shape) and len(set(letters)) == len(letters)
    return letters if fits and {"Y", "X"} <= set(letters) else ""


def _voxel_size(found: h5py.Dataset) -> VoxelSizeFound:
    """(z, y, x) in nm from the attributes that are in use, None where there are none."""
    try:
        unit = found.attrs.get("unit", found.attrs.get("units", "nm"))
        unit_nm = nanometres(unit) if isinstance(unit, str) else 1.0
        factors = {"element_size_um": 1e3, **dict.fromkeys(("resolution", "voxel_size", "spacing"), unit_nm)}
        for name, factor in factors.items():
            sizes = np.asarray(found.attrs.get(name, ()), np.float64).ravel()
            if sizes.size == 3:
                z, y, x = (length_nm(float(size), factor) for size in sizes)
                return z, y, x
    except _FOREIGN:
        return None, None, None
    return None, None, None


@contextmanager
def _opened(source: SourceFile) -> Iterator[h5py.File]:
    if not Path(source.path).is_file():
        raise unreadable(source, FileNotFoundError(2, "No such file"))
    try:
        if not h5py.is_hdf5(source.path):
            raise wrong_content(source, "an HDF5 file")
        file = h5py.File(source.path, "r", locking=False)
    except _FOREIGN as error:
        raise _damaged(source, error) from error
    with file:
        try:
            yield file
        except DataError:
            raise
        except _FOREIGN as error:
            raise _damaged(source, error) from error


def _damaged(source: SourceFile, error: Exception) -> DataError:
    detail = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    return DataError(f"{source.name} is damaged, or packed in a way not known here ({detail}). Export it again.")
