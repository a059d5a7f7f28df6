"""The pages of a TIFF: their list, what their headers say, and reading their pixels. Nothing in a header is trusted."""

import contextlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from seglib.data.readers.base import MAX_PLANES, SourceFile, check_claim, size_text, unreadable, wrong_content
from seglib.errors import DataError

# What tifffile and imagecodecs raise on damaged files; imagecodecs' own errors are RuntimeErrors.
_FOREIGN = (
    ValueError,
    RuntimeError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    AssertionError,
    ImportError,
    MemoryError,
    struct.error,
)
LOSSY = {6, 7, 34892, 33003, 33004, 33005, 34712}  # JPEG, JPEG 2000
_JPEG = {6, 7, 34892}
_LOSSLESS = {1, 5, 8, 32773, 32946, 34925, 50000, 34926}  # none, LZW, deflate, PackBits, deflate, LZMA, Zstd, Zstd
_ALPHA = {1, 2}
_REDUCED = 0b101  # a thumbnail, or a mask
_MAX_TAGS = 4096
_MAX_TAG_BYTES = 64 << 20
# Pages may share what their headers point to, but not so often that reading all headers takes hours.
_MAX_HEADERS = 256 << 20
# Some programs store equal tiles once and point to them often.
_MAX_OVERLAP = 100
# Tags that tifffile reads as soon as it sees the page.
_EAGER = tifffile.TIFF.TAG_LOAD | set(tifffile.TIFF.TAG_ATTRIBUTES) | {255, 50838, 50839}
_TAG_BYTES = (1, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 2, 8, 8, 8, 8)


@dataclass(frozen=True)
class Page:
    """What the header of a page says.

    number: of the page in the file, from 0. directory: where its header is.
    layout: (separate samples, rows, columns, interleaved samples), as stored. samples: of a pixel, without alpha.
    data: where its pixels lie in one run, as they are but for byte order; -1 where they must be decoded.
    """

    number: int
    directory: int
    layout: tuple[int, int, int, int]
    samples: int
    dtype: np.dtype[Any]
    data: int
    lossy: bool

    @property
    def byte_count(self) -> int:
        """Bytes of its pixels, unpacked."""
        return math.prod(self.layout) * self.dtype.itemsize

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns, and samples where there are several."""
        return (*self.layout[1:3], self.samples) if self.samples > 1 else self.layout[1:3]

    def __str__(self) -> str:
        channels = f" with {self.samples} channels" if self.samples > 1 else ""
        return f"{size_text(self.layout[1:3])} {self.dtype}{channels}"


def page_directories(source: SourceFile) -> tuple[int, ...]:
    """Where the headers of all pages are, by walking their chain; tifffile would follow a circle for hours.

    Raises DataError where the file is not a TIFF, is cut off, or claims headers that are not sane.
    """
    try:
        file_bytes = source.path.stat().st_size
        with source.path.open("rb") as file:
            return _walk(source, file, file_bytes)
    except OSError as error:
        raise unreadable(source, error) from error


@contextlib.contextmanager
def opened_tiff(source: SourceFile) -> Iterator[tifffile.TiffFile]:
    """The file as tifffile sees it, but never with the other files that it names as its parts."""
    with contextlib.ExitStack() as stack:
        with damage(source, 0):
            # The first three follow names; the others read all pages, or look into strips, before anything is checked.
            tif = stack.enter_context(
                tifffile.TiffFile(
                    Path(source.path),
                    is_ome=False,
                    is_mmstack=False,
                    is_ndtiff=False,
                    is_lsm=False,
                    is_scanimage=False,
                    is_ndpi=False,
                )
            )
        yield tif


@contextlib.contextmanager
def damage(source: SourceFile, number: int) -> Iterator[None]:
    """Turns what tifffile and its codecs raise on page `number` into a DataError with the file's name."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise unreadable(source, error) from error
    except _FOREIGN as error:
        # The codecs' words help; a TypeError deep inside a parser does not.
        told = isinstance(error, (ValueError, RuntimeError)) and str(error)
        detail = f" ({str(error).splitlines()[0][:120]})" if told else ""
        raise DataError(f"{source.name} is damaged in page {number + 1}{detail}. Copy or export it again.") from error


def cut_off(source: SourceFile) -> DataError:
    """The error for a file that ends before its data do."""
    size = source.path.stat().st_size
    return DataError(
        f"{source.name} is cut off: it ends after {size:,} bytes, inside the data. Copy or export it again."
    )


def raw_page(tif: tifffile.TiffFile, directory: int, number: int) -> tifffile.TiffPage:
    """A page with all its tags, as tifffile reads it. Call it within `damage`."""
    tif.filehandle.seek(directory)
    return tifffile.TiffPage(tif, number)


