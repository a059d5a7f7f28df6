"""Sizes of single objects, counted slab by slab however many there are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from seglib.data.volumes import VoxelSize

SIZE_BINS = 24
COUNTABLE = 1 << 26


@dataclass(frozen=True)
class ObjectFacts:
    """count: how many. diameters_nm: 5 %, median and 95 % of the diameters of balls (discs in 2D) of the same size.

    counts: objects in 24 bins of equal ratio between smallest_nm and largest_nm.
    extents: (z, y, x) in voxels that hold 90 % of the objects. thickness: median of their smallest side, in voxels.
    specks: how many have fewer than 4 voxels. Objects that are cut by an end of the volume count for neither.
    """

    count: int
    diameters_nm: tuple[float, float, float]
    smallest_nm: float
    largest_nm: float
    counts: tuple[int, ...]
    extents: tuple[int, int, int]
    thickness: float
    specks: int


class ObjectTally:
    """Voxels and box of every id of a volume, slab after slab."""

    def __init__(self, shape_zyx: tuple[int, int, int], voxel_size_nm: VoxelSize) -> None:
        self._shape = shape_zyx
        self._voxel_size_nm = voxel_size_nm
        self._parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []

    def add(self, ids_zyx: NDArray[Any], first_plane: int) -> None:
        """Counts one slab; 0 is no object."""
        values, compact, counts = _compact(ids_zyx)
        if not values.size:
            return
        boxes = ndimage.find_objects(compact)
        offset = np.array([first_plane, 0, 0], np.int64)
        low = offset + [[part.start for part in box] for box in boxes]
        high = offset + [[part.stop for part in box] for box in boxes]
        self._parts.append((values, counts, low, high))

    def facts(self) -> ObjectFacts:
        """Of all objects seen."""
        if not self._parts:
            return ObjectFacts(0, (0.0, 0.0, 0.0), 0.0, 0.0, (0,) * SIZE_BINS, (0, 0, 0), 0.0, 0)
        ids, place = np.unique(np.concatenate([part[0] for part in self._parts]), return_inverse=True)
        voxels = np.zeros(len(ids), np.int64)
        np.add.at(voxels, place, np.concatenate([part[1] for part in self._parts]))
        low = np.full((len(ids), 3), np.iinfo(np.int64).max)
        high = np.zeros((len(ids), 3), np.int64)
        np.minimum.at(low, place, np.concatenate([part[2] for part in self._parts]))
        np.maximum.at(high, place, np.concatenate([part[3] for part in self._parts]))
        diameters = self._diameters_nm(voxels)
        smallest, largest = float(diameters.min()), float(diameters.max())
        edges = np.geomspace(smallest, max(largest, smallest * 1.001), SIZE_BINS + 1)
        sides = high - low
        z, y, x = (int(side) for side in np.ceil(np.percentile(sides, 90, axis=0)))
        flat = self._shape[0] == 1
        whole = ((low > 0) & (high < self._shape))[:, 1 if flat else 0 :].all(1)
        thickness = sides[:, 1 if flat else 0 :].min(1)
        five, half, most = (float(value) for value in np.percentile(diameters, [5, 50, 95]))
        return ObjectFacts(
            count=len(ids),
            diameters_nm=(five, half, most),
            smallest_nm=smallest,
            largest_nm=largest,
            counts=tuple(np.histogram(diameters.clip(edges[0], edges[-1]), edges)[0].tolist()),
            extents=(z, y, x),
            thickness=float(np.median(thickness[whole] if whole.any() else thickness)),
            specks=int((voxels[whole] < 4).sum()),
        )

    def _diameters_nm(self, voxels: NDArray[np.int64]) -> NDArray[np.float64]:
        z, y, x = self._voxel_size_nm
        if self._shape[0] == 1:
            return np.sqrt(voxels * (y * x * 4 / np.pi))
        return np.cbrt(voxels * (z * y * x * 6 / np.pi))


def _compact(ids_zyx: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
    """Ids that occur, the slab with them numbered 1 …, and how many voxels each has."""
    largest = int(ids_zyx.max(initial=0))
    if largest < COUNTABLE:
        counts = np.bincount(ids_zyx.ravel())
        counts[0] = 0
        values = np.flatnonzero(counts)
        table = np.zeros(len(counts), np.int32)
        table[values] = np.arange(1, len(values) + 1)
        return values, table[ids_zyx], counts[values]
    found, place, counts = np.unique(ids_zyx, return_inverse=True, return_counts=True)
    first = int(found[0] == 0)
    compact = place.reshape(ids_zyx.shape).astype(np.int32) + (1 - first)
    return found[first:].astype(np.int64), compact, counts[first:]
