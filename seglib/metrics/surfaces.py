"""How far predicted surfaces are from true ones, in nm, exact over several volumes.

A surface is every voxel of a class with a face towards another class or the end of the volume; in volumes of one
plane with an edge, so that these are compared as the 2D images they are. Voxels that were not annotated are on no
surface, and a face towards them makes none, as nobody knows what lies there. Distances run between voxel centres.

Each voxel of either surface has a distance to the nearest of the other. Volumes are pooled: all their distances
count as if they were of one volume, so that large surfaces weigh more. This is not the mean of scores of volumes.
Where one side has no surface in a volume, the distances of the other are infinite.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from seglib.config.labels import IGNORE
from seglib.errors import ConfigError, DataError
from seglib.metrics.overlap import named_scores

Box = tuple[slice, ...]
MOST_THREADS = 8
# One search for the nearest point takes as long as the distance transform of so many voxels.
DENSE = 20
# Distances are float32, so that one of exactly the tolerance may come out a little above it.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Distances:
    """How many surface voxels are how far from the other surface; adds up exactly.

    nm: float32 (n,), ascending, no value twice, inf where there is no other surface. voxels: int64 (n,), all > 0.
    """

    nm: NDArray[np.float32]
    voxels: NDArray[np.int64]

    def __add__(self, other: "Distances") -> "Distances":
        nm, of = np.unique(np.concatenate([self.nm, other.nm]), return_inverse=True)
        voxels = np.zeros(nm.size, np.int64)
        np.add.at(voxels, of, np.concatenate([self.voxels, other.voxels]))
        return Distances(nm, voxels)

    @property
    def count(self) -> int:
        """How many voxels the surface has."""
        return int(self.voxels.sum())

    @property
    def total(self) -> float:
        """Sum of the distances in nm."""
        return float(self.nm.astype(np.float64) @ self.voxels)

    def percentile(self, percent: float) -> float:
        """The distance in nm that `percent` (0–100) of the voxels keep, between two linearly; NaN without voxels."""
        if not self.count:
            return math.nan
        place = percent / 100 * (self.count - 1)
        up_to = self.voxels.cumsum()
        low, high = (
            float(self.nm[np.searchsorted(up_to, rank, side="right")]) for rank in (math.floor(place), math.ceil(place))
        )
        return low if low == high else low + (high - low) * (place - math.floor(place))

    def within(self, tolerance_nm: float) -> int:
        """How many voxels are at most so far away."""
        most = np.float32(tolerance_nm * (1 + ROUNDING))
        return int(self.voxels[: np.searchsorted(self.nm, most, side="right")].sum())


@dataclass(frozen=True)
class Surfaces:
    """What surface scores are made of; adds up over volumes.

    to_truth: K, from predicted surfaces to true ones; to_prediction: K, the other way round.
    """

    to_truth: tuple[Distances, ...]
    to_prediction: tuple[Distances, ...]

    def __add__(self, other: "Surfaces") -> "Surfaces":
        return Surfaces(
            tuple(one + more for one, more in zip(self.to_truth, other.to_truth, strict=True)),
            tuple(one + more for one, more in zip(self.to_prediction, other.to_prediction, strict=True)),
        )


def no_surfaces(classes: int) -> Surfaces:
    """Surfaces to add to."""
    none = _pooled(np.zeros(0, np.float32))
    return Surfaces((none,) * classes, (none,) * classes)


def measure_surfaces(
    prediction: Any, truth: Any, classes: int, *, voxel_size_nm: tuple[float, float, float]
) -> Surfaces:
    """Surface distances of a whole volume. prediction, truth: class ids 0 … K, unsigned (Z, Y, X); classes: K.

    Truth 255 was not annotated. Arrays, or what is read by slices such as Zarr arrays; a class takes about 15 bytes
    a voxel of the box around it. Raises DataError where shapes differ or are not 3D.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    if prediction.shape != truth.shape or truth.ndim != 3:
        raise DataError(
            f"The prediction is {prediction.shape} and the truth {truth.shape}, but surfaces are measured between "
            "two volumes of one shape (Z, Y, X)."
        )
    none = _pooled(np.zeros(0, np.float32))
    pairs = [
        _measure(prediction[box] == k, truth[box] == k, truth[box] != IGNORE, voxel_size_nm) if box else (none, none)
        for k, box in enumerate(_boxes(prediction, truth, classes), 1)
    ]
    return Surfaces(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))


def hausdorff95(surfaces: Surfaces) -> NDArray[np.float64]:
    """95 % Hausdorff distance in nm per class: what 95 % of either surface keep to the other, the larger of the two.

    NaN where the truth has no surface, inf where the prediction has none. As MONAI's with `percentile=95`.
    """
    return _per_class(surfaces, lambda one, other: np.fmax(one.percentile(95), other.percentile(95)))


