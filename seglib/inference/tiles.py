"""Where tiles lie and how much each of their voxels counts. Pure geometry.

Along each axis a volume is continued by mirrored voxels, so that its edges lie inside of tiles as its middle does, and
cut into tiles that start at multiples of the network's stride: a network of convolutions and pooling then sees every
voxel as it would in one pass over everything. The windows of the tiles add up to 1 at every place.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seglib.config.predicting import Blending
from seglib.data.splits import Shape
from seglib.errors import ConfigError

SIGMA = 0.25
LEAST_WEIGHT = 1e-3


@dataclass(frozen=True)
class AxisTiles:
    """Tiles along one axis; places are counted in the continued axis.

    length: of the volume; border: mirrored voxels before it; padded: length of the continued axis.
    starts: where tiles begin, ascending. windows: float32 (tile,), one for each; they add up to 1 inside the volume.
    spans: from where to where in a tile its window is not 0.
    """

    length: int
    tile: int
    border: int
    padded: int
    starts: tuple[int, ...]
    windows: tuple[NDArray[np.float32], ...]
    spans: tuple[tuple[int, int], ...]

    def reach(self, index: int) -> tuple[int, int]:
        """From where to where a tile adds to the result."""
        low, high = self.spans[index]
        return self.starts[index] + low, self.starts[index] + high

    def touching(self, low: int, high: int) -> list[int]:
        """The tiles that add to places low … high − 1."""
        return [i for i in range(len(self.starts)) if self.reach(i)[0] < high and self.reach(i)[1] > low]

    def source(self, low: int, high: int) -> NDArray[np.intp]:
        """The voxels of the volume that are at places low … high − 1, mirrored at its ends as often as it takes."""
        place = (np.arange(low, high) - self.border) % (2 * self.length)
        return np.where(place < self.length, place, 2 * self.length - 1 - place)


@dataclass(frozen=True)
class Tiling:
    """The tiles of a volume, along z, y and x."""

    axes: tuple[AxisTiles, AxisTiles, AxisTiles]


def plan_tiles(
    room: Sequence[int],
    tile: Sequence[int],
    stride: Sequence[int],
    margins: Sequence[int],
    *,
    blending: Blending,
    mirrored: bool,
) -> Tiling:
    """The tiles of a volume (z, y, x).

    tile: wanted, multiples of the stride; smaller where the volume is, see `fitting_tile`.
    margins: how many voxels at each side of a tile lie in its neighbour's better part; twice as many are shared.
    mirrored: whether the volume is continued by the margins; not along an axis that one tile covers without.
    """
    fitting = fitting_tile(room, tile, stride)
    z, y, x = (
        _axis(length, side, step, margin, blending, mirrored)
        for length, side, step, margin in zip(room, fitting, stride, margins, strict=True)
    )
    return Tiling((z, y, x))


def margins_of(window: Sequence[int], overlap: float) -> Shape:
    """Margins with which neighbouring tiles of this size have the share `overlap` of a side in common."""
    if not 0 <= overlap < 1:
        raise ConfigError(f"Tiles cannot overlap by {overlap} of their side: at least 0, and less than 1.")
    z, y, x = (round(overlap * side / 2) for side in window)
    return z, y, x


def fitting_tile(room: Sequence[int], wanted: Sequence[int], stride: Sequence[int]) -> Shape:
    """The wanted tile, made smaller where the volume is smaller, in multiples of the network's stride.

    A tile can still stick out of the volume by less than one stride; those voxels are mirrored.
    """
    z, y, x = (
        side if side <= whole else rounded_up(whole, step)
        for whole, side, step in zip(room, wanted, stride, strict=True)
    )
    return z, y, x


def rounded_up(length: int, step: int) -> int:
    """The smallest multiple of a step that is not smaller."""
    return -(-length // step) * step


def _axis(length: int, tile: int, stride: int, margin: int, blending: Blending, mirrored: bool) -> AxisTiles:
    border = rounded_up(margin, stride) if mirrored and tile < length else 0
    padded = max(tile, rounded_up(length + 2 * border, stride))
    # Tiles start at multiples of the stride, so that very large margins come out smaller.
    step = max(stride, (tile - 2 * margin) // stride * stride)
    starts = (*range(0, padded - tile, step), padded - tile)
    windows = _halves(starts, tile) if blending == "halo" else _bells(starts, tile, padded, flat=margin == 0)
    spans = tuple((int(places[0]), int(places[-1]) + 1) for places in map(np.flatnonzero, windows))
    return AxisTiles(length, tile, border, padded, starts, windows, spans)


def _bells(starts: Sequence[int], tile: int, padded: int, *, flat: bool) -> tuple[NDArray[np.float32], ...]:
    """A Gaussian each, highest in the middle, never zero; sigma is a quarter of the side, as tiles see least at edges.

    flat: all voxels count alike.
    """
    place = (np.arange(tile) - (tile - 1) / 2) / max(SIGMA * tile, 1e-6)
    bell = np.ones(tile) if flat else np.maximum(np.exp(-0.5 * place**2), LEAST_WEIGHT)
    total = np.zeros(padded)
    for start in starts:
        total[start : start + tile] += bell
    return tuple((bell / total[start : start + tile]).astype(np.float32) for start in starts)


def _halves(starts: Sequence[int], tile: int) -> tuple[NDArray[np.float32], ...]:
    """Each tile counts up to the middle of what it shares with the next, and no further."""
    cuts = [0, *((a + tile + b) // 2 for a, b in itertools.pairwise(starts)), starts[-1] + tile]
    place = np.arange(tile)
    return tuple(
        ((place >= low - start) & (place < high - start)).astype(np.float32)
        for start, low, high in zip(starts, cuts, cuts[1:], strict=False)
    )
