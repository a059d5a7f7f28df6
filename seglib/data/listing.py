"""Where in the training parts something is labelled: read once, kept as a bounded list of voxels a class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE
from seglib.data.parts import TrainingPart

LISTED = 4_000_000
SLAB_VOXELS = 8_000_000


@dataclass(frozen=True)
class Listing:
    """Of one part. counts: voxels of each class 0 … K, 255 among them; voxels: class -> flat indices of some of them.

    annotated: flat indices of some annotated voxels; empty where every voxel is annotated.
    """

    counts: dict[int, int]
    voxels: dict[int, NDArray[np.int64]]
    annotated: NDArray[np.int64]

    @property
    def annotated_count(self) -> int:
        return sum(count for value, count in self.counts.items() if value != IGNORE)

    @property
    def foreground_count(self) -> int:
        return sum(count for value, count in self.counts.items() if value not in (0, IGNORE))


class _Thinned:
    """A growing list of indices, evenly thinned whenever it gets too long."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._step = 1
        self._seen = 0
        self._kept: list[NDArray[np.int64]] = []
        self._length = 0

    def add(self, found: NDArray[np.int64]) -> None:
        # Every `step`-th of all that were ever seen, wherever this piece begins.
        self._keep(found[-self._seen % self._step :: self._step], found.size)

    def add_range(self, first: int, count: int) -> None:
        """As `add` of `count` indices from `first` on, without making them."""
        self._keep(np.arange(first + -self._seen % self._step, first + count, self._step, dtype=np.int64), count)

    def _keep(self, chosen: NDArray[np.int64], seen: int) -> None:
        self._seen += seen
        self._kept.append(chosen)
        self._length += chosen.size
        while self._length > 2 * self._most:
            whole = np.concatenate(self._kept)[::2].copy()
            self._kept, self._length, self._step = [whole], whole.size, 2 * self._step

    def all(self) -> NDArray[np.int64]:
        return np.concatenate(self._kept) if self._kept else np.empty(0, np.int64)


def list_parts(parts: Sequence[TrainingPart]) -> list[Listing]:
    """A listing of each part; about four million voxels in all, however many and large the parts are."""
    most = max(200, LISTED // max(1, len(parts)))
    return [_listing(part, most) for part in parts]


def _listing(part: TrainingPart, most: int) -> Listing:
    counts: dict[int, int] = {}
    voxels: dict[int, _Thinned] = {}
    annotated = _Thinned(most)
    for first, slab in _slabs(part):
        flat = slab.ravel()
        found = np.bincount(flat, minlength=256)
        present = [int(value) for value in np.flatnonzero(found)]
        for value in present:
            counts[value] = counts.get(value, 0) + int(found[value])
            if value not in (0, IGNORE):
                voxels.setdefault(value, _Thinned(most)).add(np.flatnonzero(flat == value) + first)
        if IGNORE in present:
            annotated.add(np.flatnonzero(flat != IGNORE) + first)
        else:
            annotated.add_range(first, flat.size)
    some = annotated.all() if IGNORE in counts else np.empty(0, np.int64)
    # Many classes share what one would have had alone.
    share = max(100, most // max(1, len(voxels)))
    lists = {value: kept.all() for value, kept in voxels.items()}
    return Listing(counts, {value: kept[:: max(1, kept.size // share)] for value, kept in lists.items()}, some)


def _slabs(part: TrainingPart) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """All of a target, some planes at a time, with the flat index of the first voxel."""
    depth, height, width = part.shape
    planes = max(1, SLAB_VOXELS // (height * width))
    for z in range(0, depth, planes):
        yield z * height * width, part.target[z : z + planes]
