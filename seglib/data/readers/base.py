"""What every reader offers, and the limits that hold for all of them.

A reader is one module for one family of formats: a function that takes a SourceFile, reads its header only, and
gives an ImageFile. It checks what the file is, not what it is called, and lets no error but DataError out.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.errors import DataError

# Letters of stored dimensions: time, channel, the three of space, and samples of a pixel (red, green, blue).
AXES = "TCZYXS"
MAX_PLANES = 100_000
MAX_SIDE = 1 << 20
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


# One slice with start and stop for every stored dimension.
Window = tuple[slice, ...]
Read = Callable[[Window], NDArray[Any]]


@dataclass(frozen=True)
class SourceFile:
    """A file to import.

    path: where its bytes are; a folder for Zarr.
    name: what the user called it, possibly with a folder; for messages, pairing and order only, never a path.
    member: which array inside, for files that hold several; empty for the one the reader would take.
    """

    path: Path
    name: str
    member: str = ""


@dataclass(frozen=True)
class Member:
    """One of several arrays in a file. name: as SourceFile.member takes it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An opened file: its header is known, its numbers are read on demand.

    shape: as stored, slowest dimension first. axes: a letter of AXES for each, as the file says or as guessed.
    axes_known: whether the file itself says what its dimensions are.
    dtype: of what is read: native byte order, an integer or real number, never bool.
    opened: gives, inside a `with`, a function that reads a window of the stored dimensions. Reading is cheapest from
        front to back. It raises DataError where the data are damaged.
    chunks: the block that is cheapest to read at once, along each stored dimension.
    lossy: the compression changes values, so the file cannot hold labels.
    voxel_size_nm: (z, y, x), None where the file does not say.
    channel_names: one for each channel, or none at all.
    colours: what a colour table says of values, as #rrggbb.
    members: the arrays that could be chosen, where there is a choice.
    notes: what a person should know about how the file was understood.
    """

    source: SourceFile
    shape: tuple[int, ...]
    axes: str
    axes_known: bool
    dtype: np.dtype[Any]
    opened: Callable[[], AbstractContextManager[Read]]
    chunks: tuple[int, ...]
    lossy: bool = False
    voxel_size_nm: tuple[float | None, float | None, float | None] = (None, None, None)
    channel_names: tuple[str, ...] = ()
    colours: Mapping[int, str] = field(default_factory=dict)
    members: tuple[Member, ...] = ()
    notes: tuple[str, ...] = ()


def guess_axes(shape: tuple[int, ...]) -> str:
    """What stored dimensions probably are where a file does not say: space last, few channels first or last.

    Raises DataError for fewer than two or more than five dimensions.
    """
    if len(shape) == 2:
        return "YX"
    if len(shape) == 3:
        return "YXC" if shape[2] in (3, 4) and min(shape[:2]) > 16 else "ZYX"
    if len(shape) == 4:
        return "ZYXC" if shape[3] <= 4 < shape[0] else "CZYX"
    if len(shape) == 5:
        return "TCZYX"
    raise DataError(f"It has {len(shape)} dimensions ({size_text(shape)}); images have two to five.")


def size_text(shape: tuple[int, ...]) -> str:
    """A shape as “20 × 512 × 512”."""
    return " × ".join(map(str, shape))


def check_claim(name: str, shape: tuple[int, ...], dtype: np.dtype[Any], file_bytes: int) -> None:
    """Raises DataError where a header claims nothing, or more than is sane for a file of `file_bytes` bytes."""
    # Python integers: a forged shape may have more voxels than 64 bits count.
    claimed = math.prod(int(side) for side in shape) * dtype.itemsize
    if claimed <= 0:
        raise DataError(f"{name} holds no pixels ({size_text(shape)}). Save it again.")
    if max(shape) > MAX_SIDE:
        raise DataError(f"{name} claims a side of {max(shape):,}; at most {MAX_SIDE:,} can be imported. Split it.")
    if claimed > MAX_BYTES:
        raise DataError(f"{name} claims {claimed / 2**40:,.1f} TiB of pixels; at most 1 TiB can be imported. Split it.")
    if claimed > HARMLESS_BYTES and claimed > MAX_RATIO * file_bytes:
        raise DataError(
            f"{name} is {file_bytes:,} bytes but claims {claimed:,} bytes of pixels. "
            "It is damaged or made to do harm; save it again, without compression, if you trust it."
        )


def plain_dtype(name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that reading gives: native byte order, bool as uint8, half precision as float32.

    Raises DataError for numbers that are neither whole nor real.
    """
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise DataError(f"{name} holds {dtype} values; images are whole or real numbers. Convert it.")
    return np.dtype(np.float32) if dtype.kind == "f" and dtype.itemsize == 2 else dtype.newbyteorder("=")


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
