"""NRRD in one file: a text header, an empty line, and the numbers, plain or packed with gzip or bzip2."""

import bz2
import gzip
import io
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from seglib.data.readers.base import (
    ImageFile,
    SourceFile,
    check_claim,
    guess_axes,
    plain_dtype,
    unreadable,
    wrong_content,
)
from seglib.data.readers.raw import RawBlock
from seglib.data.readers.units import length_nm, nanometres
from seglib.errors import DataError

_MAX_HEADER = 1 << 20
_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_ENCODINGS = ("raw", "gzip", "gz", "bzip2", "bz2")
_SPACE = ("domain", "space")
_UNKNOWN = ("none", "???")
_SIDE = re.compile(r"[0-9]{1,18}")
_VECTOR = re.compile(r"\(([^()]*)\)|none", re.IGNORECASE)
_UNIT = re.compile(r'"([^"]*)"|(\S+)')

VoxelSize = tuple[float | None, float | None, float | None]


def open_nrrd(source: SourceFile) -> ImageFile:
    """Opens an NRRD file; only the header is read. The first stored dimension is the fastest.

    Raises DataError where it is none, keeps its numbers in another file, or in a form that is not supported.
    """
    fields, offset, size = _read_header(source)
    if "data file" in fields or "datafile" in fields:
        raise DataError(f"{source.name} keeps its numbers in another file. Save it as one file, .nrrd.")
    encoding = fields.get("encoding", "raw").casefold()
    if encoding not in _ENCODINGS:
        raise DataError(
            f"{source.name} has the encoding {encoding[:20]!r}; which is not supported. Save it as raw or gzip."
        )
    if any(fields.get(name, "0") != "0" for name in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise DataError(f"{source.name} leaves out bytes before its data, which is not supported. Save it again.")
    shape = _shape(source, fields)
    stored = _dtype(source, fields)
    check_claim(source.name, shape, stored, size)
    if encoding == "raw" and offset + math.prod(shape) * stored.itemsize > size:
        raise DataError(f"{source.name} is cut off: it ends inside the data. Copy or export it again.")
    axes, known = _axes(fields, shape)
    packed = encoding != "raw"
    block = RawBlock(
        source,
        lambda: _stream(source, offset, encoding),
        0 if packed else offset,
        shape,
        stored,
        plain_dtype(source.name, stored),
    )
    voxel_size, notes = _voxel_size(source, fields, axes)
    return ImageFile(
        source=source,
        shape=shape,
        axes=axes,
        axes_known=known,
        dtype=block.dtype,
        opened=block.opened,
        chunks=block.chunks,
        voxel_size_nm=voxel_size,
        notes=notes,
    )


def _read_header(source: SourceFile) -> tuple[dict[str, str], int, int]:
    """The fields, names in lower case; where the data start; and how long the file is."""
    try:
        size = source.path.stat().st_size
        with source.path.open("rb") as file:
            start = file.read(_MAX_HEADER)
    except OSError as error:
        raise unreadable(source, error) from error
    if not start.startswith(b"NRRD000"):
        raise wrong_content(source, "an NRRD image")
    ends = [(place, len(mark)) for mark in (b"\n\n", b"\r\n\r\n") if (place := start.find(mark)) >= 0]
    if not ends:
        raise DataError(f"{source.name} has no end of its header. Copy or export it again.")
    end, length = min(ends)
    fields = {}
    for line in start[:end].decode("utf-8", "replace").splitlines()[1:]:
        name, found, value = line.partition(":")
        if found and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().casefold()] = value.strip()
    return fields, end + length, size


def _shape(source: SourceFile, fields: Mapping[str, str]) -> tuple[int, ...]:
    words = fields.get("sizes", "").split()
    if not words or fields.get("dimension", str(len(words))) != str(len(words)):
        raise DataError(f"{source.name} has a damaged header: its sizes do not fit its dimension. Export it again.")
    if not all(_SIDE.fullmatch(word) and int(word) for word in words):
        raise DataError(f"{source.name} has a damaged header: its sizes are no numbers above 0. Export it again.")
    if not 2 <= len(words) <= 5:
        raise DataError(f"{source.name} has {len(words)} dimensions; images have two to five.")
    return tuple(int(word) for word in words[::-1])


