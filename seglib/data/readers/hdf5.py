"""HDF5: any dataset of numbers inside. What lies in other files is never read."""

import json
import math
import stat
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
from seglib.data.readers.blocks import check_blocks
from seglib.data.readers.members import pick_member
from seglib.data.readers.sources import has_control
from seglib.data.readers.units import length_nm, nanometres
from seglib.errors import DataError

_MAX_OBJECTS = 10_000
# Nested groups each repeat the path before them.
_MAX_PATH = 500
_MAX_ATTRIBUTE_BYTES = 1 << 20
# TypeError and KeyError: for types and names that HDF5 holds but Python does not.
_FOREIGN = (OSError, RuntimeError, ValueError, KeyError, AttributeError, OverflowError, MemoryError, TypeError)
_LETTERS = {"t": "T", "time": "T", "c": "C", "channel": "C", "z": "Z", "y": "Y", "x": "X"}
_PLUGINS = {32001: "Blosc", 32004: "LZ4", 32008: "Bitshuffle", 32013: "ZFP", 32015: "Zstandard", 32026: "Blosc2"}
_DEFLATE, _SCALE_OFFSET, _SCALE_WHOLE = 1, 6, 2
VoxelSizeFound = tuple[float | None, float | None, float | None]

_ELSEWHERE = "lie in other files, which are not followed"
_SOFT = "are links by name, which are not followed"
_ODD_NAME = "have names that are too long or no text"
_BROKEN = "cannot be opened"
_OF_ONE = {"lie": "lies", "are": "is", "have": "has"}


@dataclass
class _Contents:
    """Datasets of numbers by their path, and how many objects were left out for which reason."""

    arrays: dict[str, h5py.Dataset] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


def open_hdf5(source: SourceFile) -> ImageFile:
    """Opens one dataset of an HDF5 file, the one named by source.member or the first likely one; no numbers are read.

    Raises DataError where it is no HDF5 file, holds no dataset of numbers of its own, or one that needs a filter that
    is not installed or claims more than is sane.
    """
    with _opened(source) as file, _damage(source):
        contents = _contents(source, file)
        if not contents.arrays:
            raise _nothing_in(source, contents.left_out)
        members = [Member(name, found.shape, str(found.dtype)) for name, found in contents.arrays.items()]
        name = pick_member(source, members)
        found = contents.arrays[name]
        lossy = _check_packing(source, name, found)
        shape, chunks = found.shape, _chunks(found)
        axes = _said_axes(found)
        voxel_size, notes = _voxel_size(source, found)
        dtype = plain_dtype(source.name, found.dtype)
    if contents.left_out:
        notes += (f"In {source.name} some things were left out: {_listed(contents.left_out)}.",)

    @contextmanager
    def opened() -> Iterator[Read]:
        with _opened(source) as file:
            with _damage(source):
                stored = file[name]

            def read(window: Window) -> NDArray[Any]:
                with _damage(source):
                    return np.asarray(stored[window]).astype(dtype, copy=False)

            yield read

    return ImageFile(
        source=source,
        shape=shape,
        axes=axes or guess_axes(shape),
        axes_known=bool(axes),
        dtype=dtype,
        opened=opened,
        chunks=chunks,
        lossy=lossy,
        voxel_size_nm=voxel_size,
        members=tuple(members) if len(members) > 1 else (),
        notes=notes,
    )


def _contents(source: SourceFile, file: h5py.File) -> _Contents:
    contents, visited = _Contents(), 0
    waiting: deque[tuple[str, h5py.Group]] = deque([("", file)])
    seen = set()
    while waiting:
        path, group = waiting.popleft()
        # A hard link may lead back to a group above.
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:
            continue
        seen.add(address)
        visited += len(group)
        if visited > _MAX_OBJECTS:
            raise DataError(f"{source.name} holds more than {_MAX_OBJECTS:,} objects. Save the images alone.")
        for name in group:
            item = _own_object(group, path, name)
            if isinstance(item, h5py.Group):
                waiting.append((f"{path}{name}/", item))
            elif isinstance(item, h5py.Dataset) and _is_image(item):
                # Asked only of what could be an image: a file of text elsewhere is nobody's loss.
                if item.is_virtual or item.external:
                    contents.left_out[_ELSEWHERE] += 1
                else:
                    contents.arrays[f"{path}{name}"] = item
            elif isinstance(item, str):
                contents.left_out[item] += 1
    return contents


def _own_object(group: h5py.Group, path: str, name: str | bytes) -> Any:
    """What a hard link leads to, otherwise the reason why it is left out."""
    # HDF5 would take a forged name such as “link/raw” for a path and follow what is on the way.
    # Names that are not Unicode come as bytes.
    if not isinstance(name, str) or not name or "/" in name or len(path) + len(name) > _MAX_PATH or has_control(name):
        return _ODD_NAME
    try:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return _ELSEWHERE
        if not isinstance(link, h5py.HardLink):
            return _SOFT
        return group[name]
    except _FOREIGN:
        return _BROKEN


def _is_image(item: h5py.Dataset) -> bool:
    try:
        shape, dtype = item.shape or (), item.dtype
    except _FOREIGN:  # times have no counterpart in NumPy
        return False
    return dtype.kind in "buif" and dtype.itemsize <= 8 and 2 <= len(shape) <= 5 and math.prod(shape) > 0


