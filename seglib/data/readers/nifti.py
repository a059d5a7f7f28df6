"""NIfTI: .nii and .nii.gz. The header is nibabel's to understand, the numbers are read slice by slice."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from seglib.data.readers.base import (
    ImageFile,
    Read,
    SourceFile,
    Window,
    check_claim,
    plain_dtype,
    size_text,
    unreadable,
    wrong_content,
)
from seglib.data.readers.raw import RawBlock
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
_RGB = (128, 2304)
VoxelSizeFound = tuple[float | None, float | None, float | None]


def open_nifti(source: SourceFile) -> ImageFile:
    """Opens a NIfTI file; only the header is read. The first stored dimension is x, so arrays are (Z, Y, X).

    Raises DataError where it is none, is half of a .hdr/.img pair, or holds complex numbers.
    """
    header = _header(source)
    dtype, samples = _dtype(source, header)
    sides = [int(side) for side in header["dim"][1 : 1 + min(7, max(0, int(header["dim"][0])))]]
    while len(sides) > 2 and sides[-1] == 1:
        sides.pop()
    if not 2 <= len(sides) <= 5 or min(sides) < 1:
        raise DataError(f"{source.name} has the size {size_text(tuple(sides))}; images have two to five dimensions.")
    shape = (*sides[::-1], *([samples] if samples > 1 else []))
    # In NIfTI's order: x, y, z, time, and whatever a fifth dimension holds.
    axes = "XYZTC"[: len(sides)][::-1] + ("S" if samples > 1 else "")
    try:
        packed = source.path.stat().st_size
    except OSError as error:
        raise unreadable(source, error) from error
    check_claim(source.name, shape, dtype, packed)
    offset = _offset(source, header)
    if not _is_packed(source) and offset + math.prod(shape) * dtype.itemsize > packed:
        raise DataError(f"{source.name} is cut off: it ends inside the data. Copy or export it again.")
    block = RawBlock(source, lambda: _stream(source), offset, shape, dtype, plain_dtype(source.name, dtype))
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
    return _scaled(image, header)


def _header(source: SourceFile) -> Any:
    try:
        with _stream(source) as stream:
            start = stream.read(4)
            kind = next(
                (k for size, k in _SIZES.items() if start in (struct.pack("<i", size), struct.pack(">i", size))), None
            )
            if kind is None:
                raise wrong_content(source, "a NIfTI image")
            raw = start + stream.read(536)
        header = kind(raw[: kind.template_dtype.itemsize], check=False)
    except DataError:
        raise
    except OSError as error:
        if error.errno:
            raise unreadable(source, error) from error
        raise wrong_content(source, "a NIfTI image") from error
    except _FOREIGN as error:
        raise wrong_content(source, "a NIfTI image") from error
    magic = bytes(header["magic"])[:3]
    if magic in (b"ni1", b"ni2"):
        raise DataError(f"{source.name} keeps its numbers in another file. Save it as one file, .nii or .nii.gz.")
    if magic not in (b"n+1", b"n+2"):
        raise wrong_content(source, "a NIfTI image")
    return header


def _dtype(source: SourceFile, header: Any) -> tuple[np.dtype[Any], int]:
    """The dtype of a number in the file, and how many make a voxel."""
    code = int(header["datatype"])
    if code in _RGB:
        return np.dtype(np.uint8), 3 if code == _RGB[0] else 4
    try:
        dtype = np.dtype(header.get_data_dtype())
    except _FOREIGN as error:
        raise DataError(f"{source.name} holds values of an unknown kind ({code}). Convert it.") from error
    plain_dtype(source.name, dtype)
    return dtype, 1


def _offset(source: SourceFile, header: Any) -> int:
    offset = float(header["vox_offset"])
    if not 0 <= offset < 2**40 or offset != int(offset):
        raise DataError(
            f"{source.name} has a damaged header: its data would start at byte {offset:g}. Export it again."
        )
    return max(int(offset), int(header.template_dtype.itemsize))


def _voxel_size(
    source: SourceFile, header: Any
) -> tuple[tuple[float | None, float | None, float | None], tuple[str, ...]]:
    try:
        unit = header.get_xyzt_units()[0]
    except _FOREIGN:
        unit = "unknown"
    notes = () if unit in _UNITS_NM else (f"{source.name} names no unit of length: millimetres, as is usual.",)
    nm = _UNITS_NM.get(unit, 1e6)
    x, y, z = (abs(float(size)) * nm for size in header["pixdim"][1:4])

    def known(size: float) -> float | None:
        return size if math.isfinite(size) and size > 0 else None

    return (known(z), known(y), known(x)), notes


def _scaled(image: ImageFile, header: Any) -> ImageFile:
    """The image with the header's scaling applied, where there is one."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not (math.isfinite(slope) and math.isfinite(inter)) or slope == 0 or (slope, inter) == (1.0, 0.0):
        return image

    @contextmanager
    def opened() -> Iterator[Read]:
        with image.opened() as read:

            def scaled(window: Window) -> Any:
                return read(window).astype(np.float32) * np.float32(slope) + np.float32(inter)

            yield scaled

    note = f"{image.source.name}: its values are scaled by {slope:g} and shifted by {inter:g}, as its header says."
    return replace(image, dtype=np.dtype(np.float32), opened=opened, notes=(*image.notes, note))


def _is_packed(source: SourceFile) -> bool:
    with source.path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def _stream(source: SourceFile) -> Iterator[IO[bytes]]:
    if _is_packed(source):
        with gzip.open(source.path) as packed:
            yield packed  # type: ignore[misc]
    else:
        with source.path.open("rb") as file:
            yield file
