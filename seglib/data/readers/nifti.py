"""NIfTI: .nii and .nii.gz. The header is nibabel's to understand, the numbers are read slice by slice."""

import gzip
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import IO, Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from seglib.data.readers.base import (
    HARMLESS_BYTES,
    ImageFile,
    Read,
    SourceFile,
    Window,
    check_claim,
    describe_content,
    plain_dtype,
    size_text,
    unreadable,
    wrong_content,
)
from seglib.data.readers.raw import RawBlock
from seglib.data.readers.units import length_nm
from seglib.errors import DataError

_SIZES = {348: Nifti1Header, 540: Nifti2Header}
_UNITS_NM = {"meter": 1e9, "mm": 1e6, "micron": 1e3}
_FOREIGN = (
    zlib.error,
    HeaderDataError,
    WrapStructError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
    EOFError,
)
# Codes of colours -> bytes of a voxel: red, green, blue, and opacity.
_COLOURS = {128: 3, 2304: 4}

Opener = Callable[[], AbstractContextManager[IO[bytes]]]
VoxelSize = tuple[float | None, float | None, float | None]


def open_nifti(source: SourceFile) -> ImageFile:
    """Opens a NIfTI file, packed with gzip or not; only the header is read.

    The first dimension of the file is x and the fastest, so arrays are (Z, Y, X), with time before and colours after.
    Raises DataError where it is none, is half of a .hdr/.img pair, holds complex numbers, or is shorter than it claims.
    """
    try:
        size = source.path.stat().st_size
        with source.path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise unreadable(source, error) from error
    opener: Opener = partial(gzip.open, source.path) if packed else partial(source.path.open, "rb")  # type: ignore[assignment]
    header = _header(source, opener)
    stored, samples = _dtype(source, header)
    sides = _sides(source, header)
    shape = (*sides[::-1], samples) if samples > 1 else sides[::-1]
    # In NIfTI's order: x, y, z, time, and whatever a fifth dimension holds.
    axes = "XYZTC"[: len(sides)][::-1] + ("S" if samples > 1 else "")
    check_claim(source.name, shape, stored, size)
    offset = _offset(source, header)
    if not packed and offset + math.prod(shape) * stored.itemsize > size:
        raise DataError(f"{source.name} is cut off: it ends inside the data. Copy or export it again.")
    block = RawBlock(source, opener, offset, shape, stored, plain_dtype(source.name, stored))
    voxel_size, notes = _voxel_size(source, header)
    image = ImageFile(
        source=source,
        shape=shape,
        axes=axes,
        axes_known=True,
        dtype=block.dtype,
        opened=block.opened,
        chunks=block.chunks,
        voxel_size_nm=voxel_size,
        notes=notes,
    )
    # The standard scales numbers, not colours.
    return image if samples > 1 else _scaled(image, header)


def _header(source: SourceFile, opener: Opener) -> Any:
    try:
        with opener() as stream:
            start = stream.read(4)
            kind = next(
                (k for size, k in _SIZES.items() if start in (struct.pack("<i", size), struct.pack(">i", size))), None
            )
            if kind is None:
                raise wrong_content(source, "a NIfTI image")
            raw = start + stream.read(kind.template_dtype.itemsize - 4)
        header = kind(raw, check=False)
    except DataError:
        raise
    except OSError as error:
        # gzip reports damage as an OSError of its own, without a number.
        raise (unreadable(source, error) if error.errno else _damaged(source)) from error
    except _FOREIGN as error:
        raise _damaged(source) from error
    magic = bytes(header["magic"])[:3]
    if magic in (b"ni1", b"ni2"):
        raise DataError(
            f"{source.name} keeps its numbers in another file (.hdr and .img). Save it as one file, .nii or .nii.gz."
        )
    if magic not in (b"n+1", b"n+2"):
        raise wrong_content(source, "a NIfTI image")
    return header


def _damaged(source: SourceFile) -> DataError:
    found = describe_content(source.path)
    return DataError(f"{source.name} is cut off or damaged inside its header (it is {found}). Copy or export it again.")


def _sides(source: SourceFile, header: Any) -> tuple[int, ...]:
    """The length of each dimension, x first, without those of length 1 at the end."""
    count = int(header["dim"][0])
    sides = [int(side) for side in header["dim"][1 : 1 + max(0, count)]]
    while len(sides) > 2 and sides[-1] == 1:
        sides.pop()
    if not (0 < count <= 7 and 2 <= len(sides) <= 5 and min(sides) >= 1):
        raise DataError(f"{source.name} has the size {size_text(tuple(sides))}; images have two to five dimensions.")
    return tuple(sides)


def _dtype(source: SourceFile, header: Any) -> tuple[np.dtype[Any], int]:
    """The dtype of a number in the file, and how many make a voxel."""
    code = int(header["datatype"])
    if code in _COLOURS:
        return np.dtype(np.uint8), _COLOURS[code]
    try:
        dtype = np.dtype(header.get_data_dtype())
    except _FOREIGN as error:
        raise DataError(f"{source.name} holds values of an unknown kind ({code}). Convert it.") from error
    plain_dtype(source.name, dtype)
    return dtype, 1


def _offset(source: SourceFile, header: Any) -> int:
    offset, least = float(header["vox_offset"]), int(header.single_vox_offset)
    # Unpacking as far as a forged offset says could take hours.
    if offset == 0 or (least <= offset <= HARMLESS_BYTES and offset == int(offset)):
        return int(offset) or least
    raise DataError(f"{source.name} has a damaged header: its data would start at byte {offset:g}. Export it again.")


def _voxel_size(source: SourceFile, header: Any) -> tuple[VoxelSize, tuple[str, ...]]:
    try:
        unit = header.get_xyzt_units()[0]
    except _FOREIGN:
        unit = "unknown"
    notes = () if unit in _UNITS_NM else (f"{source.name} names no unit of length: millimetres, as is usual.",)
    nm = _UNITS_NM.get(unit, 1e6)
    sizes = [float(size) for size in header["pixdim"][1:4]]
    said = int(header["dim"][0])
    # What a header says of dimensions that are not there means nothing.
    x, y, z = (length_nm(size, nm) if axis < said else None for axis, size in enumerate(sizes))
    return (z, y, x), notes


def _scaled(image: ImageFile, header: Any) -> ImageFile:
    """The image with the header's scaling applied, where there is one."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not (math.isfinite(slope) and math.isfinite(inter)) or slope == 0 or (slope, inter) == (1.0, 0.0):
        return image

    @contextmanager
    def opened() -> Iterator[Read]:
        with image.opened() as read:

            def scaled(window: Window) -> Any:
                # Values or factors of 64 bits may not fit into 32.
                with np.errstate(over="ignore", invalid="ignore"):
                    return read(window).astype(np.float32) * np.float32(slope) + np.float32(inter)

            yield scaled

    note = f"{image.source.name}: its values are scaled by {slope:g} and shifted by {inter:g}, as its header says."
    return replace(image, dtype=np.dtype(np.float32), opened=opened, notes=(*image.notes, note))
