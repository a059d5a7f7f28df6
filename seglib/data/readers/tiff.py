"""TIFF: pages are planes, or whatever OME, ImageJ or tifffile noted. File names inside the file are never followed."""

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from seglib.data.readers.base import ImageFile, Member, Read, SourceFile, Window, check_claim, plain_dtype
from seglib.data.readers.ome import NotUsable, OmeImage, choose_image, is_ome, read_ome
from seglib.data.readers.tiff_layout import Layout, describe_pages, plain_layout
from seglib.data.readers.tiff_pages import (
    Page,
    cut_off,
    damage,
    decode_page,
    opened_tiff,
    page_directories,
    raw_page,
    read_headers,
)
from seglib.errors import DataError

_WHITE_IS_ZERO, _PALETTE = 0, 3


@dataclass(frozen=True)
class _Planes:
    """Pages in the order of the array that they make.

    byte_order: of the file. data: where the pixels of each plane lie as they are; -1 where they must be decoded.
    pages: the page of each plane. shape: of the array. inner: how many of its dimensions are within a page.
    dtype: of the array.
    """

    source: SourceFile
    byte_order: str
    pages: tuple[Page, ...]
    data: NDArray[np.int64]
    shape: tuple[int, ...]
    inner: int
    dtype: np.dtype[Any]

    @property
    def stored(self) -> np.dtype[Any]:
        """What the bytes in the file are."""
        return self.pages[0].dtype.newbyteorder(self.byte_order)  # type: ignore[arg-type]


def open_tiff(source: SourceFile) -> ImageFile:
    """Opens a TIFF; the headers of all pages are read and compared, no pixels.

    Stored as (…, Y, X) or, for several samples a pixel, (…, Y, X, S); alpha is left out. What comes before is what
    OME-XML, ImageJ or tifffile noted, otherwise pages are taken for planes. In OME-TIFF with several images
    `source.member` is one of `members`.
    Raises DataError where it is not a TIFF, is cut off, has pages of different sizes, a compression that is not
    supported, or describes planes that are not in it.
    """
    directories = page_directories(source)
    with opened_tiff(source) as tif:
        with damage(source, 0):
            first = raw_page(tif, directories[0], 0)
        layout, pages, members = _understood(source, tif, first, directories)
        with damage(source, pages[0].number):
            raw = first if pages[0].number == 0 else raw_page(tif, pages[0].directory, pages[0].number)
            colours, notes = _colours(raw), layout.notes
            if int(raw.photometric) == _WHITE_IS_ZERO:
                notes += (f"{source.name} says that 0 is white; its numbers are used as they are.",)
        byte_order = tif.byteorder
    shape = (*layout.counts, *pages[0].shape)
    dtype = plain_dtype(source.name, pages[0].dtype)
    check_claim(source.name, shape, dtype, source.path.stat().st_size)
    starts = [page.data for page in pages]
    if layout.block:
        starts = [pages[0].data + plane * pages[0].byte_count for plane in range(math.prod(layout.counts))]
    inner = len(pages[0].shape)
    planes = _Planes(source, byte_order, pages, np.array(starts, np.int64), shape, inner, dtype)

    @contextlib.contextmanager
    def opened() -> Iterator[Read]:
        with opened_tiff(source) as reading:
            yield lambda window: _read(planes, reading, window)

    return ImageFile(
        source=source,
        shape=shape,
        axes=layout.axes + "YXS"[:inner],
        axes_known=layout.known,
        dtype=dtype,
        opened=opened,
        chunks=(1,) * len(layout.counts) + pages[0].shape,
        lossy=any(page.lossy for page in pages),
        voxel_size_nm=layout.voxel_size_nm,
        channel_names=layout.channel_names,
        colours=colours,
        members=members,
        notes=notes,
    )


def _understood(
    source: SourceFile, tif: tifffile.TiffFile, first: tifffile.TiffPage, directories: tuple[int, ...]
) -> tuple[Layout, tuple[Page, ...], tuple[Member, ...]]:
    """What the file's pages make, those pages in order, and the images there would be to choose from."""
    why_not = ""
    if is_ome(first.description):
        try:
            images = read_ome(source, first.description, len(directories))
            layout, pages = _by_ome(source, tif, choose_image(source, images), directories)
        except NotUsable as reason:
            why_not = f"{source.name} {reason}: its pages were taken as they are."
        else:
            members = tuple(Member(image.name, image.shape, image.dtype) for image in images)
            return layout, pages, members if len(members) > 1 else ()
    if source.member:
        raise DataError(f"{source.name} holds one image, none called {source.member[:100]}.")
    pages = read_headers(source, tif, tuple(enumerate(directories)))
    if why_not:
        return plain_layout(first, pages, why_not), pages, ()
    with damage(source, pages[0].number):
        raw = first if pages[0].number == 0 else raw_page(tif, pages[0].directory, pages[0].number)
        return describe_pages(source, raw, pages), pages, ()


