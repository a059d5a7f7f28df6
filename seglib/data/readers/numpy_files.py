"""NumPy's .npy and .npz. Nothing is unpickled, and what a header claims is checked before anything is allocated."""

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any

import numpy as np

from seglib.data.readers.base import (
    ImageFile,
    Member,
    SourceFile,
    check_claim,
    describe_content,
    guess_axes,
    plain_dtype,
    unreadable,
    wrong_content,
)
from seglib.data.readers.members import pick_member
from seglib.data.readers.raw import RawBlock
from seglib.errors import DataError

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 64 << 10
_MAX_MEMBERS = 10_000
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
# A header is a Python dictionary, but Python's own parser is not made for text that others wrote.
_FIELD = re.compile(r"""['"](\w+)['"]\s*:\s*(?:['"]([^'"]*)['"]|(True|False)|\(([^()]*)\))""")
# NumPy on Python 2 wrote whole numbers as 5L.
_SIDE = re.compile(r"\s*([0-9]{1,30})L?\s*")
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_FOREIGN = (
    zipfile.BadZipFile,
    RuntimeError,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
)

Opener = Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass(frozen=True)
class _Header:
    """shape: slowest dimension first. turned: in Fortran order, so that the dimensions are in reverse."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    turned: bool


def open_npy(source: SourceFile) -> ImageFile:
    """Opens a .npy file; only the header is read.

    Raises DataError where it is none, holds objects or other things than numbers, or is shorter than it claims.
    """
    try:
        with source.path.open("rb") as stream:
            header = _read_header(source, stream)
        size = source.path.stat().st_size
    except OSError as error:
        raise unreadable(source, error) from error
    return _image(source, header, payload=size - header.offset, packed=size, opener=lambda: source.path.open("rb"))


def open_npz(source: SourceFile) -> ImageFile:
    """Opens one array of a .npz file, the one named by source.member or the first likely one.

    Raises DataError where it is no such archive, has a password, or holds no array of numbers.
    """
    try:
        size = source.path.stat().st_size
        with zipfile.ZipFile(source.path) as archive:
            headers = dict(_headers(source, archive))
    except _FOREIGN as error:
        raise _no_archive(source, error) from error
    except OSError as error:
        raise unreadable(source, error) from error
    if not headers:
        raise DataError(
            f"{source.name} holds no array of numbers with 2 to 5 dimensions. "
            "Save the image with numpy.savez(path, image=array)."
        )
    members = [Member(name, header.shape, str(header.dtype)) for name, (_, header) in headers.items()]
    info, header = headers[pick_member(source, members)]
    opener = partial(_open_member, source, info.filename)
    # The archive says itself how long a packed array is, so that is no more to be believed than its shape.
    packed = min(info.compress_size, size)
    image = _image(source, header, payload=info.file_size - header.offset, packed=packed, opener=opener)
    return replace(image, members=tuple(members) if len(members) > 1 else ())


def _image(source: SourceFile, header: _Header, *, payload: int, packed: int, opener: Opener) -> ImageFile:
    dtype = plain_dtype(source.name, header.dtype.newbyteorder("="))
    check_claim(source.name, header.shape, header.dtype, max(packed, 1))
    if math.prod(header.shape) * header.dtype.itemsize > payload:
        raise DataError(f"{source.name} is cut off: its header claims more than it holds. Copy or export it again.")
    axes = guess_axes(header.shape[::-1])[::-1] if header.turned else guess_axes(header.shape)
    block = RawBlock(source, opener, header.offset, header.shape, header.dtype, dtype)
    return ImageFile(
        source=source,
        shape=header.shape,
        axes=axes,
        axes_known=False,
        dtype=dtype,
        opened=block.opened,
        chunks=block.chunks,
    )


def _read_header(source: SourceFile, stream: IO[bytes]) -> _Header:
    start = stream.read(8)
    if start[:6] != _MAGIC or len(start) < 8:
        raise wrong_content(source, "a NumPy array")
    count = {1: 2, 2: 4, 3: 4}.get(start[6])
    if count is None:
        raise DataError(f"{source.name} is of an unknown version of the .npy format. Save it again with numpy.save.")
    length = int.from_bytes(stream.read(count), "little")
    if length > _MAX_HEADER:
        raise DataError(f"{source.name} has a header of {length:,} bytes, which no array needs. Save it again.")
    dtype, shape, turned = _fields(source, stream.read(length).decode("latin-1"))
    return _Header(8 + count + length, shape[::-1] if turned else shape, dtype, turned)


def _fields(source: SourceFile, text: str) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """The dtype, the shape, and whether it is in Fortran order."""
    found = {field[1]: field[2] or field[3] or field[4] or "" for field in _FIELD.finditer(text)}
    if "descr" not in text or found.get("fortran_order") not in ("True", "False"):
        raise DataError(f"{source.name} has a damaged header. Save it again with numpy.save.")
    described = found.get("descr", "mixed")
    if not _DTYPE.fullmatch(described):
        raise DataError(f"{source.name} holds {described[:40]!r} values; images are whole or real numbers. Convert it.")
    sides = [_SIDE.fullmatch(side) for side in found.get("shape", "?").strip().removesuffix(",").split(",")]
    shape = tuple(int(side[1]) for side in sides if side)
    if len(shape) < len(sides):
        raise DataError(f"{source.name} has a damaged header: what it gives is no shape. Save it again.")
    if not 2 <= len(shape) <= 5:
        raise DataError(f"{source.name} has {len(shape)} dimensions; images have two to five.")
    return np.dtype(described), shape, found["fortran_order"] == "True"


def _headers(source: SourceFile, archive: zipfile.ZipFile) -> Iterator[tuple[str, tuple[zipfile.ZipInfo, _Header]]]:
    """The arrays of numbers in an archive, by name; what is of no use is passed over."""
    infos = archive.infolist()
    if len(infos) > _MAX_MEMBERS:
        raise DataError(f"{source.name} holds {len(infos):,} arrays; at most {_MAX_MEMBERS:,} can be looked through.")
    for info in infos:
        if not info.filename.endswith(".npy") or info.compress_type not in _PACKINGS:
            continue
        if info.flag_bits & 1:
            raise DataError(f"{source.name} is protected by a password. Save it again without one.")
        try:
            with archive.open(info) as stream:
                header = _read_header(source, stream)
        except DataError:
            continue
        yield info.filename.removesuffix(".npy"), (info, header)


@contextmanager
def _open_member(source: SourceFile, name: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(source.path) as archive, archive.open(name) as stream:
        yield stream


def _no_archive(source: SourceFile, error: Exception) -> DataError:
    try:
        found = describe_content(source.path)
    except OSError as unread:
        return unreadable(source, unread)
    if found != "a zip file":
        return wrong_content(source, "an archive of NumPy arrays")
    detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return DataError(f"{source.name} is cut off or damaged ({detail}). Copy or save it again.")
