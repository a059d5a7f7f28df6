"""What every reader offers, and the limits that hold for all of them.

A reader is one module for one family of formats: a function that takes a SourceFile, reads its header only, and
gives an ImageFile. It checks what the file is, not what it is called, and lets no error but DataError out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seglib.errors import DataError

MAX_PLANES = 100_000
MAX_BYTES = 1 << 40
# An empty label plane packs several thousand times, so the ratio only counts where unpacking would hurt.
MAX_RATIO = 2000
HARMLESS_BYTES = 256 << 20

_STARTS = (
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"II+\0", "a TIFF image"),
    (b"MM\0+", "a TIFF image"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"BM", "a BMP image"),
    (b"GIF8", "a GIF image"),
    (b"PK", "a zip file"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF document"),
    (b"\x93NUMPY", "a NumPy array"),
)


@dataclass(frozen=True)
class SourceFile:
    """A file to import.

    path: where its bytes are.
    name: what the user called it, possibly with a folder; for messages, pairing and order only, never a path.
    """

    path: Path
    name: str


class ImageFile(Protocol):
    """An opened file: its header is known, its planes are read on demand.

    shape_czyx: channels, planes, rows, columns; a 2D image has Z = 1. Alpha is not a channel.
    dtype: of what `read_planes` gives: native byte order, never bool.
    lossy: the file's compression changes values, so it cannot hold labels.
    notes: what a person should know about how the file was understood.
    """

    @property
    def source(self) -> SourceFile: ...
    @property
    def shape_czyx(self) -> tuple[int, int, int, int]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def lossy(self) -> bool: ...
    @property
    def notes(self) -> tuple[str, ...]: ...

    def read_planes(self, z0: int, z1: int) -> NDArray[Any]:
        """Planes z0 … z1 − 1 as (C, z1 − z0, Y, X). Raises DataError where the data are damaged."""
        ...


def check_claim(name: str, shape_czyx: tuple[int, int, int, int], dtype: np.dtype[Any], file_bytes: int) -> None:
    """Raises DataError where a header claims nothing, or more than is sane for a file of `file_bytes` bytes."""
    c, z, y, x = shape_czyx
    claimed = c * z * y * x * dtype.itemsize
    if claimed == 0:
        raise DataError(f"{name} holds no pixels ({z} planes of {y} × {x}). Save it again.")
    if z > MAX_PLANES:
        raise DataError(f"{name} claims {z:,} planes; at most {MAX_PLANES:,} can be imported. Split it.")
    if claimed > MAX_BYTES:
        raise DataError(f"{name} claims {claimed / 2**40:,.1f} TiB of pixels; at most 1 TiB can be imported. Split it.")
    if claimed > HARMLESS_BYTES and claimed > MAX_RATIO * file_bytes:
        raise DataError(
            f"{name} is {file_bytes:,} bytes but claims {claimed:,} bytes of pixels. "
            "It is damaged or made to do harm; save it again, without compression, if you trust it."
        )


def describe_content(path: Path) -> str:
    """What a file is by its first bytes, in words that fit after “it is”."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "empty (0 bytes)"
    for magic, what in _STARTS:
        if start.startswith(magic):
            return what
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in start)
    return "a text file" if printable > 0.95 * len(start) else "of a kind that is not known here"


def wrong_content(source: SourceFile, expected: str) -> DataError:
    """The error for a file whose content is not what its name says; `expected` like "a TIFF image"."""
    try:
        found = describe_content(source.path)
    except OSError as error:
        return unreadable(source, error)
    return DataError(f"{source.name} is not {expected}, although its name says so: it is {found}. Export it again.")


def unreadable(source: SourceFile, error: OSError) -> DataError:
    """The error for a file the system does not let us read."""
    return DataError(f"{source.name} cannot be read ({error.strerror or error}). Check that it is there and readable.")
