"""Scores of decided voxels from counts that add up exactly over tiles, volumes and patches.

All of them compare class ids, never probabilities or logits: decide first, then count. What a score says of a class
that the truth does not hold:

    Dice, IoU, precision, recall, false negative rate          NaN, and the class is left out of their mean
    specificity, false positive rate, accuracy, total error    a number: here a class that was made up shows
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.config.labels import IGNORE
from seglib.errors import DataError

BYTE_VALUES = 256
# Voxels read at once from what is larger than memory, and voxels counted at once, whose codes stay in the cache.
BLOCK = 1 << 22
PIECE = 1 << 18


@dataclass(frozen=True)
class Counts:
    """Voxels per foreground class: rightly found, falsely found, missed. Each is int64 (K,)."""

    hits: NDArray[np.int64]
    false_alarms: NDArray[np.int64]
    misses: NDArray[np.int64]

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.hits + other.hits, self.false_alarms + other.false_alarms, self.misses + other.misses)


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for which, over annotated voxels.

    table: int64 (K+1, K+1), truth × prediction; 0 is background.
    """

    table: NDArray[np.int64]

    def __add__(self, other: "Confusion") -> "Confusion":
        return Confusion(self.table + other.table)

    @property
    def counts(self) -> Counts:
        """The same per class."""
        hits = np.diagonal(self.table)[1:]
        return Counts(hits, self.table.sum(0)[1:] - hits, self.table.sum(1)[1:] - hits)

    @property
    def voxels(self) -> int:
        """How many voxels were compared."""
        return int(self.table.sum())

    @property
    def accuracy(self) -> float:
        """Share of voxels with the right class, background included; NaN where none was compared."""
        return _share(int(np.trace(self.table)), self.voxels)


@dataclass(frozen=True)
class LabelConfusion:
    """The same for classes that may overlap, each by itself.

    table: int64 (K, 2, 2), per class truth × prediction, where 1 is the class and 0 is not.
    """

    table: NDArray[np.int64]

    def __add__(self, other: "LabelConfusion") -> "LabelConfusion":
        return LabelConfusion(self.table + other.table)

    @property
    def counts(self) -> Counts:
        """The same without what was rightly rejected."""
        return Counts(self.table[:, 1, 1], self.table[:, 0, 1], self.table[:, 1, 0])

    @property
    def voxels(self) -> int:
        """How many voxels were compared."""
        return int(self.table[0].sum())

    @property
    def accuracy(self) -> float:
        """Share of right decisions, of one a voxel and class; NaN where none was compared."""
        right = self.table[:, 0, 0] + self.table[:, 1, 1]
        return _share(int(right.sum()), int(self.table.sum()))


def no_counts(classes: int) -> Counts:
    """Counts to add to."""
    zero = np.zeros(classes, np.int64)
    return Counts(zero, zero, zero)


def no_confusion(classes: int) -> Confusion:
    """A confusion to add to."""
    return Confusion(np.zeros((classes + 1, classes + 1), np.int64))


def count_confusion(prediction: Any, truth: Any, classes: int) -> Confusion:
    """The confusion of two arrays of class ids 0 … K of one shape. classes: K, 254 at most.

    prediction, truth: whole numbers of any type, best uint8; arrays, or what is read by slices such as Zarr arrays,
    which are read some chunks at a time. Voxels whose truth is 255 were not annotated and are left out.
    Raises DataError where shapes differ, or where an annotated voxel has an id above K.
    """
    if tuple(prediction.shape) != tuple(truth.shape):
        raise DataError(
            f"The prediction is {tuple(prediction.shape)} but the truth is {tuple(truth.shape)}: "
            "only arrays of one shape can be compared."
        )
    pairs = np.zeros((BYTE_VALUES, BYTE_VALUES), np.int64)
    for block in _blocks([truth, prediction]):
        pairs += joint_histogram(np.asarray(truth[block]), np.asarray(prediction[block]))
    annotated = pairs[:IGNORE]
    for name, found in (("truth", annotated.sum(1)), ("prediction", annotated.sum(0))):
        check_ids(found, classes, name)
    return Confusion(annotated[: classes + 1, : classes + 1])