def read_headers(
    source: SourceFile, tif: tifffile.TiffFile, numbered: tuple[tuple[int, int], ...], *, keep_reduced: bool = False
) -> tuple[Page, ...]:
    """The pages that are images, all of one kind.

    numbered: (number, directory) of the pages to look at. keep_reduced: take thumbnails and masks for images too.
    Raises DataError where pages are of different kinds, damaged, cut off, or compressed in a way that is not supported.
    """
    file_bytes = source.path.stat().st_size
    pages: list[Page] = []
    for number, directory in numbered:
        with damage(source, number):
            raw = raw_page(tif, directory, number)
            if raw.subfiletype & _REDUCED and not keep_reduced:
                continue
            page = _checked(source, raw, number, file_bytes)
        if pages and (page.layout, page.samples, page.dtype) != (pages[0].layout, pages[0].samples, pages[0].dtype):
            raise DataError(
                f"{source.name} has pages of different kinds: page {number + 1} is {page}, "
                f"page {pages[0].number + 1} is {pages[0]}. Save each kind as a file of its own."
            )
        pages.append(page)
    if not pages:
        raise DataError(f"{source.name} holds only thumbnails or masks. Export it again.")
    return tuple(pages)


def decode_page(
    source: SourceFile, tif: tifffile.TiffFile, page: Page, within: tuple[slice, slice, slice], target: NDArray[Any]
) -> None:
    """Fills `target` (rows, columns, samples) with what is `within` a page, by unpacking the strips or tiles it needs.

    Raises DataError where they are damaged.
    """
    separate, height, width, _ = page.layout
    rows, columns, samples = within
    with damage(source, page.number):
        raw = raw_page(tif, page.directory, page.number)
        strip = (raw.tilelength, raw.tilewidth) if raw.is_tiled else (raw.rowsperstrip, width)
        down, across = math.ceil(height / strip[0]), math.ceil(width / strip[1])
        for sample, row, column in np.ndindex(separate, down, across):
            top, left = row * strip[0], column * strip[1]
            y0, y1 = max(top, rows.start), min(top + strip[0], rows.stop)
            x0, x1 = max(left, columns.start), min(left + strip[1], columns.stop)
            if y0 >= y1 or x0 >= x1 or (separate > 1 and not samples.start <= sample < samples.stop):
                continue
            pixels = _segment(source, tif, raw, (sample * down + row) * across + column, strip)
            pixels = pixels[y0 - top : y1 - top, x0 - left : x1 - left]
            part = target[y0 - rows.start : y1 - rows.start, x0 - columns.start : x1 - columns.start]
            if separate > 1:
                part[..., sample - samples.start] = pixels[..., 0]
            else:
                part[...] = pixels[..., samples]


def _walk(source: SourceFile, file: BinaryIO, file_bytes: int) -> tuple[int, ...]:
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    version = struct.unpack(f"{order}H", start[2:4])[0] if order and len(start) == 16 else 0
    if version == 42:
        (offset,), formats = struct.unpack(f"{order}I", start[4:8]), (f"{order}H", f"{order}HHI4s", f"{order}I")
    elif version == 43:
        (offset,), formats = struct.unpack(f"{order}Q", start[8:16]), (f"{order}Q", f"{order}HHQ8s", f"{order}Q")
    else:
        raise wrong_content(source, "a TIFF image")
    found: dict[int, None] = {}
    header_bytes = 0
    while offset:
        if offset in found:
            raise DataError(f"{source.name} is damaged: its list of planes runs in a circle. Export it again.")
        if len(found) == MAX_PLANES:
            raise DataError(f"{source.name} has more than {MAX_PLANES:,} planes. Split it.")
        found[offset] = None
        offset, size = _next_directory(source, file, offset, formats)
        header_bytes += size
        if header_bytes > _MAX_HEADERS + 4 * file_bytes:
            raise DataError(f"{source.name} is damaged: its headers claim more bytes than it has. Export it again.")
    if not found:
        raise DataError(f"{source.name} is a TIFF without any image. Export it again.")
    return tuple(found)


