"""Writing a volume plane by plane, with ever coarser copies beside it, in bounded memory.

Every level halves rows and columns, and planes too where voxels have become flatter than they are wide, until a plane
fits a small screen. Images are averaged; of labels every second voxel is kept, as an average of ids means nothing.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray

from seglib.data.volumes import VoxelSize, chunk_planes, create_array

SMALLEST_PLANE = 512
MOST_LEVELS = 8
_THREADS = 2
Factors = tuple[int, int, int]


@dataclass(frozen=True)
class Level:
    """One level. factors: how many voxels of the full resolution one of its voxels spans, along z, y and x."""

    factors: Factors
    shape_zyx: tuple[int, int, int]


def levels_of(shape_zyx: tuple[int, int, int], voxel_size_nm: VoxelSize) -> tuple[Level, ...]:
    """The levels of a volume, the full resolution first; a small plane has no other."""
    levels = [Level((1, 1, 1), shape_zyx)]
    while max(levels[-1].shape_zyx[1:]) > SMALLEST_PLANE and len(levels) < MOST_LEVELS:
        previous = levels[-1]
        depth, height, width = (size * f for size, f in zip(voxel_size_nm, previous.factors, strict=True))
        halved = (depth <= 1.5 * min(height, width) and previous.shape_zyx[0] > 1, True, True)
        steps = [1 + (halve and side > 1) for halve, side in zip(halved, previous.shape_zyx, strict=True)]
        z, y, x = (-(-side // step) for side, step in zip(previous.shape_zyx, steps, strict=True))
        fz, fy, fx = (f * step for f, step in zip(previous.factors, steps, strict=True))
        levels.append(Level((fz, fy, fx), (z, y, x)))
    return tuple(levels)


class LayerWriter:
    """Takes the planes of one layer from front to back and writes all its levels; a context manager.

    group: where the arrays 0, 1, … are made. channels: 0 for a layer without channels (labels).
    average: whether coarser levels are means (images) or picked voxels (labels).
    full: the array 0 where it is written already; only the coarser ones are made then, of the same planes.
    """

    def __init__(
        self,
        group: zarr.Group,
        levels: tuple[Level, ...],
        *,
        channels: int,
        dtype: DTypeLike,
        average: bool,
        full: zarr.Array | None = None,
    ) -> None:
        lead = (channels,) if channels else ()
        self._lead = lead
        self._levels = levels
        self._is_written = full is not None
        self._arrays = [
            full
            if full is not None and index == 0
            else create_array(group, str(index), (*lead, *level.shape_zyx), dtype)
            for index, level in enumerate(levels)
        ]
        self._average = average
        self._carried: list[NDArray[Any] | None] = [None] * len(levels)
        self._written = [0] * len(levels)
        # Small volumes are written at once: a thread costs more than it wins.
        planes = levels[0].shape_zyx[0]
        self._pool = ThreadPoolExecutor(_THREADS) if planes > self.slab_planes else None
        self._pending: list[Future[None]] = []

    @property
    def slab_planes(self) -> int:
        """How many planes are best written at once."""
        return chunk_planes(self._levels[0].shape_zyx, self._arrays[0].dtype)

    def write(self, planes: NDArray[Any]) -> None:
        """Appends planes (C, dz, Y, X), or (dz, Y, X) without channels; the array must not be changed afterwards."""
        self._append(0, planes)

    def close(self) -> None:
        """Writes what is left. Raises what went wrong in writing."""
        for index in range(len(self._levels)):
            self._flush(index, last=True)
        self._settle(0)
        if self._pool:
            self._pool.shutdown()

    def abandon(self) -> None:
        """Ends the threads without writing what is left."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def _append(self, index: int, planes: NDArray[Any]) -> None:
        carried = self._carried[index]
        self._carried[index] = planes if carried is None else np.concatenate([carried, planes], axis=-3)
        self._flush(index, last=False)

    def _flush(self, index: int, *, last: bool) -> None:
        """Writes the planes that fill whole chunks, or all at the end, and hands them to the next level."""
        planes, depth = self._carried[index], self._levels[index].shape_zyx[0]
        if planes is None:
            return
        thick = chunk_planes(self._levels[index].shape_zyx, self._arrays[index].dtype)
        # Two at a time, where the next level averages planes in pairs.
        thick = max(thick, 2)
        ready = planes.shape[-3] if last or self._written[index] + planes.shape[-3] >= depth else 0
        ready = ready or planes.shape[-3] // thick * thick
        if not ready:
            return
        done, rest = planes[..., :ready, :, :], planes[..., ready:, :, :]
        self._carried[index] = rest.copy() if rest.shape[-3] else None
        self._store(index, self._written[index], done)
        self._written[index] += ready
        if index + 1 < len(self._levels):
            self._append(index + 1, self._coarser(index, done))

    def _store(self, index: int, start: int, planes: NDArray[Any]) -> None:
        if index == 0 and self._is_written:
            return
        array = self._arrays[index]
        window = (*(slice(None) for _ in self._lead), slice(start, start + planes.shape[-3]))
        if self._pool is None:
            array[window] = planes
            return
        self._pending.append(self._pool.submit(array.__setitem__, window, planes))
        self._settle(2 * _THREADS if planes.nbytes < 32 << 20 else 1)

    def _settle(self, at_most: int) -> None:
        while len(self._pending) > at_most:
            self._pending.pop(0).result()

    def _coarser(self, index: int, planes: NDArray[Any]) -> NDArray[Any]:
        here, following = self._levels[index].factors, self._levels[index + 1].factors
        steps = [b // a for a, b in zip(here, following, strict=True)]
        if not self._average:
            z, y, x = (slice(None, None, step) for step in steps)
            return np.ascontiguousarray(planes[..., z, y, x])
        for axis, step in zip((-2, -1, -3), (steps[1], steps[2], steps[0]), strict=True):
            if step == 2:
                planes = halve(planes, axis)
        return planes


@contextmanager
def layer_writer(
    group: zarr.Group,
    levels: tuple[Level, ...],
    *,
    channels: int,
    dtype: DTypeLike,
    average: bool,
    full: zarr.Array | None = None,
) -> Iterator[LayerWriter]:
    """A LayerWriter that is closed at the end, and left as it is after an error."""
    writer = LayerWriter(group, levels, channels=channels, dtype=dtype, average=average, full=full)
    try:
        yield writer
    except BaseException:
        writer.abandon()
        raise
    writer.close()


def halve(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Means of neighbours 0 and 1, 2 and 3, … along a negative axis, in the same dtype; an odd last one stays.

    Halves of whole numbers are rounded up along rows and down along the other axes, so that errors nearly cancel.
    """
    even = [slice(None)] * values.ndim
    odd = list(even)
    even[axis], odd[axis] = slice(0, None, 2), slice(1, None, 2)
    first, second = values[tuple(even)], values[tuple(odd)]
    if second.shape[axis] < first.shape[axis]:
        last = list(even)
        last[axis] = slice(values.shape[axis] - 1, None)
        second = np.concatenate([second, values[tuple(last)]], axis=axis)
    if values.dtype.kind == "f":
        return (first * values.dtype.type(0.5) + second * values.dtype.type(0.5)).astype(values.dtype)
    up = axis == -2
    if values.dtype.itemsize == 8:  # without overflow
        return (first | second) - ((first ^ second) >> 1) if up else (first & second) + ((first ^ second) >> 1)
    wide = np.promote_types(values.dtype, f"{values.dtype.kind}{2 * values.dtype.itemsize}")
    total = first.astype(wide)
    total += second
    total += up
    total >>= 1
    return total.astype(values.dtype)
