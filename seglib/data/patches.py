"""Where the next training patch comes from, and reading it.

Which patches make up a step follows from the seed and the step alone, so a resumed run goes on exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE
from seglib.data.normalise import Normalisation
from seglib.data.splits import Shape
from seglib.errors import ConfigError

FOREGROUND_KEPT = 500_000


@dataclass(frozen=True)
class TrainingPart:
    """A region that trains, in memory. image: (C, Z, Y, X) raw; target: (Z, Y, X) class ids, 255 not annotated."""

    name: str
    image: NDArray[Any]
    target: NDArray[np.uint8]


@dataclass(frozen=True)
class Batch:
    """images: float32 (N, C, Z, Y, X), normalised; targets: uint8 (N, Z, Y, X)."""

    images: NDArray[np.float32]
    targets: NDArray[np.uint8]


class PatchSampler:
    """Draws batches of patches from the training parts, some of them centred on foreground.

    shape: (z, y, x) of a patch; must fit into every part.
    foreground_share: share of patches (0–1) centred on a labelled voxel.
    Every patch holds an annotated voxel: where some are not, patches at random are centred on one that is.
    Raises ConfigError where a patch is larger than a part, or where nothing is annotated.
    """

    def __init__(
        self,
        parts: Sequence[TrainingPart],
        normalisation: Normalisation,
        *,
        shape: Shape,
        foreground_share: float,
        seed: int,
    ) -> None:
        for part in parts:
            if any(side > room for side, room in zip(shape, part.target.shape, strict=True)):
                raise ConfigError(
                    f"The patch {_sizes(shape)} is larger than the training part of {part.name}, which is "
                    f"{_sizes(part.target.shape)} (z × y × x). Choose a smaller patch."
                )
        self._parts = parts
        self._normalisation = normalisation
        self._shape = shape
        self._foreground_share = foreground_share
        self._seed = seed
        sizes = np.array([np.count_nonzero(part.target != IGNORE) for part in parts], np.float64)
        self._fully = [size == part.target.size for part, size in zip(parts, sizes, strict=True)]
        # Where every voxel is annotated a patch may lie anywhere, and no list is needed.
        self._anywhere = [
            np.empty(0, np.int64) if full else _some(part.target != IGNORE)
            for part, full in zip(parts, self._fully, strict=True)
        ]
        if not sizes.any():
            raise ConfigError("No voxel of the training part is annotated. Look under Labels on the Datasets page.")
        self._weights = sizes / sizes.sum()
        self._foreground = [_some(_is_foreground(part.target)) for part in parts]
        counts = np.array([np.count_nonzero(_is_foreground(part.target)) for part in parts], np.float64)
        self._foreground_weights = counts / counts.sum() if counts.any() else None

    def batch(self, step: int, size: int) -> Batch:
        """The batch of one step. step: counted over the whole run; size: patches in it."""
        rng = np.random.default_rng([self._seed, 2, step])
        patches = [self._patch(rng) for _ in range(size)]
        return Batch(np.stack([image for image, _ in patches]), np.stack([target for _, target in patches]))

    def _patch(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        if self._foreground_weights is not None and rng.random() < self._foreground_share:
            index = int(rng.choice(len(self._parts), p=self._foreground_weights))
            start = self._around(self._foreground[index], self._parts[index], rng)
        else:
            index = int(rng.choice(len(self._parts), p=self._weights))
            part = self._parts[index]
            if self._fully[index]:
                room = part.target.shape
                start = [int(rng.integers(0, side - patch + 1)) for side, patch in zip(room, self._shape, strict=True)]
            else:
                start = self._around(self._anywhere[index], part, rng)
        part = self._parts[index]
        z, y, x = (
            slice(min(max(0, a), whole - side), min(max(0, a), whole - side) + side)
            for a, whole, side in zip(start, part.target.shape, self._shape, strict=True)
        )
        return self._normalisation.apply(part.image[:, z, y, x]), part.target[z, y, x]

    def _around(self, voxels: NDArray[np.int64], part: TrainingPart, rng: np.random.Generator) -> list[int]:
        """Where a patch starts that holds one of these voxels."""
        centre = np.unravel_index(int(rng.choice(voxels)), part.target.shape)
        # Shifted at random, so that objects are not always in the middle of what the network sees.
        shift = [int(rng.integers(-(side // 4), side // 4 + 1)) for side in self._shape]
        return [int(c) - side // 2 + s for c, side, s in zip(centre, self._shape, shift, strict=True)]


def _is_foreground(target: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (target != 0) & (target != IGNORE)


def _some(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Flat indices of voxels of a mask, evenly spread where there are very many."""
    found = np.flatnonzero(mask)
    return found[:: max(1, found.size // FOREGROUND_KEPT)]


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(str(side) for side in shape)
