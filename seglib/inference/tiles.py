"""Where tiles lie and how much each of their voxels counts. Pure geometry."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from seglib.errors import ConfigError

SIGMA = 0.25
LEAST_WEIGHT = 1e-3


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin so that they cover an axis end to end; the last one is pulled back inside.

    length, tile: extent of the axis and of a tile, in voxels; tile ≤ length.
    overlap: share of a tile (0 ≤ overlap < 1) that neighbours have in common, at least.
    Raises ConfigError where the tile does not fit or the overlap leaves no way forward.

    >>> tile_starts(11, tile=4, overlap=0.25)
    [0, 3, 6, 7]
    """
    if not 0 <= overlap < 1 or tile > length:
        raise ConfigError(f"Tiles of {tile} with overlap {overlap} cannot cover {length} voxels.")
    stride = max(1, tile - round(overlap * tile))
    last = length - tile
    return [*range(0, last, stride), last]


def blend_window(shape: Sequence[int], *, flat: bool = False) -> NDArray[np.float32]:
    """How much each voxel of a tile counts: a Gaussian, highest in the middle, never zero.

    shape: (z, y, x) of a tile. sigma is a quarter of the side, as tiles see least at their edges.
    flat: all voxels count alike.
    """
    if flat:
        return np.ones(tuple(shape), np.float32)
    window = np.ones((), np.float32)
    for side in shape:
        position = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / max(SIGMA * side, 1e-6)
        window = window[..., None] * np.exp(-0.5 * position**2)
    return np.maximum(window, LEAST_WEIGHT).astype(np.float32)


def fitting_tile(room: Sequence[int], wanted: Sequence[int], stride: Sequence[int]) -> tuple[int, int, int]:
    """The wanted tile, made smaller where the volume is smaller, in multiples of the network's stride.

    A tile can still stick out of the volume by less than one stride; those voxels are mirrored.
    """
    z, y, x = (
        side if side <= whole else -(-whole // step) * step
        for whole, side, step in zip(room, wanted, stride, strict=True)
    )
    return z, y, x
