"""The .json tile list of PyTorch Connectomics: a volume whose planes are cut into many image files.

The text of the list is never used as a format string, and the paths in it are confined to what a person may import.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.data.readers import TILE_LIST, ending_of, open_image
from seglib.data.readers.axes import orient
from seglib.data.readers.base import MAX_PLANES, MAX_SIDE, ImageFile, Read, SourceFile, Window, check_claim, unreadable
from seglib.data.readers.sources import ROOTS_ENVIRONMENT, confined_to, roots_text
from seglib.errors import DataError

MAX_LIST_BYTES = 64 << 20
MAX_TILES = 10_000_000
MAX_RATIO = 64.0
# Above this every n-th tile stands for the others when it is counted which are there.
_LOOKED_AT = 100_000
_PLACE = re.compile(r"\{(row|column)(?::(?:0([0-9]{1,2}))?d)?\}")
_DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")


@dataclass(frozen=True)
class _TileList:
    """What a tile list says.

    patterns: a path for each plane, with {row} and {column}.
    shape: (z, y, x). tile: rows and columns of a tile, once rescaled by `ratio`.
    first: numbers of the first row and column of tiles in the files' names.
    """

    source: SourceFile
    patterns: tuple[str, ...]
    shape: tuple[int, int, int]
    tile: tuple[int, int]
    ratio: float
    first: tuple[int, int]
    dtype: np.dtype[Any]

    @property
    def grid(self) -> tuple[int, int]:
        """How many tiles there are down and across a plane."""
        return math.ceil(self.shape[1] / self.tile[0]), math.ceil(self.shape[2] / self.tile[1])


def open_tiles(source: SourceFile) -> ImageFile:
    """Opens a tile list as one volume (Z, Y, X); tiles are found and decoded when they are read.

    Keys: image (a path for each plane, with {row} and {column}, also as {row:04d}), depth, height, width, tile_size,
    and, where they differ from the usual, tile_ratio (1), tile_st ([0, 0]: numbers of the first row and column) and
    dtype (uint8). Tile (row, column) covers the rows from row × tile_size on. A tile_ratio other than 1 rescales each
    tile by nearest neighbour. Where a file is missing the volume is 0; PyTorch Connectomics makes it 128 in images.
    A tile of three 8-bit samples is a 24-bit number, as VAST writes, where dtype has 32 bits or more.
    Raises DataError where it is no such list, claims more than is sane, leads out of the allowed folders and of its
    own folder, or where no tile is there.
    """
    tiles = _read_list(source)
    locate = _locator(source)
    example, missing, stored_bytes = _look(tiles, locate)
    check_claim(source.name, tiles.shape, tiles.dtype, stored_bytes)
    total = tiles.shape[0] * math.prod(tiles.grid)
    about = "about " if total > _LOOKED_AT else ""
    notes = (f"{source.name}: {about}{missing:,} of {total:,} tiles are missing; the volume is 0 there.",)

    @contextmanager
    def opened() -> Iterator[Read]:
        yield lambda window: _read(tiles, locate, window)

    return ImageFile(
        source=source,
        shape=tiles.shape,
        axes="ZYX",
        axes_known=True,
        dtype=tiles.dtype,
        opened=opened,
        chunks=(1, *tiles.shape[1:]),
        lossy=open_image(example).lossy,
        notes=notes if missing else (),
    )


def _read_list(source: SourceFile) -> _TileList:
    said = _parsed(source)
    patterns = said.get("image")
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise DataError(f"{source.name}: `image` must be a list with the path of each plane.")
    depth = _whole(source, said, "depth", MAX_PLANES)
    if len(patterns) != depth:
        raise DataError(f"{source.name} has depth {depth:,} but lists {len(patterns):,} planes. Correct one of them.")
    shape = (depth, _whole(source, said, "height", MAX_SIDE), _whole(source, said, "width", MAX_SIDE))
    size, first = said.get("tile_size"), said.get("tile_st", [0, 0])
    pair: list[Any] = size if isinstance(size, list) else [size, size]
    if len(pair) != 2 or not all(_is_whole(side) and 1 <= side <= MAX_SIDE for side in pair):
        raise DataError(f"{source.name}: `tile_size` is {_shown(size)}, but must be a whole number from 1.")
    if not isinstance(first, list) or len(first) != 2 or not all(_is_whole(n) and 0 <= n < 10**9 for n in first):
        raise DataError(f"{source.name}: `tile_st` is {_shown(first)}, but must be [row, column] of the first tile.")
    ratio, dtype = said.get("tile_ratio", 1), said.get("dtype", "uint8")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 1 / MAX_RATIO <= ratio <= MAX_RATIO:
        raise DataError(f"{source.name}: `tile_ratio` is {_shown(ratio)}, but must be from 1/64 to 64.")
    if dtype not in _DTYPES:
        raise DataError(f"{source.name}: `dtype` is {_shown(dtype)}, but must be one of {', '.join(_DTYPES)}.")
    tiles = _TileList(
        source, tuple(patterns), shape, (pair[0], pair[1]), float(ratio), (first[0], first[1]), np.dtype(dtype)
    )
    if depth * math.prod(tiles.grid) > MAX_TILES:
        raise DataError(f"{source.name} means more than {MAX_TILES:,} tiles. Split it into several lists.")
    for pattern in patterns:
        _check_pattern(tiles, pattern)
    return tiles


def _parsed(source: SourceFile) -> Mapping[str, Any]:
    try:
        size = source.path.stat().st_size
        if size > MAX_LIST_BYTES:
            raise DataError(f"{source.name} has {size:,} bytes; a tile list may have {MAX_LIST_BYTES:,}. Split it.")
        said = json.loads(source.path.read_bytes())
    except OSError as error:
        raise unreadable(source, error) from error
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source.name} is not a tile list: it is no JSON, or cut off. Write it again.") from error
    wanted = ("image", "depth", "height", "width", "tile_size")
    missing = [key for key in wanted if key not in said] if isinstance(said, dict) else wanted
    if missing:
        raise DataError(f"{source.name} is not a tile list: it lacks {', '.join(missing)}.")
    return said


def _whole(source: SourceFile, said: Mapping[str, Any], key: str, most: int) -> int:
    value = said[key]
    if not _is_whole(value) or not 1 <= value <= most:
        raise DataError(f"{source.name}: `{key}` is {_shown(value)}, but must be a whole number from 1 to {most:,}.")
    return int(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_pattern(tiles: _TileList, pattern: str) -> None:
    where = f"{tiles.source.name}: the path {_shown(pattern)}"
    if "{" in (rest := _PLACE.sub("", pattern)) or "}" in rest:
        raise DataError(f"{where} has braces other than {{row}}, {{column}} and such as {{row:04d}}.")
    if math.prod(tiles.grid) > 1 and len(set(_PLACE.findall(pattern))) == 0:
        raise DataError(f"{where} names one file, but a plane has {math.prod(tiles.grid):,} tiles. Add {{row}}.")
    if ending_of(pattern) in ("", TILE_LIST):
        raise DataError(f"{where} is no image by its name.")


def _path_text(tiles: _TileList, z: int, row: int, column: int) -> str:
    numbers = {"row": row + tiles.first[0], "column": column + tiles.first[1]}
    return _PLACE.sub(lambda place: str(numbers[place[1]]).zfill(int(place[2] or 0)), tiles.patterns[z])


def _locator(source: SourceFile) -> Callable[[str], SourceFile]:
    locate = confined_to(source.path.resolve().parent)

    def located(text: str) -> SourceFile:
        path = locate(text)
        if path is None or ending_of(path.name) in ("", TILE_LIST):
            raise DataError(
                f"{source.name}: the path {_shown(text)} leads out of the list's folder and of the folders from which "
                f"data may be imported ({roots_text()}), or to no image. Copy the tiles there, or add their folder to "
                f"{ROOTS_ENVIRONMENT} and restart the server."
            )
        return SourceFile(path, f"{source.name}: {path.name}")

    return located


def _look(tiles: _TileList, locate: Callable[[str], SourceFile]) -> tuple[SourceFile, int, int]:
    """One of the tiles that are there, how many are missing, and how many bytes the others have."""
    rows, columns = tiles.grid
    total = tiles.shape[0] * rows * columns
    step = math.ceil(total / _LOOKED_AT)
    example, missing, stored = None, 0, 0
    for index in range(0, total, step):
        z, place = divmod(index, rows * columns)
        tile = locate(_path_text(tiles, z, *divmod(place, columns)))
        try:
            stored += tile.path.stat().st_size * step
        except FileNotFoundError:
            missing += step
            continue
        except OSError as error:
            raise unreadable(tile, error) from error
        example = example or tile
    if example is None:
        raise DataError(
            f"No tile of {tiles.source.name} is there: {_shown(_path_text(tiles, 0, 0, 0))} and all others are "
            "missing. Check the paths, which count from the list's folder, and tile_st."
        )
    return example, min(missing, total - 1), stored


def _read(tiles: _TileList, locate: Callable[[str], SourceFile], window: Window) -> NDArray[Any]:
    (z0, z1, _), (y0, y1, _), (x0, x1, _) = (part.indices(side) for part, side in zip(window, tiles.shape, strict=True))
    height, width = tiles.tile
    volume = np.zeros((max(0, z1 - z0), max(0, y1 - y0), max(0, x1 - x0)), tiles.dtype)
    for z in range(z0, z1 if volume.size else z0):
        for row in range(y0 // height, math.ceil(y1 / height)):
            for column in range(x0 // width, math.ceil(x1 / width)):
                tile_yx = _tile(tiles, locate(_path_text(tiles, z, row, column)))
                if tile_yx is None:
                    continue
                top, left = row * height, column * width
                bottom, right = top + tile_yx.shape[0], left + tile_yx.shape[1]
                rows = slice(max(y0, top), max(y0, top, min(y1, bottom)))
                columns = slice(max(x0, left), max(x0, left, min(x1, right)))
                volume[z - z0, rows.start - y0 : rows.stop - y0, columns.start - x0 : columns.stop - x0] = tile_yx[
                    rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
                ]
    return volume


def _tile(tiles: _TileList, source: SourceFile) -> NDArray[Any] | None:
    """The pixels of a tile, rescaled and no larger than a tile should be; None where the file is missing."""
    if not source.path.exists():
        return None
    file = orient(open_image(source))
    channels, planes, rows, columns = file.shape_czyx
    if planes != 1:
        raise DataError(f"{source.name} has {planes:,} planes, but a tile has one. Save each plane by itself.")
    with file.opened() as read:
        samples = read(0, 1)[:, 0]
    tile_yx = samples[0] if channels == 1 else _one_number(tiles, source, samples)
    if tiles.ratio != 1:
        down, across = (
            np.arange(min(round(side * tiles.ratio), most))
            for side, most in zip((rows, columns), tiles.tile, strict=True)
        )
        down = np.minimum(((down + 0.5) / tiles.ratio).astype(int), rows - 1)
        across = np.minimum(((across + 0.5) / tiles.ratio).astype(int), columns - 1)
        tile_yx = tile_yx[down[:, None], across]
    tile_yx = tile_yx[: tiles.tile[0], : tiles.tile[1]]
    _check_fits(tiles, source, tile_yx)
    return tile_yx


def _one_number(tiles: _TileList, source: SourceFile, samples: NDArray[Any]) -> NDArray[Any]:
    if len(samples) == 3 and samples.dtype == np.uint8 and tiles.dtype.kind in "ui" and tiles.dtype.itemsize >= 4:
        red, green, blue = samples.astype(np.uint32)
        return (red << 16) | (green << 8) | blue
    if not (samples == samples[0]).all():
        raise DataError(
            f"{source.name} has {len(samples)} channels. Save tiles in grey, or, for labels, give the list the dtype "
            "uint32, which reads red, green and blue as one number."
        )
    return samples[0]


def _check_fits(tiles: _TileList, source: SourceFile, tile_yx: NDArray[Any]) -> None:
    if np.can_cast(tile_yx.dtype, tiles.dtype) or tiles.dtype.kind == "f" or not tile_yx.size:
        return
    limits = np.iinfo(tiles.dtype)
    low, high = tile_yx.min(), tile_yx.max()
    if tile_yx.dtype.kind == "f" or int(low) < limits.min or int(high) > limits.max:
        raise DataError(
            f"{source.name} has {tile_yx.dtype} values from {low} to {high}, which {tiles.dtype} cannot hold. Set "
            f"the dtype of {tiles.source.name} to {tile_yx.dtype}."
        )


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else value
    return repr(text[:120])[1:-1]
