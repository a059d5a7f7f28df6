"""TIFF: pages are planes, samples are channels. File names written inside the file are never followed."""

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from seglib.data.readers.base import MAX_PLANES, SourceFile, check_claim, unreadable, wrong_content
from seglib.errors import DataError

# What tifffile and imagecodecs raise on damaged files; imagecodecs' own errors are RuntimeErrors.
_FOREIGN = (
    ValueError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    ImportError,
    MemoryError,
    struct.error,
)
_LOSSLESS = {1, 5, 8, 32773, 32946, 34925, 50000, 34926}  # none, LZW, deflate, PackBits, deflate, LZMA, Zstd, Zstd
_LOSSY = {6, 7, 34892, 33003, 33004, 33005, 34712, 50001, 34927}  # JPEG, JPEG 2000, WebP
_ALPHA = {1, 2}
_MAX_TAGS = 4096


@dataclass(frozen=True)
class TiffImage:
    """An opened TIFF; see ImageFile.

    directories: file offset of each page's header, in the order plane by plane, channel by channel within a plane.
    pages_a_plane: how many pages make one plane (ImageJ keeps channels as pages), else 1.
    samples: how many samples of each pixel are channels.
    """

    source: SourceFile
    shape_czyx: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    lossy: bool
    notes: tuple[str, ...]
    directories: tuple[int, ...]
    pages_a_plane: int
    samples: int

    def read_planes(self, z0: int, z1: int) -> NDArray[Any]:
        """Planes z0 … z1 − 1 as (C, z1 − z0, Y, X). Raises DataError where the data are damaged."""
        planes = np.empty((self.shape_czyx[0], z1 - z0, *self.shape_czyx[2:]), self.dtype)
        with _opened(self.source) as tif:
            for index in range(z0 * self.pages_a_plane, z1 * self.pages_a_plane):
                z, channel = divmod(index, self.pages_a_plane)
                with _damage(self.source, index):
                    page = _page(tif, self.directories[index], index)
                    pixels = page.asarray(maxworkers=1).reshape(page.shaped)
                    channels_yx = pixels[:, 0].transpose(0, 3, 1, 2).reshape(-1, *pixels.shape[2:4])
                    first = channel * self.samples
                    planes[first : first + self.samples, z - z0] = channels_yx[: self.samples]
        return planes


