"""NRRD in one file: a text header, an empty line, and the numbers, plain or packed with gzip or bzip2."""

import bz2
import gzip
import io
import math
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
    size_text,
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
_SPACE = ("domain", "space", "none", "???")


def open_nrrd(source: SourceFile) -> ImageFile:
    """Opens an NRRD file; only the header is read. The first stored dimension is the fastest.

    Raises DataError where it is none, keeps its numbers in another file, or in a form that is not supported.
    """
    fields, offset = _read_header(source)
    if "data file" in fields or "datafile" in fields:
        raise DataError(f"{source.name} keeps its numbers in another file. Save it as one file, .nrrd.")
    encoding = fields.get("encoding", "raw").casefold()
    if encoding not in _ENCODINGS:
        raise DataError(f"{source.name} has the encoding {encoding[:20]!r}; save it as raw or gzip.")
    if any(fields.get(name, "0") != "0" for name in ("line skip", "lineskip", "byte skip", "byteskip")):
        raise DataError(f"{source.name} leaves out bytes before its data, which is not supported. Save it again.")
    shape = _shape(source, fields)
    stored = _dtype(source, fields)
    size = source.path.stat().st_size
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


def _read_header(source: SourceFile) -> tuple[dict[str, str], int]:
    """The fields, names in lower case, and where the data start."""
    try:
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
    return fields, end + length


def _shape(source: SourceFile, fields: Mapping[str, str]) -> tuple[int, ...]:
    try:
        sizes = tuple(int(side) for side in fields["sizes"].split())
    except (KeyError, ValueError) as error:
        raise DataError(f"{source.name} has a damaged header: it gives no sizes. Export it again.") from error
    if not 2 <= len(sizes) <= 5 or min(sizes) < 1:
        raise DataError(f"{source.name} has the size {size_text(sizes)[:60]}; images have two to five dimensions.")
    return sizes[::-1]


def _dtype(source: SourceFile, fields: Mapping[str, str]) -> np.dtype[Any]:
    said = fields.get("type", "").casefold()
    if said not in _TYPES:
        raise DataError(f"{source.name} holds values of the type {said[:40]!r}; images are numbers. Convert it.")
    order = {"little": "<", "big": ">"}.get(fields.get("endian", "little").casefold(), "<")
    return np.dtype(order + _TYPES[said])


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
        else:
            letters.append("S" if not letters else "C")
    axes = "".join(letters[::-1])
    fits = "?" not in axes and len(set(axes)) == len(axes) and {"X", "Y"} <= set(axes)
    return (axes, True) if fits else (guess_axes(shape), False)


def _voxel_size(
    source: SourceFile, fields: Mapping[str, str], axes: str
) -> tuple[tuple[float | None, float | None, float | None], tuple[str, ...]]:
    lengths = _lengths(fields)
    if not lengths or len(lengths) != len(axes):
        return (None, None, None), ()
    units = fields.get("space units", fields.get("units", "")).replace('"', " ").split()
    if not units:
        note = (
            f"{source.name} gives a voxel size without a unit ({', '.join(f'{n:g}' for n in lengths if n)}): not used."
        )
        return (None, None, None), (note,)
    per_axis = dict(zip(axes[::-1], lengths, strict=True))
    # Units are given for each dimension of space, in the order of the file.
    named = dict(zip([a for a in axes[::-1] if a in "XYZ"], [*units, *units[-1:] * 3], strict=False))
    z, y, x = (length_nm(per_axis.get(axis), nanometres(named.get(axis, ""))) for axis in "ZYX")
    return (z, y, x), ()


def _lengths(fields: Mapping[str, str]) -> list[float | None]:
    """The distance of neighbours along each dimension, fastest first; None where there is none."""
    if "space directions" in fields:
        words = fields["space directions"].replace(" ", "").replace(")(", ") (").replace(")none", ") none")
        return [_norm(word) for word in words.replace("none(", "none (").split()]
    return [_number(word) for word in fields.get("spacings", "").split()]


def _norm(word: str) -> float | None:
    parts = [_number(part) for part in word.strip("()").split(",")]
    return math.hypot(*[part for part in parts if part is not None]) if all(p is not None for p in parts) else None


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