def count_overlap(prediction: Any, truth: Any, classes: int) -> Counts:
    """Counts of two arrays of class ids, see `count_confusion`."""
    return count_confusion(prediction, truth, classes).counts


def count_labels(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], annotated: NDArray[np.bool_] | None = None
) -> LabelConfusion:
    """The confusion of classes that may overlap. prediction, truth: bool (K, …), K ≥ 1.

    annotated: bool (…), false where voxels are left out; None where all count. Raises DataError where shapes differ.
    """
    if prediction.shape != truth.shape or (annotated is not None and annotated.shape != truth.shape[1:]):
        shapes = [prediction.shape, truth.shape, *([] if annotated is None else [annotated.shape])]
        raise DataError(f"Prediction, truth and what is annotated do not fit together: {', '.join(map(str, shapes))}.")
    voxels = math.prod(truth.shape[1:]) if annotated is None else np.count_nonzero(annotated)
    tables = []
    for predicted, real in zip(prediction, truth, strict=True):
        if annotated is not None:
            predicted, real = predicted & annotated, real & annotated
        hits = np.count_nonzero(predicted & real)
        false_alarms, misses = np.count_nonzero(predicted) - hits, np.count_nonzero(real) - hits
        tables.append([[voxels - hits - false_alarms - misses, false_alarms], [misses, hits]])
    return LabelConfusion(np.array(tables, np.int64))


def joint_histogram(rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.int64]:
    """How often each pair of values meets: int64 (256, 256).

    rows, columns: whole numbers 0 … 255 of equally many elements. Raises DataError where there are others.
    """
    flat_rows, flat_columns = _as_bytes(rows).ravel(), _as_bytes(columns).ravel()
    pairs = np.zeros(BYTE_VALUES**2, np.int64)
    for first in range(0, flat_rows.size, PIECE):
        # What bincount would convert anything to.
        codes = flat_rows[first : first + PIECE].astype(np.intp)
        codes <<= 8
        codes |= flat_columns[first : first + PIECE]
        pairs += np.bincount(codes, minlength=pairs.size)
    return pairs.reshape(BYTE_VALUES, BYTE_VALUES)


def check_ids(voxels: NDArray[np.int64], classes: int, name: str) -> None:
    """Raises DataError where a class id above `classes` occurs. voxels: (…,) per id; name: of what holds them."""
    unknown = np.flatnonzero(voxels[classes + 1 :])
    if unknown.size:
        raise DataError(f"The {name} holds the class id {unknown[0] + classes + 1}, but ids go from 0 to {classes}.")


def dice(counts: Counts) -> NDArray[np.float64]:
    """2·hits / (2·hits + false alarms + misses) per class; NaN for a class that the truth does not hold."""
    return _where_true(counts, 2 * counts.hits, 2 * counts.hits + counts.false_alarms + counts.misses)


def iou(counts: Counts) -> NDArray[np.float64]:
    """hits / (hits + false alarms + misses) per class; NaN for a class that the truth does not hold."""
    return _where_true(counts, counts.hits, counts.hits + counts.false_alarms + counts.misses)


def precision(counts: Counts) -> NDArray[np.float64]:
    """hits / (hits + false alarms) per class: the share of what was found that is right.

    0 for a class of which nothing was found, NaN for one that the truth does not hold.
    """
    # Where nothing was found there is no hit either, and 0 / 1 is 0.
    return _where_true(counts, counts.hits, np.maximum(counts.hits + counts.false_alarms, 1))


def recall(counts: Counts) -> NDArray[np.float64]:
    """hits / (hits + misses) per class: the share of what is there that was found; NaN where nothing is."""
    return _ratio(counts.hits, counts.hits + counts.misses)


def false_negative_rate(counts: Counts) -> NDArray[np.float64]:
    """misses / (hits + misses) per class, 1 − recall; NaN for a class that the truth does not hold."""
    return _ratio(counts.misses, counts.hits + counts.misses)


