"""Dice and IoU from counts that add up exactly over tiles, volumes and patches."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE


@dataclass(frozen=True)
class Counts:
    """Voxels per foreground class: rightly found, falsely found, missed. Each is int64 (K,)."""

    hits: NDArray[np.int64]
    false_alarms: NDArray[np.int64]
    misses: NDArray[np.int64]

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.hits + other.hits, self.false_alarms + other.false_alarms, self.misses + other.misses)


def no_counts(classes: int) -> Counts:
    """Counts to add to."""
    zero = np.zeros(classes, np.int64)
    return Counts(zero, zero, zero)


def count_overlap(prediction: NDArray[Any], truth: NDArray[Any], classes: int) -> Counts:
    """Counts of two arrays of class ids 0 … K of one shape. classes: K.

    Voxels whose truth is 255 were not annotated and are left out.
    """
    side = classes + 1
    annotated = truth != IGNORE
    if not annotated.all():
        truth, prediction = truth[annotated], prediction[annotated]
    pairs = np.bincount(truth.ravel().astype(np.int64) * side + prediction.ravel(), minlength=side * side).reshape(
        side, side
    )
    hits = np.diagonal(pairs)[1:].astype(np.int64)
    return Counts(hits, pairs.sum(0)[1:] - hits, pairs.sum(1)[1:] - hits)


def dice(counts: Counts) -> NDArray[np.float64]:
    """2·hits / (2·hits + false alarms + misses) per class; NaN for a class neither predicted nor in the truth."""
    return _ratio(2 * counts.hits, 2 * counts.hits + counts.false_alarms + counts.misses)


def iou(counts: Counts) -> NDArray[np.float64]:
    """hits / (hits + false alarms + misses) per class; NaN for a class neither predicted nor in the truth."""
    return _ratio(counts.hits, counts.hits + counts.false_alarms + counts.misses)


def mean_score(scores: NDArray[np.float64]) -> float:
    """Mean over the classes that have a score; 0 where none has."""
    present = scores[np.isfinite(scores)]
    return float(present.mean()) if present.size else 0.0


def _ratio(above: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
