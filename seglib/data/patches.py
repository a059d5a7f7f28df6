"""Which patches make up a training step, and reading them.

They follow from the seed and the step alone, so steps can be read ahead and a resumed run goes on exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from seglib.config import (
    ClassSamplingConfig,
    GridSamplingConfig,
    RandomSamplingConfig,
    SamplingConfig,
    WholeSamplingConfig,
)
from seglib.config.labels import IGNORE
from seglib.data.listing import Listing, list_parts
from seglib.data.normalise import Normalisation
from seglib.data.parts import Start, TrainingPart
from seglib.data.splits import Shape
from seglib.errors import ConfigError

MOST_TRIES = 50


@dataclass(frozen=True)
class Batch:
    """images: float32 (N, C, Z, Y, X), normalised; targets: uint8 (N, Z, Y, X), 255 not to be learned."""

    images: NDArray[np.float32]
    targets: NDArray[np.uint8]


@dataclass(frozen=True)
class Window:
    """A place in a part. start: (z, y, x), which may lie before the part; shape: (z, y, x)."""

    part: int
    start: Start
    shape: Shape


@dataclass(frozen=True)
class Extent:
    """How much is read of a part at once, each (z, y, x).

    shape: of a patch, see `fitting_patch`; stride: what sides of whole volumes are rounded up to.
    reach: how much more is read around every patch, on both sides, for augmentation to turn it in.
    """

    shape: Shape
    stride: Shape = (1, 1, 1)
    reach: Shape = (0, 0, 0)


def fitting_patch(wanted: Shape, shapes: Sequence[Shape], stride: Shape) -> Shape:
    """The patch that is drawn: as wanted, but no larger than the largest part, rounded up to the network's stride."""
    largest = np.max(np.array(shapes), axis=0)
    z, y, x = (
        min(side, -(-int(room) // step) * step) for side, room, step in zip(wanted, largest, stride, strict=True)
    )
    return z, y, x


def patches_per_epoch(config: SamplingConfig, shapes: Sequence[Shape], patch: Shape) -> int:
    """How many patches make one epoch over training parts of these shapes (z, y, x)."""
    match config:
        case GridSamplingConfig():
            return sum(len(grid_starts(shape, patch, config.overlap)) for shape in shapes)
        case WholeSamplingConfig():
            return len(shapes)
        case RandomSamplingConfig() | ClassSamplingConfig():
            return config.per_volume * len(shapes) or config.per_epoch


def grid_starts(room: Shape, patch: Shape, overlap: float) -> NDArray[np.int64]:
    """Where windows start that cover a part end to end, (N, 3); the last of a row is pulled back inside."""
    axes = []
    for whole, side in zip(room, patch, strict=True):
        last, step = max(0, whole - side), max(1, side - round(overlap * side))
        axes.append(np.array([*range(0, last, step), last]))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)


class PatchSampler:
    """Draws batches of patches from the training parts.

    Every patch drawn by chance holds an annotated voxel; with `anywhere` labels are not looked at.
    Raises ConfigError where nothing is annotated.
    """

    def __init__(
        self,
        parts: Sequence[TrainingPart],
        normalisation: Normalisation,
        config: SamplingConfig,
        extent: Extent,
        *,
        seed: int = 0,
        anywhere: bool = False,
    ) -> None:
        self._parts = parts
        self._normalisation = normalisation
        self._config = config
        self.shape = extent.shape
        self._extent = extent
        self._seed = seed
        self.per_epoch = patches_per_epoch(config, [part.shape for part in parts], extent.shape)
        self._anywhere = anywhere
        self._listings = [] if anywhere else list_parts(parts)
        if not anywhere and not any(listing.annotated_count for listing in self._listings):
            raise ConfigError("No voxel of the training part is annotated. Look under Labels on the Datasets page.")

    def class_shares(self, classes: int) -> tuple[float, ...]:
        """How much of the annotated voxels of the training parts background and each class 1 … `classes` are."""
        counts = _counts(self._listings, range(classes + 1)).sum(0)
        return tuple((counts / max(1.0, counts.sum())).tolist())

    def batch(self, step: int, size: int, share: slice = slice(None)) -> Batch:
        """The batch of one step. step: counted over the whole run; size: patches in it; share: which are read.

        Patches are larger than `shape` by `reach` on each side.
        """
        windows = self.windows(step, size)[share]
        patches = [self._read(window) for window in windows]
        largest = np.max([target.shape for _, target in patches], axis=0)
        images, targets = zip(*(_padded(image, target, largest) for image, target in patches), strict=True)
        return Batch(np.stack(images), np.stack(targets))

    def windows(self, step: int, size: int) -> list[Window]:
        """Where the patches of one step lie."""
        rng = np.random.default_rng([self._seed, 2, step])
        match self._config:
            case GridSamplingConfig() | WholeSamplingConfig():
                return self._ordered(step, size)
            case RandomSamplingConfig() | ClassSamplingConfig() as config:
                return [self._drawn(config, rng) for _ in range(size)]

    def _ordered(self, step: int, size: int) -> list[Window]:
        """The patches of a step where they have an order, a new one in every epoch; every patch once an epoch.

        The last batch is filled up with the first ones.
        """
        epoch, step_of_epoch = divmod(step, -(-self.per_epoch // size))
        order = np.random.default_rng([self._seed, 4, epoch]).permutation(self.per_epoch)
        return [self._places[order[(step_of_epoch * size + place) % self.per_epoch]] for place in range(size)]

    @cached_property
    def _places(self) -> list[Window]:
        """All places of a grid, or all whole parts."""
        if isinstance(self._config, GridSamplingConfig):
            return [
                Window(index, (int(z), int(y), int(x)), self.shape)
                for index, part in enumerate(self._parts)
                for z, y, x in grid_starts(part.shape, self.shape, self._config.overlap)
            ]
        return [
            Window(index, (0, 0, 0), _rounded(part.shape, self._extent.stride))
            for index, part in enumerate(self._parts)
        ]

    def _drawn(self, config: RandomSamplingConfig | ClassSamplingConfig, rng: np.random.Generator) -> Window:
        """A window drawn by chance; with too much background it is drawn again, a limited number of times."""
        best, least = self._one(config, rng), np.inf
        if config.background_most >= 1:
            return best
        for _ in range(MOST_TRIES):
            window = self._one(config, rng)
            target = self._parts[window.part].target_at(window.start, window.shape)
            background = float((target == 0).mean())
            if background < least:
                best, least = window, background
            if background <= config.background_most:
                break
        return best

    def _one(self, config: RandomSamplingConfig | ClassSamplingConfig, rng: np.random.Generator) -> Window:
        if not self._anywhere and rng.random() < config.foreground_share and self._classes:
            weights = self._class_weights if isinstance(config, ClassSamplingConfig) else self._foreground_weights
            index, value = divmod(int(rng.choice(weights.size, p=weights.ravel())), len(self._classes))
            return self._around(index, self._listings[index].voxels[self._classes[value]], rng)
        index = int(rng.choice(len(self._parts), p=self._part_weights))
        if not self._anywhere and self._listings[index].annotated.size:
            return self._around(index, self._listings[index].annotated, rng)
        room = self._parts[index].shape
        start = [int(rng.integers(0, max(0, r - s) + 1)) for r, s in zip(room, self.shape, strict=True)]
        return Window(index, (start[0], start[1], start[2]), self.shape)

    @cached_property
    def _classes(self) -> list[int]:
        return sorted({value for listing in self._listings for value in listing.voxels})

    @cached_property
    def _part_weights(self) -> NDArray[np.float64]:
        if self._anywhere:
            counts = np.array([part.target.size for part in self._parts], np.float64)
        else:
            counts = np.array([listing.annotated_count for listing in self._listings], np.float64)
        return counts / counts.sum()

    @cached_property
    def _foreground_weights(self) -> NDArray[np.float64]:
        """(parts, classes): by how many voxels of a class there are in a part."""
        counts = _counts(self._listings, self._classes)
        return counts / counts.sum()

    @cached_property
    def _class_weights(self) -> NDArray[np.float64]:
        """(parts, classes): every class as much as the others."""
        counts = _counts(self._listings, self._classes)
        return counts / counts.sum(0) / len(self._classes)

    def _around(self, index: int, voxels: NDArray[np.int64], rng: np.random.Generator) -> Window:
        """A window that holds one of these voxels, off its middle, and as far as it can inside the part."""
        room = self._parts[index].shape
        centre = np.unravel_index(int(rng.choice(voxels)), room)
        start = []
        for middle, side, whole in zip(centre, self.shape, room, strict=True):
            first = int(middle) - side // 2 + int(rng.integers(-(side // 4), side // 4 + 1))
            start.append(min(max(0, first), max(0, whole - side)))
        return Window(index, (start[0], start[1], start[2]), self.shape)

    def _read(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        z, y, x = (first - more for first, more in zip(window.start, self._extent.reach, strict=True))
        shape = [side + 2 * more for side, more in zip(window.shape, self._extent.reach, strict=True)]
        image, target = self._parts[window.part].patch((z, y, x), (shape[0], shape[1], shape[2]))
        return self._normalisation.apply(image), target


def _counts(listings: Sequence[Listing], classes: Sequence[int]) -> NDArray[np.float64]:
    return np.array([[listing.counts.get(value, 0) for value in classes] for listing in listings], np.float64)


def _padded(
    image: NDArray[np.float32], target: NDArray[np.uint8], shape: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A patch made as large as the others of its batch: the image mirrored, the target not annotated."""
    missing = [(0, int(want) - have) for want, have in zip(shape, target.shape, strict=True)]
    if not any(after for _, after in missing):
        return image, target
    return np.pad(image, [(0, 0), *missing], mode="symmetric"), np.pad(target, missing, constant_values=IGNORE)


def _rounded(shape: Shape, stride: Shape) -> Shape:
    z, y, x = (-(-side // step) * step for side, step in zip(shape, stride, strict=True))
    return z, y, x