def specificity(confusion: Confusion | LabelConfusion) -> NDArray[np.float64]:
    """Share of the voxels without a class that were not taken for it; NaN where there is no such voxel."""
    return 1 - false_positive_rate(confusion)


def false_positive_rate(confusion: Confusion | LabelConfusion) -> NDArray[np.float64]:
    """false alarms / voxels without a class, 1 − specificity; NaN where there is no such voxel."""
    counts = confusion.counts
    return _ratio(counts.false_alarms, confusion.voxels - counts.hits - counts.misses)


def total_error(confusion: Confusion | LabelConfusion) -> NDArray[np.float64]:
    """(false alarms + misses) / voxels per class, one class against the rest; NaN where nothing was compared.

    The fly-brain toolkit (M. Drews, 3dsegmentation) chooses its best network by it, for one class.
    """
    counts = confusion.counts
    return _ratio(counts.false_alarms + counts.misses, np.full_like(counts.hits, confusion.voxels))


def mean_score(scores: NDArray[np.float64]) -> float:
    """Mean over the classes that have a score; NaN where none has."""
    present = scores[~np.isnan(scores)]
    return float(present.mean()) if present.size else math.nan


def absent(counts: Counts, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the classes that the truth does not hold, in order. names: one a class."""
    return tuple(name for name, voxels in zip(names, counts.hits + counts.misses, strict=True) if not voxels)


def overlap_scores(confusion: Confusion | LabelConfusion, names: Sequence[str]) -> dict[str, float]:
    """Every score by its name, 0–1 or NaN: `dice` is the mean over classes and `dice/axon` that of one.

    names: one a class; single classes are listed where there are several. `accuracy` and `total_error` without a
    class are no means: the share of all voxels with the right and with a wrong class.
    """
    counts = confusion.counts
    per_class = {
        "dice": dice(counts),
        "iou": iou(counts),
        "precision": precision(counts),
        "recall": recall(counts),
        "specificity": specificity(confusion),
        "accuracy": 1 - total_error(confusion),
        "total_error": total_error(confusion),
        "false_negative_rate": false_negative_rate(counts),
        "false_positive_rate": false_positive_rate(confusion),
    }
    overall = {"accuracy": confusion.accuracy, "total_error": 1 - confusion.accuracy}
    return named_scores(per_class, names) | overall


def named_scores(per_class: dict[str, NDArray[np.float64]], names: Sequence[str]) -> dict[str, float]:
    """The mean of each score under its name and, where there are several classes, each class as `score/class`.

    per_class: (K,) for each score; names: K.
    """
    result = {score: mean_score(values) for score, values in per_class.items()}
    if len(names) > 1:
        for score, values in per_class.items():
            result |= {f"{score}/{name}": float(value) for name, value in zip(names, values, strict=True)}
    return result


def _blocks(arrays: Sequence[Any]) -> Iterator[tuple[slice, ...]]:
    """Cuts arrays of one shape into blocks of whole chunks and about BLOCK voxels, as long along x as they can be."""
    shape = arrays[0].shape
    sides = [1] * len(shape)
    for array in arrays:
        sides = [max(pair) for pair in zip(sides, getattr(array, "chunks", sides), strict=True)]
    for axis in reversed(range(len(shape))):
        sides[axis] = min(shape[axis], sides[axis] * max(1, BLOCK // math.prod(sides))) or 1
    for start in product(*(range(0, length, side) for length, side in zip(shape, sides, strict=True))):
        yield tuple(slice(first, first + side) for first, side in zip(start, sides, strict=True))


def _as_bytes(ids: NDArray[Any]) -> NDArray[np.uint8]:
    if ids.dtype == np.uint8:
        return ids
    for extreme in (ids.min(), ids.max()) if ids.size else ():
        if not 0 <= extreme < BYTE_VALUES:
            raise DataError(f"There is a class id {extreme}, but ids go from 0 to {IGNORE}.")
    return ids.astype(np.uint8)


def _where_true(counts: Counts, above: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.float64]:
    """The ratio for classes that the truth holds, NaN for others."""
    return np.where(counts.hits + counts.misses > 0, _ratio(above, below), np.nan)


def _ratio(above: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
