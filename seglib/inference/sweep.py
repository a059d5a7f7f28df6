"""Going over a volume tile by tile in bounded memory; blocks come out as soon as no later tile can change them.

Planes are read ahead in a thread. A volume whose planes are too large is gone over in columns; within a column rows of
tiles lie along z, and the sums of a row that the next one adds to are all that is kept. What comes out for a voxel does
not depend on columns, on how many tiles are computed at once, or on where the sweep began.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seglib.data.normalise import Normalisation
from seglib.data.prefetch import Prefetcher
from seglib.data.volumes import Array
from seglib.inference.tiles import AxisTiles, Tiling

# What a sweep may hold beside network and tiles, in bytes.
BUDGET_CPU, BUDGET_GPU = 2**29, 2**32
# At least so many planes are read at once: a chunk of a volume is four deep.
READ_PLANES = 8
Start = tuple[int, int, int]
# Normalised cuts, one for each way of normalising: float32 (N, C, Z, Y, X) on the device, and where they begin in the
# volume; gives what is to be blended, float32 (N, K, Z, Y, X).
Apply = Callable[[Sequence[Tensor], Sequence[Start]], Tensor]


@dataclass(frozen=True)
class Block:
    """A finished part of the result.

    start: (z, y, x) of its first voxel; values: float32 (K, dz, dy, dx), on the device.
    column: which column it is of; tiles_done: of the whole sweep, also those that were done before it went on.
    """

    start: Start
    values: Tensor
    column: int
    tiles_done: int

    @property
    def end_z(self) -> int:
        """The first plane after it."""
        return self.start[0] + int(self.values.shape[1])


@dataclass(frozen=True)
class Column:
    """Part of the plane. y, x: tiles that add to it; box: from where to where it reaches, (y, y, x, x)."""

    y: tuple[int, ...]
    x: tuple[int, ...]
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Source:
    """Where images come from. image: (C, Z, Y, X); normalise: the ways in which networks take it.

    empty: grey values up to this count as nothing; None where all tiles are computed.
    """

    image: Array
    normalise: Sequence[Normalisation]
    empty: float | None = None


@dataclass(frozen=True)
class Look:
    """How tiles are looked at. outputs: how many channels `apply` gives; batch_size: tiles at once."""

    apply: Apply
    outputs: int
    device: torch.device
    batch_size: int


def sweep(tiling: Tiling, source: Source, look: Look, *, done: Sequence[int] = ()) -> Iterator[Block]:
    """Blocks of the result, column by column, from front to back.

    done: finished planes of each column, as `Block.end_z` told them; nothing for columns that were not begun.
    """
    counted, z_axis = 0, tiling.axes[0]
    for index, column in enumerate(columns_of(tiling, int(source.image.shape[0]), look.device)):
        first = done[index] if index < len(done) else 0
        tiles = len(z_axis.starts) * len(column.y) * len(column.x)
        if first < z_axis.length:
            for block in _Sweep(tiling, source, look, column).blocks(first):
                yield replace(block, column=index, tiles_done=counted + block.tiles_done)
        counted += tiles


def tiles_of(tiling: Tiling, channels: int, device: torch.device) -> int:
    """How many tiles a sweep computes; those between two columns count for both."""
    return sum(
        len(tiling.axes[0].starts) * len(column.y) * len(column.x) for column in columns_of(tiling, channels, device)
    )


def columns_of(tiling: Tiling, channels: int, device: torch.device) -> list[Column]:
    """The columns a volume is gone over in: one, unless its planes are large."""
    budget = BUDGET_GPU if device.type == "cuda" else BUDGET_CPU
    z_axis, y_axis, x_axis = tiling.axes
    # Two rows of images, one of which is read ahead; sums, old and new, and what is made of them.
    per_place = z_axis.tile * (8 * channels + 12)
    side = max(1, int(math.sqrt(budget / per_place)))
    wide = _cut(x_axis, max(side, budget // (per_place * min(side, y_axis.padded))))
    widest = max(high - low for _, (low, high) in wide)
    high_ones = _cut(y_axis, max(1, budget // (per_place * widest)))
    return [Column(y, x, (*y_box, *x_box)) for y, y_box in high_ones for x, x_box in wide]


def _cut(axis: AxisTiles, most: int) -> list[tuple[tuple[int, ...], tuple[int, int]]]:
    """Cuts an axis between tiles: those that add to each piece, and from where to where it reaches."""
    begin, end = axis.border, axis.border + axis.length
    middles = ((a + axis.tile + b) // 2 for a, b in zip(axis.starts, axis.starts[1:], strict=False))
    inside = [middle for middle in middles if begin < middle < end]
    cuts = [begin]
    for middle, following in zip(inside, [*inside[1:], end], strict=False):
        if following - cuts[-1] > most:
            cuts.append(middle)
    pieces = list(zip(cuts, [*cuts[1:], end], strict=True))
    return [(tuple(axis.touching(low, high)), (low, high)) for low, high in pieces]


@dataclass(frozen=True)
class _Row:
    """Tiles of a column that are computed together, at these indices along z, and what is read for them.

    raw: (C, z, y, x) of the volume, as large as it takes; places: which of its planes, rows and columns are at each
    place of the continued axes, from those of the first tiles on.
    """

    indices: tuple[int, ...]
    raw: NDArray[Any]
    places: list[NDArray[np.intp]]


@dataclass(frozen=True)
class _Sweep:
    """The sweep of one column. Places are counted in the continued axes."""

    tiling: Tiling
    source: Source
    look: Look
    column: Column

    def blocks(self, first: int) -> Iterator[Block]:
        """Finished planes from the plane `first` of the volume on."""
        z_axis, y_axis, x_axis = self.tiling.axes
        base, end = z_axis.border + first, z_axis.border + z_axis.length
        rows = self._rows(z_axis.touching(base, end))
        before = len(z_axis.starts) - sum(map(len, rows))
        sums = self._zeros(0)
        with Prefetcher(lambda number: self._read(rows[number]), first=0, last=len(rows), threads=1, ahead=1) as reader:
            for number, indices in enumerate(rows):
                top = max(min(end, z_axis.reach(i)[1]) for i in indices)
                sums = self._deeper(sums, top - base)
                self._add(sums, reader.take(), base)
                following = rows[number + 1][0] if number + 1 < len(rows) else None
                finished = end if following is None else min(end, max(base, z_axis.reach(following)[0]))
                done = (before + indices[-1] + 1 - rows[0][0]) * len(self.column.y) * len(self.column.x)
                if finished > base:
                    y, x = self.column.box[0] - y_axis.border, self.column.box[2] - x_axis.border
                    yield Block((base - z_axis.border, y, x), sums[:, : finished - base], 0, done)
                    sums, base = sums[:, finished - base :], finished

    def _rows(self, indices: list[int]) -> list[tuple[int, ...]]:
        """Several along z together where one does not fill a batch, or is thinner than what is read at once."""
        across, tile = len(self.column.y) * len(self.column.x), self.tiling.axes[0].tile
        together = max(1, self.look.batch_size // across, READ_PLANES // tile)
        return [tuple(indices[i : i + together]) for i in range(0, len(indices), together)]

    def _read(self, indices: tuple[int, ...]) -> _Row:
        """The images a group of rows needs, continued by mirrored voxels."""
        chosen = (indices, self.column.y, self.column.x)
        spans = [
            (axis.starts[of[0]], axis.starts[of[-1]] + axis.tile)
            for axis, of in zip(self.tiling.axes, chosen, strict=True)
        ]
        places = [axis.source(*span) for axis, span in zip(self.tiling.axes, spans, strict=True)]
        box = tuple(slice(int(place.min()), int(place.max()) + 1) for place in places)
        raw: NDArray[Any] = np.asarray(self.source.image[(slice(None), *box)])
        return _Row(indices, raw, [place - int(place.min()) for place in places])

    def _images(self, row: _Row) -> list[Tensor]:
        """What was read, normalised in each way and continued by mirrored voxels, on the device."""
        found = []
        for normalisation in self.source.normalise:
            image = normalised(row.raw, normalisation, self.look.device)
            for dimension, place in enumerate(row.places, start=1):
                if place.size != image.shape[dimension] or (np.diff(place) != 1).any():
                    image = image.index_select(dimension, torch.from_numpy(place).to(image.device))
            found.append(image)
        return found

    def _add(self, sums: Tensor, row: _Row, base: int) -> None:
        """Adds the tiles of a group of rows to the sums (K, Z, Y, X), which begin at the plane `base`."""
        axes, images = self.tiling.axes, self._images(row)
        origin = [
            axis.starts[of[0]] for axis, of in zip(axes, (row.indices, self.column.y, self.column.x), strict=True)
        ]

        def cut(place: Start) -> tuple[slice, ...]:
            lows = [axis.starts[i] - low for axis, i, low in zip(axes, place, origin, strict=True)]
            sides = [slice(low, low + axis.tile) for axis, low in zip(axes, lows, strict=True)]
            return (slice(None), *sides)

        places = [(i, j, k) for i in row.indices for j in self.column.y for k in self.column.x]
        if self.source.empty is not None:
            places = [place for place in places if self._is_filled(row, cut(place))]
        for first in range(0, len(places), self.look.batch_size):
            batch = places[first : first + self.look.batch_size]
            cuts = [torch.stack([image[cut(place)] for place in batch]) for image in images]
            values = self.look.apply(cuts, [self._start(place) for place in batch])
            for place, found in zip(batch, values, strict=True):
                self._blend(sums, found, place, (base, self.column.box[0], self.column.box[2]))

    def _is_filled(self, row: _Row, box: tuple[slice, ...]) -> bool:
        """Whether a tile has a voxel that is more than nothing."""
        inside = (
            slice(int(at[span].min()), int(at[span].max()) + 1) for at, span in zip(row.places, box[1:], strict=True)
        )
        return bool(row.raw[(slice(None), *inside)].max() > self.source.empty)

    def _start(self, place: Start) -> Start:
        z, y, x = (axis.starts[i] - axis.border for axis, i in zip(self.tiling.axes, place, strict=True))
        return z, y, x

    def _blend(self, sums: Tensor, found: Tensor, place: Start, origin: Start) -> None:
        """Adds one tile's values, as far as they count and lie within the sums, which begin at `origin`."""
        inside, target, factor = [], [], None
        for dimension, (axis, index, low) in enumerate(zip(self.tiling.axes, place, origin, strict=True)):
            start, (a, b) = axis.starts[index], axis.spans[index]
            a, b = max(a, low - start), min(b, low + int(sums.shape[1 + dimension]) - start)
            if a >= b:
                return
            inside.append(slice(a, b))
            target.append(slice(start + a - low, start + b - low))
            window = axis.windows[index][a:b]
            if not (window == 1).all():
                along = torch.from_numpy(window).to(found.device).reshape(-1, *[1] * (2 - dimension))
                factor = along if factor is None else factor * along
        part = found[(slice(None), *inside)]
        sums[(slice(None), *target)] += part if factor is None else part * factor

    def _zeros(self, depth: int) -> Tensor:
        low_y, high_y, low_x, high_x = self.column.box
        return torch.zeros(self.look.outputs, depth, high_y - low_y, high_x - low_x, device=self.look.device)

    def _deeper(self, sums: Tensor, depth: int) -> Tensor:
        """The sums with so many planes; what was carried over lies in front."""
        if sums.shape[1] >= depth:
            return sums
        wider = self._zeros(depth)
        wider[:, : sums.shape[1]] = sums
        return wider


def normalised(raw: NDArray[Any], normalisation: Normalisation, device: torch.device) -> Tensor:
    """float32 (channels, …) on the device, of grey values of any dtype; as `Normalisation.apply` within rounding.

    Grey values that single precision holds are scaled on the device, which then gets as little as there is to send.
    """
    if device.type == "cpu" or raw.dtype not in (np.uint8, np.int8, np.int16, np.uint16, np.float16, np.float32):
        return torch.from_numpy(normalisation.apply(raw)).to(device)
    grey = torch.from_numpy(np.ascontiguousarray(raw)).to(device).float()
    channels = []
    numbers = zip(normalisation.sources, normalisation.centre, normalisation.scale, normalisation.clip, strict=True)
    for source, centre, scale, clip in numbers:
        value = grey[source].sub(centre).mul_(scale).clamp_(-clip, clip)
        channels.append(value.nan_to_num_(nan=-min(1.0, clip)))
    return torch.stack(channels)
