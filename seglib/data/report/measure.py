"""Numbers of one volume: its grey values, its labels, its objects. Read slab by slab, in bounded memory."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE, LabelScheme, Task
from seglib.data.report.objects import ObjectFacts, ObjectTally
from seglib.data.report.signs import Signs, find_signs
from seglib.data.targets import learn
from seglib.data.volumes import Array, Volume, VoxelSize

BINS = 64
PIECES = 32
SLAB_VOXELS = 8_000_000
MOST_PLANES = 512
COUNTABLE = 1 << 20
# A value at an end of the range is clipped where it is met so many times as often as those next to it.
SPIKE = 4.0

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class GreyFacts:
    """Of one channel. low, high: smallest and largest finite value; counts: voxels in 64 equal bins between them.

    black, white: share (0 … 1) of voxels stuck at either end of the range; broken: share that is no finite number.
    """

    low: float
    high: float
    mean: float
    counts: tuple[int, ...]
    black: float
    white: float
    broken: float


@dataclass(frozen=True)
class LabelFacts:
    """counts: class id -> voxels, 0 background, 255 not annotated, as the task `classes` (or else foreground) has it.

    planes: share of every plane that is labelled, of evenly chosen ones where there are more than 512.
    pieces: class id -> axis (z, y, x) -> voxels in each of 32 equal pieces of the volume along it.
    objects: sizes of single objects; None where labels are classes.
    """

    counts: dict[int, int]
    planes: tuple[float, ...]
    pieces: dict[int, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
    objects: ObjectFacts | None

    @property
    def labelled(self) -> int:
        """Voxels of any class but the background."""
        return sum(count for value, count in self.counts.items() if value not in (0, IGNORE))


@dataclass(frozen=True)
class VolumeFacts:
    """All that is known of a volume. shape: (z, y, x); labels: None where it has none."""

    name: str
    group: str
    shape: Shape
    channels: int
    dtype: str
    voxel_size_nm: VoxelSize
    grey: tuple[GreyFacts, ...]
    labels: LabelFacts | None
    signs: Signs

    @property
    def anisotropy(self) -> float:
        """How many times as deep as wide voxels are."""
        return self.voxel_size_nm[0] / max(self.voxel_size_nm[1:])


def measure_volume(
    volume: Volume, scheme: LabelScheme, *, planes_done: Callable[[int], None] = lambda planes: None
) -> VolumeFacts:
    """Reads a volume once. planes_done: told how many planes were read since, of the image and of the labels.

    What it raises ends the measuring.
    """
    grey = tuple(_grey(volume.image, channel, planes_done) for channel in range(volume.channels))
    labels = None
    if volume.labels is not None and scheme.kind != "none":
        labels = _labels(volume.labels, scheme, volume.voxel_size_nm, planes_done)
    return VolumeFacts(
        name=volume.name,
        group=volume.group,
        shape=volume.shape_zyx,
        channels=volume.channels,
        dtype=str(volume.image.dtype),
        voxel_size_nm=volume.voxel_size_nm,
        grey=grey,
        labels=labels,
        signs=find_signs(volume.image, volume.labels if labels else None),
    )


def planes_to_read(volume: Volume) -> int:
    """How many planes `measure_volume` tells about."""
    return volume.shape_zyx[0] * (volume.channels + (volume.labels is not None))


def task_of(scheme: LabelScheme) -> Task:
    """What of the labels is counted: each class, or what is an object."""
    return "classes" if scheme.kind == "classes" and scheme.classes else "foreground"


def _slabs(depth: int, plane_voxels: int) -> Iterator[slice]:
    planes = max(1, SLAB_VOXELS // plane_voxels)
    for z in range(0, depth, planes):
        yield slice(z, min(depth, z + planes))


class _Exact:
    """Counts every value of an integer image, from `first` on."""

    def __init__(self, first: int, values: int) -> None:
        self._first = first
        self._counts = np.zeros(values, np.int64)

    def add(self, values: NDArray[Any]) -> None:
        found = np.bincount(values.ravel().astype(np.int64) - self._first, minlength=len(self._counts))
        self._counts += found

    def facts(self) -> GreyFacts:
        places = np.flatnonzero(self._counts)
        low, high = int(places[0]), int(places[-1])
        counts = self._counts[low : high + 1]
        binned = np.bincount(np.arange(len(counts)) * BINS // len(counts), counts, BINS).astype(int).tolist()
        total = int(counts.sum())
        values = np.arange(low, high + 1) + self._first
        return GreyFacts(
            low=float(low + self._first),
            high=float(high + self._first),
            mean=float((counts * values).sum() / total),
            counts=tuple(binned),
            black=_stuck(counts) / total,
            white=_stuck(counts[::-1]) / total,
            broken=0.0,
        )


def _stuck(counts: NDArray[np.int64]) -> float:
    """Voxels at the first value, where they are far more than at the values next to it; else 0."""
    near = counts[1:11]
    if len(counts) < 16 or not near.size:
        return 0.0
    return float(counts[0]) if counts[0] > SPIKE * max(1.0, float(near.max())) else 0.0


class _Binned:
    """Counts values of any other image in bins between a range that was seen before."""

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high
        self._counts = np.zeros(BINS, np.int64)
        self._sum, self._finite, self._broken = 0.0, 0, 0
        self._at_low, self._at_high = 0, 0

    def add(self, values: NDArray[Any]) -> None:
        numbers = values.astype(np.float64).ravel()
        finite = numbers[np.isfinite(numbers)]
        self._broken += numbers.size - finite.size
        self._finite += finite.size
        self._sum += float(finite.sum())
        self._at_low += int((finite == self._low).sum())
        self._at_high += int((finite == self._high).sum())
        self._counts += np.histogram(finite, BINS, (self._low, max(self._high, self._low + 1e-12)))[0]

    def facts(self) -> GreyFacts:
        total = max(1, self._finite)
        # Of numbers with a fraction, hardly two are the same by chance.
        stuck = [count / total if count > 0.001 * total and self._high > self._low else 0.0
                 for count in (self._at_low, self._at_high)]  # fmt: skip
        return GreyFacts(
            low=self._low,
            high=self._high,
            mean=self._sum / total,
            counts=tuple(int(count) for count in self._counts),
            black=stuck[0],
            white=stuck[1],
            broken=self._broken / max(1, self._finite + self._broken),
        )


def _grey(image: Array, channel: int, planes_done: Callable[[int], None]) -> GreyFacts:
    depth, height, width = image.shape[1:]
    counter = _counter(image, channel)
    for part in _slabs(depth, height * width):
        counter.add(np.asarray(image[channel : channel + 1, part]))
        planes_done(part.stop - part.start)
    return counter.facts()


def _counter(image: Array, channel: int) -> _Exact | _Binned:
    dtype = np.dtype(image.dtype)
    if dtype.kind in "ui" and dtype.itemsize <= 2:
        return _Exact(int(np.iinfo(dtype).min), 2 ** (8 * dtype.itemsize))
    low, high = _range(image, channel)
    if dtype.kind in "ui" and high - low < COUNTABLE:
        return _Exact(int(low), int(high - low) + 1)
    return _Binned(low, high)


def _range(image: Array, channel: int) -> tuple[float, float]:
    """Smallest and largest finite value; 0 and 0 where there is none."""
    low, high = math.inf, -math.inf
    for part in _slabs(image.shape[1], image.shape[2] * image.shape[3]):
        values = np.asarray(image[channel : channel + 1, part])
        values = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _labels(
    labels: Array, scheme: LabelScheme, voxel_size_nm: VoxelSize, planes_done: Callable[[int], None]
) -> LabelFacts:
    shape = (int(labels.shape[0]), int(labels.shape[1]), int(labels.shape[2]))
    tally = ObjectTally(shape, voxel_size_nm) if scheme.kind == "instances" else None
    task = task_of(scheme)
    counts: dict[int, int] = {}
    shares: list[float] = []
    profiles: dict[int, list[NDArray[np.int64]]] = {}
    for part in _slabs(shape[0], shape[1] * shape[2]):
        stored = np.asarray(labels[part])
        classes = learn(stored, scheme, task)
        found = np.bincount(classes.ravel(), minlength=256)
        for value in np.flatnonzero(found).tolist():
            counts[value] = counts.get(value, 0) + int(found[value])
            along = profiles.setdefault(value, [np.zeros(side, np.int64) for side in shape])
            mask = classes == value
            along[0][part] += mask.sum((1, 2))
            along[1] += mask.sum((0, 2))
            along[2] += mask.sum((0, 1))
        shares += (((classes > 0) & (classes != IGNORE)).mean((1, 2))).tolist()
        if tally:
            tally.add(np.where((classes > 0) & (classes != IGNORE), stored, 0), part.start)
        planes_done(part.stop - part.start)
    step = max(1, -(-len(shares) // MOST_PLANES))
    pieces = {value: tuple(_in_pieces(axis) for axis in along) for value, along in profiles.items()}
    return LabelFacts(
        counts=counts,
        planes=tuple(round(share, 6) for share in shares[::step]),
        pieces={value: (z, y, x) for value, (z, y, x) in pieces.items()},
        objects=tally.facts() if tally else None,
    )


def _in_pieces(profile: NDArray[np.int64]) -> tuple[int, ...]:
    """Sums over 32 pieces that are equally long, or differ by one."""
    sums = np.zeros(PIECES, np.int64)
    np.add.at(sums, np.arange(len(profile)) * PIECES // len(profile), profile)
    return tuple(sums.tolist())
