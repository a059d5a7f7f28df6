"""The parts of volumes that train or judge: in memory where that allows, otherwise read as they are needed.

Whatever reads a part sees its region alone. What lies beyond, which may belong to another part, cannot be reached.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE, LabelScheme, Task
from seglib.data.splits import Region, Shape
from seglib.data.targets import learn, margin
from seglib.data.volumes import Array, Volume

Start = tuple[int, int, int]


class Target(Protocol):
    """Class ids (Z, Y, X) as uint8, 255 not annotated: an array, or what reads one, sliced by three slices."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def size(self) -> int: ...
    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class TrainingPart:
    """A region that trains or judges. image: (C, Z, Y, X) raw; target: (Z, Y, X) class ids."""

    name: str
    image: Array
    target: Target

    @property
    def shape(self) -> Shape:
        z, y, x = self.target.shape
        return z, y, x

    @property
    def in_memory(self) -> bool:
        return isinstance(self.image, np.ndarray)

    def patch(self, start: Start, shape: Shape) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Image (C, *shape) and target (*shape) of a window; both may stick out of the part on any side.

        What sticks out is mirrored in the image and not annotated in the target.
        """
        box, added = _inside(start, shape, self.shape)
        return self.image_at(start, shape), np.pad(self.target[box], added, constant_values=IGNORE)

    def image_at(self, start: Start, shape: Shape) -> NDArray[Any]:
        """The image (C, *shape) of a window, mirrored where it sticks out."""
        box, added = _inside(start, shape, self.shape)
        if not np.any(added):
            return np.asarray(self.image[(slice(None), *box)])
        places = [_mirrored(first, side, whole) for first, side, whole in zip(start, shape, self.shape, strict=True)]
        image = np.asarray(self.image[(slice(None), *(slice(p.min(), p.max() + 1) for p in places))])
        for axis, place in enumerate(places, 1):
            image = np.take(image, place - place.min(), axis)
        return image

    def target_at(self, start: Start, shape: Shape) -> NDArray[np.uint8]:
        """What of the target (Z, Y, X) lies in a window; smaller than `shape` where the window sticks out."""
        return self.target[_inside(start, shape, self.shape)[0]]


class RegionView:
    """A box of an image (C, Z, Y, X) on disk that is sliced like an array of its own."""

    def __init__(self, image: Array, region: Region) -> None:
        self._image = image
        self._region = region
        self.shape = (int(image.shape[0]), *region.shape)
        self.dtype = image.dtype

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        keys = key if isinstance(key, tuple) else (key,)
        whole = (*keys, *[slice(None)] * (4 - len(keys)))
        return np.asarray(self._image[(whole[0], *_moved(whole[1:], self._region))])


class TargetView:
    """The target of a region, made from labels on disk as it is read."""

    def __init__(self, labels: Array, region: Region, scheme: LabelScheme, task: Task) -> None:
        self._labels = labels
        self._region = region
        self._scheme = scheme
        self._task: Task = task
        self.shape = region.shape

    @property
    def size(self) -> int:
        z, y, x = self.shape
        return z * y * x

    def __getitem__(self, key: Any, /) -> NDArray[np.uint8]:
        keys = key if isinstance(key, tuple) else (key,)
        wanted = _moved((*keys, *[slice(None)] * (3 - len(keys))), self._region)
        reach = margin(self._scheme)
        # Borders depend on neighbours, of this region only.
        read = [
            slice(max(low, part.start - reach), min(high, part.stop + reach))
            for part, low, high in zip(wanted, self._region.start, self._region.stop, strict=True)
        ]
        target = learn(np.asarray(self._labels[tuple(read)]), self._scheme, self._task)
        z, y, x = (slice(w.start - r.start, w.stop - r.start) for w, r in zip(wanted, read, strict=True))
        return target[z, y, x]


def part_bytes(volume: Volume, region: Region) -> int:
    """Memory a part takes when it is kept there: the image as stored, and a byte a voxel for the target."""
    voxels = int(np.prod(region.shape))
    return voxels * (volume.channels * volume.image.dtype.itemsize + 1)


def open_parts(
    volumes: Sequence[Volume], regions: Sequence[Region], *, scheme: LabelScheme, task: Task, memory_bytes: int
) -> tuple[tuple[TrainingPart, ...], int]:
    """The parts of these regions, and how many bytes of memory those kept there take.

    Of a volume without labels no voxel is annotated.
    memory_bytes: the smallest are kept in memory as far as this goes, the others are read as they are needed.
    """
    order = sorted(range(len(regions)), key=lambda i: part_bytes(volumes[regions[i].volume], regions[i]))
    used, kept = 0, set()
    for index in order:
        needed = part_bytes(volumes[regions[index].volume], regions[index])
        if used + needed > memory_bytes:
            break
        used += needed
        kept.add(index)

    def opened(index: int, region: Region) -> TrainingPart:
        volume = volumes[region.volume]
        image = RegionView(volume.image, region) if index not in kept else _read(volume.image, region)
        if volume.labels is None:
            # One byte stands for all voxels.
            return TrainingPart(volume.name, image, np.broadcast_to(np.uint8(IGNORE), region.shape))
        if index not in kept:
            return TrainingPart(volume.name, image, TargetView(volume.labels, region, scheme, task))
        return TrainingPart(volume.name, image, learn(np.asarray(volume.labels[region.slices]), scheme, task))

    return tuple(opened(index, region) for index, region in enumerate(regions)), used


def _read(image: Array, region: Region) -> NDArray[Any]:
    return np.asarray(image[(slice(None), *region.slices)])


def _moved(key: Sequence[Any], region: Region) -> tuple[slice, ...]:
    """Slices of a region as slices of its volume. Steps other than 1 are not for data on disk."""
    result = []
    for part, low, side in zip(key, region.start, region.shape, strict=True):
        start, stop, step = part.indices(side)
        if step != 1:
            raise IndexError("A part on disk is read without gaps.")
        result.append(slice(low + start, low + max(start, stop)))
    return tuple(result)


def _inside(start: Start, shape: Shape, room: Shape) -> tuple[tuple[slice, ...], list[tuple[int, int]]]:
    """What of a window lies inside, and how much sticks out at both ends of each axis."""
    box, added = [], []
    for first, side, whole in zip(start, shape, room, strict=True):
        low, high = max(0, first), min(whole, first + side)
        if high <= low:
            raise IndexError(f"The window from {start} of {shape} lies outside of {room}.")
        box.append(slice(low, high))
        added.append((low - first, first + side - high))
    return tuple(box), added


def _mirrored(first: int, side: int, whole: int) -> NDArray[np.int64]:
    """Which of `whole` voxels stand at `side` places from `first` on, where both ends are mirrors."""
    place = np.arange(first, first + side) % (2 * whole)
    return np.minimum(place, 2 * whole - 1 - place)