def _next_directory(source: SourceFile, file: BinaryIO, offset: int, formats: tuple[str, str, str]) -> tuple[int, int]:
    """Where the directory after this one is (0: there is none), and how many bytes this one and its values are."""
    count_format, tag_format, next_format = formats
    tag_bytes = struct.calcsize(tag_format)
    try:
        file.seek(offset)
        (tags,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
        if tags > _MAX_TAGS:
            raise DataError(f"{source.name} is damaged: a plane claims {tags:,} header entries. Export it again.")
        entries = list(struct.iter_unpack(tag_format, file.read(tags * tag_bytes)))
        (following,) = struct.unpack(next_format, file.read(struct.calcsize(next_format)))
    except (struct.error, ValueError, OSError) as error:  # ValueError: an offset beyond what a file can have
        if isinstance(error, DataError):
            raise
        raise cut_off(source) from error
    sizes = [
        count * (_TAG_BYTES[kind] if kind < len(_TAG_BYTES) else 0)
        for code, kind, count, _ in entries
        if code in _EAGER
    ]
    largest = max(sizes, default=0)
    if largest > _MAX_TAG_BYTES:
        raise DataError(
            f"{source.name} is damaged: a header entry claims {largest:,} bytes; {_MAX_TAG_BYTES:,} can be read. "
            "Export it again."
        )
    return int(following), tags * tag_bytes + sum(sizes)


def _checked(source: SourceFile, raw: tifffile.TiffPage, number: int, file_bytes: int) -> Page:
    compression = int(raw.compression)
    if compression not in _LOSSLESS | LOSSY:
        raise DataError(
            f"{source.name} uses TIFF compression {compression}, which is not supported. "
            "Save it uncompressed, or with LZW, deflate or Zstandard."
        )
    separate, depth, rows, columns, interleaved = (int(side) for side in raw.shaped)
    if raw.dtype is None or 0 in raw.shaped:
        raise DataError(f"{source.name} has no readable pixels in page {number + 1}. Save it again.")
    if depth != 1 or (raw.is_tiled and raw.tiledepth != 1):
        raise DataError(f"{source.name} is a volumetric TIFF (several planes in a page). Save it with a page a plane.")
    dtype = np.dtype(raw.dtype)
    check_claim(source.name, (rows, columns, separate * interleaved), dtype, file_bytes)
    _check_extent(source, raw, number, file_bytes)
    samples = separate * interleaved
    has_alpha = samples > 1 and any(int(extra) in _ALPHA for extra in raw.extrasamples)
    as_is = raw.is_final and raw.nbytes == math.prod(raw.shaped) * dtype.itemsize
    return Page(
        number=number,
        directory=raw.offset,
        layout=(separate, rows, columns, interleaved),
        samples=samples - 1 if has_alpha else samples,
        dtype=dtype,
        data=int(raw.dataoffsets[0]) if as_is else -1,
        lossy=compression in LOSSY,
    )


def _check_extent(source: SourceFile, raw: tifffile.TiffPage, number: int, file_bytes: int) -> None:
    """Raises DataError where strips or tiles are missing or lie beyond the end of the file."""
    if raw.is_tiled and not (raw.tilelength and raw.tilewidth):
        raise DataError(f"{source.name} is damaged: page {number + 1} has tiles without size. Export it again.")
    if raw.is_contiguous:
        packed, ends = 0, [raw.dataoffsets[0] + raw.nbytes]
        whole = raw.dataoffsets[0] > 0
    else:
        segments = zip(raw.dataoffsets, raw.databytecounts, strict=False)
        packed, ends = sum(raw.databytecounts), [offset + count for offset, count in segments if offset and count]
        whole = len(ends) == math.prod(raw.chunked)
    if not whole:
        raise DataError(f"{source.name} has holes: parts of page {number + 1} were never written. Export it again.")
    if max(ends) > file_bytes:
        raise cut_off(source)
    if packed > _MAX_OVERLAP * file_bytes:
        raise DataError(
            f"{source.name} is damaged: page {number + 1} claims {packed:,} bytes of {file_bytes:,}. Export it again."
        )


def _segment(
    source: SourceFile, tif: tifffile.TiffFile, raw: tifffile.TiffPage, index: int, strip: tuple[int, int]
) -> NDArray[Any]:
    """A strip or tile as (rows, columns, samples)."""
    tif.filehandle.seek(raw.dataoffsets[index])
    data = tif.filehandle.read(raw.databytecounts[index])
    compression = int(raw.compression)
    if compression in LOSSY:
        coded = _coded_pixels(data, compression)
        # A decoder takes memory for what the strip's own header claims. JPEG fills up to blocks of 16.
        if coded > 4 * (strip[0] + 16) * (strip[1] + 16):
            raise DataError(
                f"{source.name} is damaged in page {raw.index + 1}: a tile of {size_text(strip)} pixels "
                f"claims {coded:,}. Export it again."
            )
    pixels, _, _ = raw.decode(data, index, jpegtables=raw.jpegtables)
    if pixels is None:
        raise ValueError("a strip without pixels")
    return pixels[0]


def _coded_pixels(data: bytes, compression: int) -> int:
    """How many pixels a JPEG or JPEG 2000 stream says it has. Raises ValueError or struct.error for other bytes."""
    if compression in _JPEG:
        _, rows, columns, _ = tifffile.tifffile.jpeg_shape(data)
        return rows * columns
    start = data.index(b"\xff\x4f\xff\x51")
    right, bottom, left, top = struct.unpack(">4I", data[start + 8 : start + 24])
    return max(right - left, 0) * max(bottom - top, 0)
