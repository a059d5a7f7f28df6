"""Which part of the data trains and which only judges. The two never share a voxel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from seglib.config import DataConfig
from seglib.errors import ConfigError

Shape = tuple[int, int, int]
FEW_GROUPS = 4
AXES = "zyx"


@dataclass(frozen=True)
class Region:
    """A box of one volume. volume: its index; start, stop: (z, y, x), stop exclusive."""

    volume: int
    start: Shape
    stop: Shape

    @property
    def shape(self) -> Shape:
        z, y, x = (b - a for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x


@dataclass(frozen=True)
class Split:
    """Regions that train and regions that validate."""

    training: tuple[Region, ...]
    validation: tuple[Region, ...]


def split_data(shapes: Sequence[Shape], groups: Sequence[str], config: DataConfig, seed: int) -> Split:
    """Divides volumes into training and validation as the config says.

    shapes: (z, y, x) of each volume; groups: volumes with the same group stay together.
    seed: for the order in which groups are drawn.
    Raises ConfigError where one of the two parts would be empty.
    """
    distinct = sorted(set(groups))
    by_volume = config.split == "volumes" or (config.split == "auto" and len(distinct) >= FEW_GROUPS)
    if not by_volume:
        axis = longest_axis(shapes) if config.block_axis == "auto" else AXES.index(config.block_axis)
        return _split_blocks(shapes, axis, config.validation_share)
    if len(distinct) < 2:
        raise ConfigError(
            "Validation by volumes needs at least two volumes (or groups of volumes), and the data set has one: "
            "choose a block for validation, or import more volumes."
        )
    order = np.random.default_rng([seed, 1]).permutation(len(distinct))
    count = min(len(distinct) - 1, max(1, round(config.validation_share * len(distinct))))
    held_out = {distinct[index] for index in order[:count]}
    whole = [Region(index, (0, 0, 0), shape) for index, shape in enumerate(shapes)]
    return Split(
        tuple(region for region in whole if groups[region.volume] not in held_out),
        tuple(region for region in whole if groups[region.volume] in held_out),
    )


def longest_axis(shapes: Sequence[Shape]) -> int:
    """Index (0 z, 1 y, 2 x) of the axis along which the smallest volume is longest."""
    return int(np.argmax(np.min(np.array(shapes), axis=0)))


def describe(region: Region, whole: Shape) -> str:
    """The region in words, such as `all of it` or `x 0–1637`."""
    parts = [
        f"{axis} {start}–{stop - 1}"
        for axis, start, stop, side in zip(AXES, region.start, region.stop, whole, strict=True)
        if (start, stop) != (0, side)
    ]
    return ", ".join(parts) or "all of it"


def _split_blocks(shapes: Sequence[Shape], axis: int, share: float) -> Split:
    training, validation = [], []
    for index, shape in enumerate(shapes):
        length = shape[axis]
        cut = length - max(1, math.ceil(share * length))
        if cut < 1:
            raise ConfigError(
                f"A volume is only {length} voxel(s) long along {AXES[axis]}, too short to cut a validation block "
                f"from it: choose another block axis, or validation by volumes."
            )
        edge_stop, edge_start = list(shape), [0, 0, 0]
        edge_stop[axis] = edge_start[axis] = cut
        training.append(Region(index, (0, 0, 0), (edge_stop[0], edge_stop[1], edge_stop[2])))
        validation.append(Region(index, (edge_start[0], edge_start[1], edge_start[2]), shape))
    return Split(tuple(training), tuple(validation))
