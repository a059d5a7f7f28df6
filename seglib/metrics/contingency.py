"""How often each pair of ids meets in two label volumes, and how well the two divide space, which follows from that.

A table holds only pairs that occur: a few times as many as there are objects, however large the volume is. Runs of
equal pairs along x are counted as one, block by block in two threads, so little more than the volumes is in memory.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seglib.errors import DataError

BACKGROUND = 0
THREADS = 2
# Voxels counted at once: smaller pieces were slower, larger ones only take memory.
PIECE = 1 << 20
# Pairs gathered before equal ones are summed up.
PENDING = 1 << 20
HALF = 1 << 32


@dataclass(frozen=True)
class Contingency:
    """Voxels per pair of a truth id and a prediction id, with 0 for background; pairs that never meet are not listed.

    truth, prediction: uint64 (N,), sorted by truth, then prediction; no pair twice. voxels: int64 (N,), all > 0.
    Tables of blocks of one volume add up exactly, as ids mean the same in each. Volumes that number their objects on
    their own do not: add what was made of their tables (Matching, Agreement).
    """

    truth: NDArray[np.uint64]
    prediction: NDArray[np.uint64]
    voxels: NDArray[np.int64]

    def __add__(self, other: "Contingency") -> "Contingency":
        return _joined([self, other])

    def without_truth(self, ids: Sequence[int]) -> "Contingency":
        """The table of the voxels whose truth is none of these ids."""
        kept = ~np.isin(self.truth, np.array(ids, np.uint64))
        return Contingency(self.truth[kept], self.prediction[kept], self.voxels[kept])


def no_pairs() -> Contingency:
    """A table to add to."""
    return Contingency(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))


def count_pairs(truth: Any, prediction: Any, *, ignore: Any = None, ignored_id: int | None = None) -> Contingency:
    """The table of two label volumes.

    truth, prediction: ids ≥ 0 of any integer type, (Z, Y, X), 0 is background; arrays, or what is read by slices such
    as Zarr arrays, which are read chunk by chunk.
    ignore: bool (Z, Y, X), true where nothing was annotated. ignored_id: truth id that says the same. Such voxels
    are left out of both volumes.
    Raises DataError where shapes differ, or where there are numbers that cannot be ids.
    """
    given = [truth, prediction, *([] if ignore is None else [ignore])]
    for name, volume in zip(("truth", "prediction", "mask of what to ignore"), given, strict=False):
        if len(volume.shape) != 3 or tuple(volume.shape) != tuple(truth.shape):
            raise DataError(
                f"The {name} is {tuple(volume.shape)}, but the truth is {tuple(truth.shape)}: "
                "volumes of one shape (Z, Y, X) are needed."
            )
        if np.dtype(volume.dtype).kind not in "bui":
            raise DataError(f"The {name} holds {volume.dtype}, but ids are whole numbers from 0.")
    blocks = list(_blocks(given))

    def count_share(first: int) -> Contingency:
        tables, pending = [no_pairs()], 0
        for block in blocks[first::THREADS]:
            found = _count_block([np.asarray(volume[block]).ravel() for volume in given], ignored_id)
            tables += found
            pending += sum(len(table.voxels) for table in found)
            if pending > max(PENDING, len(tables[0].voxels)):
                tables, pending = [_joined(tables)], 0
        return _joined(tables)

    with ThreadPoolExecutor(THREADS) as pool:
        return _joined(list(pool.map(count_share, range(THREADS))))


@dataclass(frozen=True)
class Agreement:
    """What adapted Rand error and variation of information are made of; adds up over volumes.

    voxels: how many were compared. together, truth_together, prediction_together: ordered pairs of voxels that are in
    one object in both, in the truth, in the prediction. split_bits, merge_bits: entropy of the prediction's ids where
    the truth's are known, and the other way round, summed over voxels.
    Scores are NaN where there is nothing to divide by: no voxels, or no two voxels in one object.
    """

    voxels: int
    together: float
    truth_together: float
    prediction_together: float
    split_bits: float
    merge_bits: float

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.voxels + other.voxels,
            self.together + other.together,
            self.truth_together + other.truth_together,
            self.prediction_together + other.prediction_together,
            self.split_bits + other.split_bits,
            self.merge_bits + other.merge_bits,
        )

    @property
    def rand_precision(self) -> float:
        """Of pairs of voxels together in the prediction, the share that are in the truth: merges lower it."""
        return _ratio(self.together, self.prediction_together)

    @property
    def rand_recall(self) -> float:
        """Of pairs of voxels together in the truth, the share that are in the prediction: splits lower it."""
        return _ratio(self.together, self.truth_together)

    @property
    def rand_error(self) -> float:
        """1 − F1 of Rand precision and recall: 0 is perfect."""
        return 1 - _ratio(2 * self.together, self.truth_together + self.prediction_together)

    @property
    def voi_split(self) -> float:
        """Bits a voxel that splits add: what is not known of its predicted object when its true one is."""
        return _ratio(self.split_bits, self.voxels)

    @property
    def voi_merge(self) -> float:
        """Bits a voxel that merges add: what is not known of its true object when its predicted one is."""
        return _ratio(self.merge_bits, self.voxels)


def compare_partitions(table: Contingency, *, ignored_truth: Sequence[int] = (BACKGROUND,)) -> Agreement:
    """How well two volumes agree on which voxels belong together.

    ignored_truth: voxels of these truth ids are left out. That is the background unless said otherwise, for both
    scores, as in the SNEMI3D and CREMI challenges: objects in much empty space would else score nearly perfectly
    whatever becomes of them, as the background counts as one huge object. What is predicted in the background then
    has no say; false positives of the matching count it. () compares all voxels, with background as one object.

    Adapted Rand error: Arganda-Carreras et al. 2015. Variation of information: Meilă 2007, in bits. Equal to
    scikit-image's with the same ids ignored; its variation of information ignores none unless told to, and its Rand
    precision and recall are each the other here, where they follow their definition.
    """
    if ignored_truth:
        table = table.without_truth(ignored_truth)
    _, of_truth = np.unique(table.truth, return_inverse=True)
    _, of_prediction = np.unique(table.prediction, return_inverse=True)
    shared = table.voxels.astype(np.float64)
    truth_sizes = np.bincount(of_truth, shared).astype(np.float64)
    prediction_sizes = np.bincount(of_prediction, shared).astype(np.float64)
    return Agreement(
        voxels=int(table.voxels.sum()),
        together=_ordered_pairs(shared),
        truth_together=_ordered_pairs(truth_sizes),
        prediction_together=_ordered_pairs(prediction_sizes),
        split_bits=float((shared * np.log2(truth_sizes[of_truth] / shared)).sum()),
        merge_bits=float((shared * np.log2(prediction_sizes[of_prediction] / shared)).sum()),
    )


def _blocks(volumes: Sequence[Any]) -> Iterator[tuple[slice, ...]]:
    """The volume cut along the largest chunks of those stored in chunks, or into slabs of planes where none is."""
    shape = volumes[0].shape
    chunks = [volume.chunks for volume in volumes if getattr(volume, "chunks", None)]
    slab = (max(1, PIECE // max(1, shape[1] * shape[2])), *shape[1:])
    sides = [max(1, *of_axis) for of_axis in zip(*(chunks or [slab]), (1, 1, 1), strict=True)]
    steps = [range(0, length, side) for length, side in zip(shape, sides, strict=True)]
    for start in product(*steps):
        yield tuple(slice(first, first + side) for first, side in zip(start, sides, strict=True))


def _count_block(flat: Sequence[NDArray[Any]], ignored_id: int | None) -> list[Contingency]:
    """Tables of one block. flat: truth, prediction and, where there is one, mask, (voxels,) each."""
    tables = []
    for first in range(0, flat[0].size, PIECE):
        truth, prediction, *mask = (part[first : first + PIECE] for part in flat)
        annotated = None if not mask else ~mask[0].astype(bool)
        if ignored_id is not None:
            known = truth != ignored_id
            annotated = known if annotated is None else annotated & known
        if annotated is not None and not annotated.all():
            truth, prediction = truth[annotated], prediction[annotated]
        if truth.size:
            tables.append(_count_runs(truth, prediction))
    return tables


def _count_runs(truth: NDArray[Any], prediction: NDArray[Any]) -> Contingency:
    changes = truth[1:] != truth[:-1]
    changes |= prediction[1:] != prediction[:-1]
    starts = np.flatnonzero(np.concatenate(([True], changes)))
    lengths = np.diff(starts, append=truth.size)
    truth, prediction = truth[starts], prediction[starts]
    lowest = min(int(truth.min()), int(prediction.min()))
    if lowest < 0:
        raise DataError(f"There is an id {lowest}, but ids are whole numbers from 0.")
    return _summed(truth.astype(np.uint64), prediction.astype(np.uint64), lengths)


def _joined(tables: Sequence[Contingency]) -> Contingency:
    return _summed(
        np.concatenate([table.truth for table in tables]),
        np.concatenate([table.prediction for table in tables]),
        np.concatenate([table.voxels for table in tables]),
    )


def _summed(truth: NDArray[np.uint64], prediction: NDArray[np.uint64], voxels: NDArray[np.int64]) -> Contingency:
    """The table of pairs in any order, equal ones summed up."""
    if not truth.size:
        return no_pairs()
    if max(int(truth.max()), int(prediction.max())) < HALF:  # one sort of 64 bits is a few times as fast as two
        order = np.argsort(truth << np.uint64(32) | prediction)
    else:
        order = np.lexsort((prediction, truth))
    truth, prediction = truth[order], prediction[order]
    new = np.concatenate(([True], (truth[1:] != truth[:-1]) | (prediction[1:] != prediction[:-1])))
    starts = np.flatnonzero(new)
    return Contingency(truth[starts], prediction[starts], np.add.reduceat(voxels[order], starts))


def _ordered_pairs(sizes: NDArray[np.float64]) -> float:
    return float(sizes @ sizes - sizes.sum())


def _ratio(above: float, below: float) -> float:
    return above / below if below else float("nan")