def _dtype(source: SourceFile, fields: Mapping[str, str]) -> np.dtype[Any]:
    said = fields.get("type", "").casefold()
    if said not in _TYPES:
        raise DataError(f"{source.name} holds values of the type {said[:40]!r}; images are numbers. Convert it.")
    dtype = np.dtype(_TYPES[said])
    order = fields.get("endian", "little").casefold()
    if dtype.itemsize > 1 and order not in ("little", "big"):
        raise DataError(f"{source.name} has the byte order {order[:20]!r}; it is little or big. Export it again.")
    return dtype.newbyteorder(">" if order == "big" else "<")


def _axes(fields: Mapping[str, str], shape: tuple[int, ...]) -> tuple[str, bool]:
    """Axes by the kinds of dimensions, slowest first, and whether the file says them."""
    kinds = fields.get("kinds", "").casefold().split()
    if len(kinds) != len(shape):
        return guess_axes(shape), False
    letters, space = [], iter("XYZ")
    for kind in kinds:
        if kind == "time":
            letters.append("T")
        elif kind in _SPACE:
            letters.append(next(space, "?"))
        elif kind in _UNKNOWN:
            letters.append("?")
        else:
            letters.append("S" if not letters else "C")
    axes = "".join(letters[::-1])
    fits = "?" not in axes and len(set(axes)) == len(axes) and {"X", "Y"} <= set(axes)
    return (axes, True) if fits else (guess_axes(shape), False)


def _voxel_size(source: SourceFile, fields: Mapping[str, str], axes: str) -> tuple[VoxelSize, tuple[str, ...]]:
    steps = _steps(fields)
    if len(steps) != len(axes) or not any(steps):
        return (None, None, None), ()
    if "space directions" in fields:
        per_component = _units(fields.get("space units", ""))
        lengths = [_length_nm(step, per_component) for step in steps]
    else:
        per_axis = _units(fields.get("units", fields.get("space units", "")))
        if "units" not in fields:
            # Units of space are given for the dimensions of space only.
            given = iter(per_axis)
            per_axis = [next(given, None) if axis in "XYZ" else None for axis in axes[::-1]]
        lengths = [_length_nm(step, [unit]) for step, unit in zip(steps, [*per_axis, *[None] * 5], strict=False)]
    found = dict(zip(axes[::-1], lengths, strict=True))
    if any(found.get(axis) for axis in "ZYX"):
        return (found.get("Z"), found.get("Y"), found.get("X")), ()
    shown = ", ".join(f"{math.hypot(*step):g}" for step in steps if step)
    note = f"{source.name} gives a voxel size ({shown}) without a unit of length that is known: it is not used."
    return (None, None, None), (note,)


def _steps(fields: Mapping[str, str]) -> list[tuple[float, ...]]:
    """The way to the next number along each dimension, fastest first; empty where there is none."""
    if "space directions" in fields:
        said = [vector[1] or "" for vector in _VECTOR.finditer(fields["space directions"])]
        vectors = [tuple(_number(part) for part in vector.split(",")) for vector in said]
    else:
        vectors = [(_number(word),) for word in fields.get("spacings", "").split()]
    return [tuple(part for part in vector if part is not None) if None not in vector else () for vector in vectors]


def _units(text: str) -> list[float | None]:
    return [nanometres(unit[1] if unit[1] is not None else unit[2]) for unit in _UNIT.finditer(text)]


def _length_nm(step: tuple[float, ...], units: list[float | None]) -> float | None:
    """The length of a step whose components are in these units, of which the zero ones do not matter."""
    if not step or len(units) < len(step):
        return None
    parts = [length * unit for length, unit in zip(step, units, strict=False) if length and unit is not None]
    return length_nm(math.hypot(*parts), 1.0) if len(parts) == sum(length != 0 for length in step) else None


def _number(word: str) -> float | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


@contextmanager
def _stream(source: SourceFile, offset: int, encoding: str) -> Iterator[IO[bytes]]:
    with source.path.open("rb") as file:
        if encoding == "raw":
            yield file
            return
        packed = _Tail(file, offset)
        unpacked: Any = gzip.GzipFile(fileobj=packed) if encoding in ("gzip", "gz") else bz2.BZ2File(packed)
        with unpacked:
            yield unpacked


class _Tail(io.RawIOBase):
    """What follows in a file after an offset, as a file of its own; unpacking starts anew from its start."""

    def __init__(self, file: IO[bytes], offset: int) -> None:
        self._file, self._offset = file, offset
        file.seek(offset)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, place: int, whence: int = 0, /) -> int:
        self._file.seek(place + self._offset if whence == 0 else place, whence)
        return self.tell()

    def tell(self) -> int:
        return self._file.tell() - self._offset