def surface_distance(surfaces: Surfaces) -> NDArray[np.float64]:
    """Average symmetric surface distance in nm per class: the mean over the voxels of both surfaces.

    NaN where the truth has no surface, inf where the prediction has none. As MONAI's with `symmetric=True`.
    """
    return _per_class(surfaces, lambda one, other: (one.total + other.total) / (one.count + other.count))


def surface_dice(surfaces: Surfaces, tolerance_nm: float) -> NDArray[np.float64]:
    """Normalised surface distance per class: the share of both surfaces at most `tolerance_nm` from the other.

    NaN where the truth has no surface, 0 where the prediction has none. As MONAI's, which counts voxels of surfaces
    rather than their area; Nikolov et al. 2018. Raises ConfigError where the tolerance is negative or not finite.
    """
    if not 0 <= tolerance_nm < math.inf:
        raise ConfigError(f"The tolerance is {tolerance_nm} nm; it must be 0 or a finite number above.")

    def near(one: Distances, other: Distances) -> float:
        return (one.within(tolerance_nm) + other.within(tolerance_nm)) / (one.count + other.count)

    return _per_class(surfaces, near)


def surface_scores(surfaces: Surfaces, names: Sequence[str], *, tolerance_nm: float) -> dict[str, float]:
    """Every score by its name: `hausdorff95` is the mean over classes, `hausdorff95/axon` that of one. names: K.

    Distances are in nm and inf where a class was not predicted; `surface_dice` is 0–1; NaN as the functions say.
    """
    return named_scores(
        {
            "hausdorff95": hausdorff95(surfaces),
            "surface_distance": surface_distance(surfaces),
            "surface_dice": surface_dice(surfaces, tolerance_nm),
        },
        names,
    )


def _boxes(prediction: NDArray[Any], truth: NDArray[Any], classes: int) -> Iterator[Box | None]:
    """For each class the box around it in both volumes and its neighbours; None where it is in neither."""
    found = (ndimage.find_objects(volume, max_label=classes) for volume in (prediction, truth))
    for boxes in zip(*found, strict=True):
        there = [box for box in boxes if box]
        yield (
            tuple(
                slice(max(0, min(one.start for one in of_axis) - 1), max(one.stop for one in of_axis) + 1)
                for of_axis in zip(*there, strict=True)
            )
            or None
        )


def _measure(
    predicted: NDArray[np.bool_],
    real: NDArray[np.bool_],
    annotated: NDArray[np.bool_],
    voxel_size_nm: tuple[float, float, float],
) -> tuple[Distances, Distances]:
    """Distances from the predicted surface to the real one, and the other way round."""
    predicted_surface, real_surface = _surface(predicted, annotated), _surface(real, annotated)
    return (
        _distances(predicted_surface, real_surface, voxel_size_nm),
        _distances(real_surface, predicted_surface, voxel_size_nm),
    )


def _surface(mask: NDArray[np.bool_], annotated: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Annotated voxels of the mask next to one that is annotated and not of it, or to the end of the volume."""
    filled = np.pad(mask | ~annotated, 1)
    inner = np.ones_like(mask)
    for axis, length in enumerate(mask.shape):
        for shift in (0, 2) if length > 1 else ():
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(shift, shift + length)
            inner &= filled[tuple(window)]
    return mask & annotated & ~inner


def _distances(
    start: NDArray[np.bool_], goal: NDArray[np.bool_], voxel_size_nm: tuple[float, float, float]
) -> Distances:
    """Distances of the voxels of `start` to the nearest of `goal`; inf where there is none."""
    voxels = np.count_nonzero(start)
    if not voxels or not goal.any():
        return _pooled(np.full(voxels, np.inf, np.float32))
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    if voxels * DENSE > start.size:
        import edt  # type: ignore[import-not-found]  # compiled, without types

        return _pooled(np.sqrt(edt.edtsq(~goal, anisotropy=voxel_size_nm, parallel=threads)[start]))
    apart = np.argwhere(start & ~goal)
    # Balancing takes longer than it saves where points are as evenly spread as these.
    tree = KDTree(np.argwhere(goal) * np.array(voxel_size_nm), leafsize=32, balanced_tree=False, compact_nodes=False)
    far, _ = tree.query(apart * np.array(voxel_size_nm), workers=threads)
    return _pooled(far.astype(np.float32)) + _pooled(np.zeros(voxels - len(apart), np.float32))


def _pooled(nm: NDArray[np.float32]) -> Distances:
    values, voxels = np.unique(nm, return_counts=True)
    return Distances(values, voxels.astype(np.int64))


def _per_class(surfaces: Surfaces, score: Callable[[Distances, Distances], float]) -> NDArray[np.float64]:
    """The score of each class whose truth has a surface, NaN for others."""
    pairs = zip(surfaces.to_truth, surfaces.to_prediction, strict=True)
    return np.array([score(one, other) if other.count else math.nan for one, other in pairs], np.float64)
