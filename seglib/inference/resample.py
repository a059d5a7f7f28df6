"""A volume at another voxel size, computed where it is read, and results brought back onto a volume's own grid.

Voxels are boxes: the first and the last voxel of both grids end at the same places, as in `numpy` slices of a
continuous field. Values lie at the middles of voxels and are interpolated linearly; where voxels become larger, they
are means over what they cover (a triangle as wide as two of the larger voxels), so that nothing is aliased.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from seglib.data.splits import Shape
from seglib.data.volumes import Array, VoxelSize

# Sizes that differ by less are the same: scanners are not more exact.
SAME = 0.05


def other_grid(shape: Sequence[int], voxel_size_nm: VoxelSize, wanted_nm: VoxelSize, *, flat: bool) -> Shape | None:
    """The shape (z, y, x) of a volume at another voxel size; None where it is the same within 5 %.

    flat: planes stay as they are, as for a network that knows nothing of z.
    """
    factors = [own / other for own, other in zip(voxel_size_nm, wanted_nm, strict=True)]
    if flat:
        factors[0] = 1.0
    if all(1 / (1 + SAME) <= factor <= 1 + SAME for factor in factors):
        return None
    z, y, x = (max(1, round(side * factor)) for side, factor in zip(shape, factors, strict=True))
    return z, y, x


@dataclass(frozen=True)
class Resampled:
    """An array (C, Z, Y, X) seen on another grid, float32; only what is asked for is read and computed."""

    source: Array
    grid: Shape

    @property
    def shape(self) -> tuple[int, ...]:
        return (int(self.source.shape[0]), *self.grid)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[np.float32]:
        channels, *spans = (*key, *[slice(None)] * (4 - len(key)))
        boxes, weights = [], []
        for span, side, own in zip(spans, self.grid, self.source.shape[1:], strict=True):
            low, high, _ = span.indices(side)
            first, matrix = _weights(int(own), side, low, high)
            boxes.append(slice(first, first + matrix.shape[1]))
            weights.append(matrix)
        values = np.asarray(self.source[(channels, *boxes)], np.float32)
        for axis, matrix in enumerate(weights, start=1):
            values = _along(values, matrix, axis)
        return values


def _weights(own: int, wanted: int, low: int, high: int) -> tuple[int, csr_matrix]:
    """How voxels low … high − 1 of a grid of `wanted` are made of one of `own`: the first voxel read, and a matrix."""
    scale = own / wanted
    middles = (np.arange(low, high) + 0.5) * scale - 0.5
    reach = max(scale, 1.0)
    first = max(0, int(np.floor(middles[0] - reach)) + 1)
    last = min(own - 1, int(np.ceil(middles[-1] + reach)) - 1)
    first, last = min(first, own - 1), max(last, min(first, own - 1))
    rows, columns, values = [], [], []
    for row, middle in enumerate(middles):
        near = np.arange(max(first, int(np.floor(middle - reach)) + 1), min(last, int(np.ceil(middle + reach)) - 1) + 1)
        share = 1 - np.abs(near - middle) / reach
        rows += [row] * near.size
        columns += (near - first).tolist()
        values += (share / share.sum()).tolist()
    matrix = csr_matrix((values, (rows, columns)), shape=(high - low, last - first + 1), dtype=np.float32)
    return first, matrix


def _along(values: NDArray[np.float32], matrix: csr_matrix, axis: int) -> NDArray[np.float32]:
    """The matrix applied along one axis."""
    moved = np.moveaxis(values, axis, 0)
    flat = matrix @ moved.reshape(moved.shape[0], -1)
    return np.ascontiguousarray(np.moveaxis(flat.reshape(-1, *moved.shape[1:]), 0, axis))