def _nothing_in(source: SourceFile, left_out: Counter[str]) -> DataError:
    more = f" Left out: {_listed(left_out)}. Copy the data themselves into one file." if left_out else ""
    return DataError(f"{source.name} holds no array of numbers with two to five dimensions.{more}")


def _listed(left_out: Counter[str]) -> str:
    counted = []
    for reason, count in left_out.items():
        verb, rest = reason.split(" ", 1)
        counted.append(f"{count} {_OF_ONE.get(verb, verb) if count == 1 else verb} {rest}")
    return "; ".join(counted)


def _check_packing(source: SourceFile, name: str, found: h5py.Dataset) -> bool:
    """Whether the packing changes values. Raises DataError for sizes that are not sane and filters that are not there.

    The same filter twice is refused, since two rounds of deflate unpack to a million times their size.
    """
    where, file_bytes = f"{name} in {source.name}", source.path.stat().st_size
    check_claim(where, found.shape, found.dtype, file_bytes)
    check_blocks(where, found.shape, _chunks(found), found.dtype.itemsize, file_bytes)
    stored = found.id.get_create_plist()
    filters = [stored.get_filter(index) for index in range(stored.get_nfilters())]
    codes = [code for code, *_ in filters]
    for code, _, _, said in filters:
        if not h5py.h5z.filter_avail(code):
            known = _PLUGINS.get(code) or said.decode("ascii", "replace")[:40] or "of no name"
            raise DataError(
                f"{where} is packed with the HDF5 filter {code} ({known!r}), which is not installed here. "
                "Save it again with gzip compression or with none."
            )
    if len(set(codes)) < len(codes):
        raise DataError(
            f"{where} is packed twice by the same filter. Save it again with gzip compression or with none."
        )
    return any(code == _SCALE_OFFSET and tuple(values[:2]) != (_SCALE_WHOLE, 0) for code, _, values, _ in filters)


def _chunks(found: h5py.Dataset) -> tuple[int, ...]:
    return tuple(found.chunks or (*(1 for _ in found.shape[:-2]), *found.shape[-2:]))


def _said_axes(found: h5py.Dataset) -> str:
    """Axes as ilastik or the labels of dimensions say them, else empty."""
    try:
        tags = _attribute(found, "axistags")
        if tags is not None:
            keys = [str(axis["key"]) for axis in json.loads(tags)["axes"]]
        else:
            keys = [str(dimension.label) for dimension in found.dims]
    except _FOREIGN:
        return ""
    letters = "".join(_LETTERS.get(key.casefold(), "?") for key in keys)
    fits = "?" not in letters and len(letters) == len(found.shape) and len(set(letters)) == len(letters)
    return letters if fits and {"Y", "X"} <= set(letters) else ""


def _voxel_size(source: SourceFile, found: h5py.Dataset) -> tuple[VoxelSizeFound, tuple[str, ...]]:
    """(z, y, x) in nm from the attributes that are in use, None where there are none; and what to tell of it."""
    unit = _unit(found)
    # The first is named after its unit, the second is CREMI's and always nanometres there.
    units = {"element_size_um": "µm", "resolution": unit or "nm", "voxel_size": unit, "spacing": unit}
    for name, its_unit in units.items():
        try:
            sizes = np.asarray(_attribute(found, name), np.float64).ravel()
        except _FOREIGN:
            continue
        if sizes.size != 3 or not np.isfinite(sizes).all():
            continue
        if nanometres(its_unit) is None:
            shown = " × ".join(f"{size:g}" for size in sizes)
            note = f"{source.name} gives a voxel size of {shown} without a unit of length; it was not used."
            return (None, None, None), (note,)
        z, y, x = (length_nm(float(size), nanometres(its_unit)) for size in sizes)
        return (z, y, x), ()
    return (None, None, None), ()


def _unit(found: h5py.Dataset) -> str:
    for name in ("unit", "units"):
        try:
            said = np.asarray(_attribute(found, name)).ravel().tolist()
        except _FOREIGN:
            continue
        words = {word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in said}
        if len(words) == 1 and words != {"None"}:
            return words.pop()
    return ""


def _attribute(found: h5py.Dataset, name: str) -> Any:
    """Its value, None where it is not there or too large to be a description."""
    if name not in found.attrs or found.attrs.get_id(name).get_storage_size() > _MAX_ATTRIBUTE_BYTES:
        return None
    return found.attrs[name]


@contextmanager
def _opened(source: SourceFile) -> Iterator[h5py.File]:
    try:
        if not stat.S_ISREG(source.path.stat().st_mode):
            raise DataError(f"{source.name} is not a file. Give the HDF5 file itself.")
        with source.path.open("rb"):
            pass  # h5py would call a file that may not be read one of another kind
    except OSError as error:
        raise unreadable(source, error) from error
    with _damage(source):
        if not h5py.is_hdf5(source.path):
            raise wrong_content(source, "an HDF5 file")
        file = h5py.File(source.path, "r", locking=False)
    with file:
        yield file


@contextmanager
def _damage(source: SourceFile) -> Iterator[None]:
    """Turns what h5py raises into a DataError with the file's name."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{source.name} needs more memory than there is. Cut it into parts.") from error
    except _FOREIGN as error:
        detail = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise DataError(f"{source.name} is cut off or damaged ({detail}). Copy or export it again.") from error