def _by_ome(
    source: SourceFile, tif: tifffile.TiffFile, image: OmeImage, directories: tuple[int, ...]
) -> tuple[Layout, tuple[Page, ...]]:
    used = sorted(set(image.pages.tolist()))
    found = read_headers(source, tif, tuple((number, directories[number]) for number in used), keep_reduced=True)
    pages = dict(zip(used, found, strict=True))
    page, counts, axes = found[0], image.counts, image.axes
    stored = page.layout[0] * page.layout[3]
    if page.layout[1:3] != image.plane or image.samples not in (1, stored):
        raise NotUsable(f"has OME metadata for planes of {image.plane[0]} × {image.plane[1]}, but they are {page}")
    layout = Layout(
        axes=axes,
        counts=counts,
        known=True,
        voxel_size_nm=image.voxel_size_nm,
        channel_names=image.channel_names,
    )
    return layout, tuple(pages[number] for number in image.pages.tolist())


def _colours(raw: tifffile.TiffPage) -> dict[int, str]:
    """What a palette says of the values of 8-bit pixels."""
    table = raw.colormap
    if int(raw.photometric) != _PALETTE or not isinstance(table, np.ndarray) or table.shape != (3, 256):
        return {}
    # Some programs write 8-bit numbers where TIFF wants 16-bit ones.
    rows = (table // (256 if table.max() > 255 else 1)).T.tolist()
    return {value: f"#{red:02x}{green:02x}{blue:02x}" for value, (red, green, blue) in enumerate(rows)}


def _read(planes: _Planes, tif: tifffile.TiffFile, window: Window) -> NDArray[Any]:
    bounds = [part.indices(side)[:2] for part, side in zip(window, planes.shape, strict=True)]
    result = np.empty([max(stop - start, 0) for start, stop in bounds], planes.dtype)
    if not result.size:
        return result
    outer = len(planes.shape) - planes.inner
    places = np.arange(len(planes.data)).reshape(planes.shape[:outer])[tuple(slice(*pair) for pair in bounds[:outer])]
    numbers = places.ravel()
    within = tuple(slice(*pair) for pair in bounds[outer:])
    flat = result.reshape(-1, *result.shape[outer:])
    page = planes.pages[0]
    whole = flat.shape[1:] == planes.shape[outer:]
    as_is = page.layout[0] == 1 and page.samples == page.layout[3] and page.dtype == planes.dtype
    for start, stop in _runs(planes.data[numbers], page.byte_count):
        if whole and as_is and planes.data[numbers[start]] >= 0:
            _read_bytes(planes, tif, int(planes.data[numbers[start]]), flat[start:stop])
            continue
        for place in range(start, stop):
            _read_part(planes, tif, int(numbers[place]), within, flat[place])
    return result


def _runs(data: NDArray[np.int64], byte_count: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of planes that lie one behind the other in the file."""
    breaks = np.flatnonzero(np.diff(data) != byte_count) + 1
    edges = [0, *breaks.tolist(), len(data)]
    yield from itertools.pairwise(edges)


def _read_part(
    planes: _Planes, tif: tifffile.TiffFile, number: int, within: tuple[slice, ...], target: NDArray[Any]
) -> None:
    """Fills `target` with what is within a window of a plane."""
    start = int(planes.data[number])
    page = planes.pages[min(number, len(planes.pages) - 1)]
    rows, columns, samples = (*within, slice(0, 1))[:3]
    target = target.reshape(*target.shape[:2], -1)
    if start < 0:
        decode_page(planes.source, tif, page, (rows, columns, samples), target)
        return
    separate, _, width, interleaved = page.layout
    if separate == 1:
        stored = np.empty((rows.stop - rows.start, width, interleaved), page.dtype)
        _read_bytes(planes, tif, start + rows.start * width * interleaved * page.dtype.itemsize, stored)
    else:
        whole = np.empty(page.layout, page.dtype)
        _read_bytes(planes, tif, start, whole)
        stored = whole[..., 0].transpose(1, 2, 0)[rows]
    target[...] = stored[:, columns, samples]


def _read_bytes(planes: _Planes, tif: tifffile.TiffFile, offset: int, target: NDArray[Any]) -> None:
    """Fills an array, which lies in one piece, with the file's numbers from `offset` on."""
    left = memoryview(target.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    with damage(planes.source, 0):
        tif.filehandle.seek(offset)
        while left:  # the system reads no more than 2 GiB at once
            count = tif.filehandle.readinto(left)  # type: ignore[arg-type]
            if not count:
                raise cut_off(planes.source)
            left = left[count:]
    if not planes.stored.isnative:
        target.byteswap(inplace=True)