def open_tiff(source: SourceFile) -> TiffImage:
    """Opens a TIFF; the headers of all pages are read and compared, no pixels.

    Raises DataError where it is not a TIFF, is cut off, has pages of different sizes, or a compression that is not
    supported.
    """
    try:
        directories = _directories(source)
    except OSError as error:
        raise unreadable(source, error) from error
    file_bytes = source.path.stat().st_size
    with _opened(source) as tif:
        first, kept = _headers(source, tif, directories, file_bytes)
        pages_a_plane, notes = _stack_layout(source, first, len(kept))
    samples = _channels(first)
    _, depth, rows, columns, _ = first.shaped
    if depth != 1:
        raise DataError(f"{source.name} is a volumetric TIFF (several planes in a page). Save it with a page a plane.")
    shape = (samples * pages_a_plane, len(kept) // pages_a_plane, rows, columns)
    dtype = _plain_dtype(source, first)
    check_claim(source.name, shape, dtype, file_bytes)
    lossy = int(first.compression) in _LOSSY
    return TiffImage(source, shape, dtype, lossy, notes, kept, pages_a_plane, samples)


def _directories(source: SourceFile) -> tuple[int, ...]:
    """Offsets of the page headers, by walking their chain; tifffile would follow one that bites its tail for hours."""
    with source.path.open("rb") as file:
        start = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(start[:2])
        version = struct.unpack(f"{order}H", start[2:4])[0] if order and len(start) == 16 else 0
        if version == 42:
            (offset,), formats = struct.unpack(f"{order}I", start[4:8]), (f"{order}H", 12, f"{order}I")
        elif version == 43:
            (offset,), formats = struct.unpack(f"{order}Q", start[8:16]), (f"{order}Q", 20, f"{order}Q")
        else:
            raise wrong_content(source, "a TIFF image")
        found: dict[int, None] = {}
        while offset:
            if offset in found:
                raise DataError(f"{source.name} is damaged: its list of planes runs in a circle. Export it again.")
            if len(found) == MAX_PLANES:
                raise DataError(f"{source.name} has more than {MAX_PLANES:,} planes. Split it.")
            found[offset] = None
            offset = _next_directory(source, file, offset, formats)
    if not found:
        raise DataError(f"{source.name} is a TIFF without any image. Export it again.")
    return tuple(found)


def _next_directory(source: SourceFile, file: BinaryIO, offset: int, formats: tuple[str, int, str]) -> int:
    count_format, tag_size, next_format = formats
    try:
        file.seek(offset)
        (tags,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
        file.seek(min(tags, _MAX_TAGS + 1) * tag_size, 1)
        (following,) = struct.unpack(next_format, file.read(struct.calcsize(next_format)))
    except (struct.error, ValueError, OSError) as error:  # ValueError: an offset beyond what a file can have
        raise _cut_off(source) from error
    if tags > _MAX_TAGS:
        raise DataError(f"{source.name} is damaged: a plane claims {tags:,} header entries. Export it again.")
    return int(following)


def _headers(
    source: SourceFile, tif: tifffile.TiffFile, directories: tuple[int, ...], file_bytes: int
) -> tuple[tifffile.TiffPage, tuple[int, ...]]:
    """The first full-size page and the offsets of all full-size pages; thumbnails and masks are left out."""
    first: tifffile.TiffPage | None = None
    kept = []
    for index, offset in enumerate(directories):
        with _damage(source, index):
            page = _page(tif, offset, index)
            if page.subfiletype & 0b101:
                continue
            _check_page(source, page, index, file_bytes)
            first = first or page
            if (page.shaped, page.dtype) != (first.shaped, first.dtype):
                raise DataError(
                    f"{source.name} has pages of different kinds: page {index + 1} is {_page_text(page)}, "
                    f"page 1 is {_page_text(first)}. Save each kind as a file of its own."
                )
            kept.append(offset)
    if first is None:
        raise DataError(f"{source.name} holds only thumbnails or masks. Export it again.")
    return first, tuple(kept)


def _check_page(source: SourceFile, page: tifffile.TiffPage, index: int, file_bytes: int) -> None:
    compression = int(page.compression)
    if compression not in _LOSSLESS | _LOSSY:
        raise DataError(
            f"{source.name} uses TIFF compression {compression}, which is not supported. "
            "Save it uncompressed, or with LZW, deflate or Zstandard."
        )
    if page.dtype is None or 0 in page.shaped:
        raise DataError(f"{source.name} has no readable pixels in page {index + 1}. Save it again.")
    check_claim(source.name, (1, 1, int(np.prod(page.shaped, dtype=object)), 1), page.dtype, file_bytes)
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    if page.is_contiguous:
        ends = [page.dataoffsets[0] + page.nbytes] if page.dataoffsets else []
    else:
        ends = [offset + count for offset, count in segments if offset and count]
    if len(ends) < (1 if page.is_contiguous else len(segments)) or not segments:
        raise DataError(f"{source.name} has holes: parts of page {index + 1} were never written. Export it again.")
    if max(ends) > file_bytes:
        raise _cut_off(source)


def _stack_layout(source: SourceFile, first: tifffile.TiffPage, pages: int) -> tuple[int, tuple[str, ...]]:
    """How many pages make a plane, by what the writing program noted, and what to tell about it."""
    text = first.description
    if "<OME" in text[:2000]:
        return 1, (f"{source.name} has OME metadata, which is not used: every page became a plane.",)
    if first.is_stk or (first.is_shaped and '"truncated": true' in text):
        raise _one_block(source, "more", pages)
    if not text.startswith("ImageJ="):
        return 1, ()
    said = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    counts = {key: int(said[key]) for key in ("images", "channels", "frames") if said.get(key, "").isdecimal()}
    stored = counts.get("images", 1)
    if stored > pages:
        raise _one_block(source, f"{stored:,}", pages)
    frames, channels = counts.get("frames", 1), counts.get("channels", 1)
    notes = (f"{source.name} has {frames} time points; they were imported as planes.",) if frames > 1 else ()
    return (channels if channels > 0 and pages % channels == 0 and pages == stored else 1), notes


def _one_block(source: SourceFile, said: str, pages: int) -> DataError:
    # ImageJ keeps stacks above 4 GB as one block behind the only page; MetaMorph does so always.
    return DataError(
        f"{source.name} says it holds {said} planes but lists {pages:,}. Open it in Fiji and save it as an image "
        "sequence, or with Bio-Formats as BigTIFF."
    )


def _channels(page: tifffile.TiffPage) -> int:
    samples = page.shaped[0] * page.shaped[4]
    has_alpha = samples > 1 and any(int(extra) in _ALPHA for extra in page.extrasamples)
    return int(samples - 1 if has_alpha else samples)


def _plain_dtype(source: SourceFile, page: tifffile.TiffPage) -> np.dtype[Any]:
    dtype = np.dtype(page.dtype)
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind not in "uif":
        raise DataError(f"{source.name} holds {dtype} numbers; images are whole or real numbers. Convert it.")
    return dtype


def _page_text(page: tifffile.TiffPage) -> str:
    rows, columns = page.shaped[2:4]
    channels = _channels(page)
    return f"{rows} × {columns} {page.dtype}" + (f" with {channels} channels" if channels > 1 else "")


def _page(tif: tifffile.TiffFile, offset: int, index: int) -> tifffile.TiffPage:
    tif.filehandle.seek(offset)
    return tifffile.TiffPage(tif, index)


@contextlib.contextmanager
def _opened(source: SourceFile) -> Iterator[tifffile.TiffFile]:
    try:
        # A file may name others as its parts (OME, Micro-Manager, NDTiff); those would be read from the server.
        tif = tifffile.TiffFile(Path(source.path), is_ome=False, is_mmstack=False, is_ndtiff=False)
    except OSError as error:
        raise unreadable(source, error) from error
    except _FOREIGN as error:
        raise _damaged(source, 0, error) from error
    with tif:
        yield tif


@contextlib.contextmanager
def _damage(source: SourceFile, index: int) -> Iterator[None]:
    """Turns what tifffile and its codecs raise into a DataError with the file's name."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise unreadable(source, error) from error
    except _FOREIGN as error:
        raise _damaged(source, index, error) from error


def _damaged(source: SourceFile, index: int, error: Exception) -> DataError:
    # The codecs' words help; a TypeError deep inside a parser does not.
    told = isinstance(error, (ValueError, RuntimeError)) and str(error)
    detail = f" ({str(error).splitlines()[0][:120]})" if told else ""
    return DataError(f"{source.name} is damaged in page {index + 1}{detail}. Copy or export it again.")


def _cut_off(source: SourceFile) -> DataError:
    size = source.path.stat().st_size
    return DataError(
        f"{source.name} is cut off: it ends after {size:,} bytes, inside the data. Copy or export it again."
    )
