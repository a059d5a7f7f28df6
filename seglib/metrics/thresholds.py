"""Above which probability a class is best called found, from histograms that add up exactly over tiles and volumes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE
from seglib.errors import DataError
from seglib.metrics.overlap import PIECE, Counts, check_ids, dice, joint_histogram

# Thresholds are 1/200 … 199/200. A step holds probabilities above its lower and up to its upper threshold.
STEPS = 200


@dataclass(frozen=True)
class Threshold:
    """value: 0–1, a voxel is the class where its probability is above it. dice: 0–1 there; NaN for an absent class."""

    value: float
    dice: float


@dataclass(frozen=True)
class Probabilities:
    """How probable each class was where it is, and where it is not.

    inside, outside: int64 (K, 201), annotated voxels by ⌈200 · probability⌉.
    """

    inside: NDArray[np.int64]
    outside: NDArray[np.int64]

    def __add__(self, other: "Probabilities") -> "Probabilities":
        return Probabilities(self.inside + other.inside, self.outside + other.outside)


def no_probabilities(classes: int) -> Probabilities:
    """Histograms to add to."""
    zero = np.zeros((classes, STEPS + 1), np.int64)
    return Probabilities(zero, zero)


def count_probabilities(probabilities: NDArray[np.float32], truth: NDArray[Any]) -> Probabilities:
    """Histograms of a tile. probabilities: float32 (K, …), 0–1; truth: class ids 0 … K (…), uint8 is quickest.

    Voxels whose truth is 255 were not annotated and are left out. Raises DataError where the shapes do not fit, or
    the truth holds an id above K.
    """
    classes, *shape = probabilities.shape
    if tuple(shape) != truth.shape:
        raise DataError(f"Probabilities (classes, …) are {probabilities.shape}, but the truth is {truth.shape}.")
    flat, ids = probabilities.reshape(classes, -1), truth.ravel()
    pairs = np.zeros((classes, IGNORE + 1, STEPS + 1), np.int64)
    for first in range(0, ids.size, PIECE):
        piece = slice(first, first + PIECE)
        for histogram, values in zip(pairs, flat, strict=True):
            histogram += _by_step(ids[piece], values[piece])
    annotated = pairs[:, :IGNORE]
    check_ids(annotated.sum((0, 2)), classes, "truth")
    inside = annotated[np.arange(classes), np.arange(1, classes + 1)]
    return Probabilities(inside, annotated.sum(1) - inside)


def best_thresholds(probabilities: Probabilities) -> tuple[Threshold, ...]:
    """The threshold with the highest Dice for each class, each judged by itself against the rest.

    Of equally good ones the nearest to 0.5 is taken, then the lower. A class that the truth does not hold gets 0.5.
    Where voxels get the likeliest of several classes, the Dice after that may differ from the one told here.
    """
    # Column i counts voxels above i/200.
    hits = _above(probabilities.inside)
    false_alarms = _above(probabilities.outside)
    misses = probabilities.inside.sum(1, keepdims=True) - hits
    scores = dice(Counts(hits, false_alarms, misses))
    # By distance to 0.5, so that argmax finds the nearest of equals first.
    steps = np.array(sorted(range(1, STEPS), key=lambda step: abs(2 * step - STEPS)))
    best = []
    for of_class in scores[:, steps]:
        found = 0 if np.isnan(of_class).any() else int(of_class.argmax())
        best.append(Threshold(float(steps[found] / STEPS), float(of_class[found])))
    return tuple(best)


def _by_step(ids: NDArray[Any], probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Voxels by id and step (256, 201)."""
    scaled = probabilities * np.float32(STEPS)
    pairs = joint_histogram(ids, np.ceil(scaled, out=scaled).astype(np.uint8))
    # Blended tiles may be above 1 in the last digit.
    pairs[:, STEPS] += pairs[:, STEPS + 1 :].sum(1)
    return pairs[:, : STEPS + 1]


def _above(histogram: NDArray[np.int64]) -> NDArray[np.int64]:
    """Voxels (K, 201) in higher steps than each."""
    return histogram.sum(1, keepdims=True) - histogram.cumsum(1)
