"""Where the next training patch comes from, and reading it.

Which patches make up a step follows from the seed and the step alone, so a resumed run goes on exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.data.normalise import Normalisation
from seglib.data.splits import Shape
from seglib.errors import ConfigError

FOREGROUND_KEPT = 500_000


@dataclass(frozen=True)
class TrainingPart:
    """A region that trains, in memory. image: (C, Z, Y, X) raw; target: (Z, Y, X) class ids."""

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
    Raises ConfigError where a patch is larger than a part.
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
        sizes = np.array([part.target.size for part in parts], np.float64)
        self._weights = sizes / sizes.sum()
        self._foreground = [_some_foreground(part.target) for part in parts]
        counts = np.array([np.count_nonzero(part.target) for part in parts], np.float64)
        self._foreground_weights = counts / counts.sum() if counts.any() else None

    def batch(self, step: int, size: int) -> Batch:
        """The batch of one step. step: counted over the whole run; size: patches in it."""
        rng = np.random.default_rng([self._seed, 2, step])
        patches = [self._patch(rng) for _ in range(size)]
        return Batch(np.stack([image for image, _ in patches]), np.stack([target for _, target in patches]))

    def _patch(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        if self._foreground_weights is not None and rng.random() < self._foreground_share:
            index = int(rng.choice(len(self._parts), p=self._foreground_weights))
            room = self._parts[index].target.shape
            centre = np.unravel_index(int(rng.choice(self._foreground[index])), room)
            # Shifted at random, so that objects are not always in the middle of what the network sees.
            shift = [int(rng.integers(-(side // 4), side // 4 + 1)) for side in self._shape]
            start = [int(c) - side // 2 + s for c, side, s in zip(centre, self._shape, shift, strict=True)]
        else:
            index = int(rng.choice(len(self._parts), p=self._weights))
            room = self._parts[index].target.shape
            start = [int(rng.integers(0, side - patch + 1)) for side, patch in zip(room, self._shape, strict=True)]
        z, y, x = (
            slice(min(max(0, a), whole - side), min(max(0, a), whole - side) + side)
            for a, whole, side in zip(start, room, self._shape, strict=True)
        )
        part = self._parts[index]
        return self._normalisation.apply(part.image[:, z, y, x]), part.target[z, y, x]


def _some_foreground(target: NDArray[np.uint8]) -> NDArray[np.int64]:
    found = np.flatnonzero(target)
    return found[:: max(1, found.size // FOREGROUND_KEPT)]


def _sizes(shape: Sequence[int]) -> str:
    return " × ".join(str(side) for side in shape)
