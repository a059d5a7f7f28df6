"""How well single objects are found: which ones match, which are missed, made up, split or merged.

An object is all voxels of one id but 0, wherever they are. Everything here follows from a contingency table
(seglib.metrics.contingency), so a volume is read once however many thresholds are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, min_weight_full_bipartite_matching

from seglib.errors import ConfigError
from seglib.metrics.contingency import BACKGROUND, Agreement, Contingency, compare_partitions

THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class Matching:
    """Objects matched one to one where their IoU is at least `threshold`; adds up over volumes.

    hits: pairs matched. false_alarms, misses: predicted and true objects without a partner. score_sum: IoU summed
    over the pairs. Scores are 0–1; all are NaN where there is no object on either side, and one whose denominator
    alone is 0 (precision where nothing was predicted) is 0, as in StarDist.
    """

    threshold: float
    hits: int
    false_alarms: int
    misses: int
    score_sum: float

    def __add__(self, other: "Matching") -> "Matching":
        if self.threshold != other.threshold:
            raise ConfigError(f"Matches at IoU {self.threshold:g} and {other.threshold:g} cannot be added up.")
        return Matching(
            self.threshold,
            self.hits + other.hits,
            self.false_alarms + other.false_alarms,
            self.misses + other.misses,
            self.score_sum + other.score_sum,
        )

    @property
    def true_objects(self) -> int:
        """How many objects the truth has."""
        return self.hits + self.misses

    @property
    def predicted_objects(self) -> int:
        """How many objects were predicted."""
        return self.hits + self.false_alarms

    @property
    def precision(self) -> float:
        """Share of predicted objects that are right."""
        return self._share(self.hits, self.predicted_objects)

    @property
    def recall(self) -> float:
        """Share of true objects that were found."""
        return self._share(self.hits, self.true_objects)

    @property
    def f1(self) -> float:
        """2·hits / (2·hits + false alarms + misses), the recognition quality of panoptic segmentation."""
        return self._share(2 * self.hits, self.true_objects + self.predicted_objects)

    @property
    def ap(self) -> float:
        """hits / (hits + false alarms + misses), the Data Science Bowl's average precision, StarDist's accuracy."""
        return self._share(self.hits, self.hits + self.false_alarms + self.misses)

    @property
    def segmentation_quality(self) -> float:
        """Mean IoU of the matched pairs, StarDist's mean matched score."""
        return self._share(self.score_sum, self.hits)

    @property
    def mean_true_score(self) -> float:
        """Mean over true objects of the IoU with their partner, 0 for those without."""
        return self._share(self.score_sum, self.true_objects)

    @property
    def panoptic_quality(self) -> float:
        """F1 × segmentation quality (Kirillov et al. 2019)."""
        return self._share(2 * self.score_sum, self.true_objects + self.predicted_objects)

    def _share(self, above: float, below: float) -> float:
        if not self.true_objects and not self.predicted_objects:
            return float("nan")
        return above / below if below else 0.0


@dataclass(frozen=True)
class InstanceCounts:
    """All that instance scores are made of; adds up over volumes. matchings: one a threshold."""

    matchings: tuple[Matching, ...]
    agreement: Agreement

    def __add__(self, other: "InstanceCounts") -> "InstanceCounts":
        pairs = zip(self.matchings, other.matchings, strict=True)
        return InstanceCounts(tuple(one + two for one, two in pairs), self.agreement + other.agreement)


@dataclass(frozen=True)
class Match:
    """A true object and the predicted one it was matched with. iou: 0–1."""

    truth: int
    prediction: int
    iou: float


@dataclass(frozen=True)
class Group:
    """An object and the several of the other volume that lie in it. voxels: how many of each part do."""

    whole: int
    parts: tuple[int, ...]
    voxels: tuple[int, ...]


@dataclass(frozen=True)
class Differences:
    """What became of every object; ids, in rising order. missed: true ones, false: predicted ones without a partner.

    split: true objects (whole) that lie in several predicted ones (parts). merged: predicted objects (whole) that
    cover several true ones (parts). A split or merged object may be matched as well, with the largest of its parts.
    """

    matched: tuple[Match, ...]
    missed: tuple[int, ...]
    false: tuple[int, ...]
    split: tuple[Group, ...]
    merged: tuple[Group, ...]


@dataclass(frozen=True)
class _Overlaps:
    """Ids and voxels of all objects, and every pair that shares voxels, as places in these (rows, columns)."""

    truth_ids: NDArray[np.uint64]
    prediction_ids: NDArray[np.uint64]
    truth_sizes: NDArray[np.float64]
    prediction_sizes: NDArray[np.float64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    shared: NDArray[np.int64]
    iou: NDArray[np.float64]


def match_objects(table: Contingency, thresholds: Sequence[float] = THRESHOLDS) -> tuple[Matching, ...]:
    """Matches at each threshold: as many pairs as can be, and of those choices the one that overlaps most.

    table: of seglib.metrics.contingency.count_pairs. thresholds: least IoU of a pair, above 0 and up to 1.
    The rule and the numbers are those of stardist.matching (Schmidt et al. 2018), without its table of every true
    object by every predicted one.
    Raises ConfigError for a threshold out of range.
    """
    overlaps = _overlaps(table)
    matchings = []
    for threshold in thresholds:
        matched = _matched(overlaps, threshold)
        hits = int(matched.size)
        matchings.append(
            Matching(
                threshold=threshold,
                hits=hits,
                false_alarms=overlaps.prediction_ids.size - hits,
                misses=overlaps.truth_ids.size - hits,
                score_sum=float(overlaps.iou[matched].sum()),
            )
        )
    return tuple(matchings)


def find_differences(table: Contingency, threshold: float = 0.5, *, share: float = 0.5) -> Differences:
    """Lists of the objects that were matched, missed, made up, split and merged.

    threshold: least IoU of a match, as in match_objects. share: how much of an object (0–1, above 0) must lie in
    another to be a part of it; an object with two parts or more is split or merged.
    Raises ConfigError for a threshold or share out of range.
    """
    _check_share("share", share)
    overlaps = _overlaps(table)
    matched = _matched(overlaps, threshold)
    rows, columns = overlaps.rows[matched], overlaps.columns[matched]
    truths, predictions = overlaps.truth_ids[overlaps.rows], overlaps.prediction_ids[overlaps.columns]
    pieces = overlaps.shared >= share * overlaps.prediction_sizes[overlaps.columns]
    swallowed = overlaps.shared >= share * overlaps.truth_sizes[overlaps.rows]
    return Differences(
        matched=tuple(
            Match(int(truth), int(prediction), float(iou))
            for truth, prediction, iou in zip(truths[matched], predictions[matched], overlaps.iou[matched], strict=True)
        ),
        missed=tuple(np.delete(overlaps.truth_ids, rows).tolist()),
        false=tuple(np.delete(overlaps.prediction_ids, columns).tolist()),
        split=_groups(truths[pieces], predictions[pieces], overlaps.shared[pieces]),
        merged=_groups(predictions[swallowed], truths[swallowed], overlaps.shared[swallowed]),
    )


def count_instances(
    table: Contingency,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    ignored_truth: Sequence[int] = (BACKGROUND,),
) -> InstanceCounts:
    """Everything that instance_scores needs of one volume; counts of several volumes are added up first.

    ignored_truth: what compare_partitions leaves out; the matching looks at all objects in any case.
    Raises ConfigError where there is no threshold, or one out of range.
    """
    if not thresholds:
        raise ConfigError("There is no threshold to match objects at: give one at least, such as 0.5.")
    return InstanceCounts(match_objects(table, thresholds), compare_partitions(table, ignored_truth=ignored_truth))


def instance_scores(counts: InstanceCounts) -> dict[str, float]:
    """All scores by name, for one volume or several.

    At each threshold, such as 0.5: precision@0.5, recall@0.5, f1@0.5, ap@0.5, pq@0.5 (panoptic quality), sq@0.5
    (segmentation quality, mean IoU of matches) and true_score@0.5. Over all thresholds: ap, their mean.
    rand_error, rand_precision, rand_recall; voi_split, voi_merge and their sum voi, in bits.
    true_objects, predicted_objects, count_error (predicted − true) and count_error_relative (÷ true).
    NaN where undefined: scores of matches where no volume has an object on either side, count_error_relative where
    the truth has none, Rand and voi where no voxel is left to compare (Rand: no two of one object).
    """
    scores: dict[str, float] = {}
    for matching in counts.matchings:
        at = f"@{matching.threshold:g}"
        scores |= {
            f"precision{at}": matching.precision,
            f"recall{at}": matching.recall,
            f"f1{at}": matching.f1,
            f"ap{at}": matching.ap,
            f"pq{at}": matching.panoptic_quality,
            f"sq{at}": matching.segmentation_quality,
            f"true_score{at}": matching.mean_true_score,
        }
    agreement = counts.agreement
    true, predicted = counts.matchings[0].true_objects, counts.matchings[0].predicted_objects
    return scores | {
        "ap": sum(matching.ap for matching in counts.matchings) / len(counts.matchings),
        "rand_error": agreement.rand_error,
        "rand_precision": agreement.rand_precision,
        "rand_recall": agreement.rand_recall,
        "voi": agreement.voi_split + agreement.voi_merge,
        "voi_split": agreement.voi_split,
        "voi_merge": agreement.voi_merge,
        "true_objects": float(true),
        "predicted_objects": float(predicted),
        "count_error": float(predicted - true),
        "count_error_relative": (predicted - true) / true if true else float("nan"),
    }


def _overlaps(table: Contingency) -> _Overlaps:
    in_truth, in_prediction = table.truth != BACKGROUND, table.prediction != BACKGROUND
    both = in_truth & in_prediction
    truth_ids, of_truth = np.unique(table.truth[in_truth], return_inverse=True)
    prediction_ids, of_prediction = np.unique(table.prediction[in_prediction], return_inverse=True)
    truth_sizes = np.bincount(of_truth, table.voxels[in_truth]).astype(np.float64)
    prediction_sizes = np.bincount(of_prediction, table.voxels[in_prediction]).astype(np.float64)
    rows, columns, shared = of_truth[both[in_truth]], of_prediction[both[in_prediction]], table.voxels[both]
    iou = shared / (truth_sizes[rows] + prediction_sizes[columns] - shared)
    return _Overlaps(truth_ids, prediction_ids, truth_sizes, prediction_sizes, rows, columns, shared, iou)


def _matched(overlaps: _Overlaps, threshold: float) -> NDArray[np.int64]:
    """Places of the matched pairs among all overlapping ones, in rising order."""
    _check_share("threshold", threshold)
    if threshold < 0.5:
        chosen = _assigned(overlaps, threshold)
        return chosen[overlaps.iou[chosen] >= threshold]
    # Two partners above one half cannot be; two of just one half are the halves of one object, and as good.
    matched = np.flatnonzero(overlaps.iou >= threshold)
    for side in (overlaps.rows, overlaps.columns):
        matched = np.sort(matched[np.unique(side[matched], return_index=True)[1]])
    return matched


def _assigned(overlaps: _Overlaps, threshold: float) -> NDArray[np.int64]:
    """Places of pairs of the best assignment: most pairs at the threshold, then the highest sum of IoU of all pairs.

    Pairs below the threshold weigh in that sum, as in StarDist, and may be among the places.
    """
    rows, columns = overlaps.rows, overlaps.columns
    good = overlaps.iou >= threshold
    # Two objects that have no other choice are a pair; what is left is small, and falls apart into groups.
    alone = np.bincount(rows[good], minlength=overlaps.truth_ids.size)[rows] == 1
    alone &= np.bincount(columns[good], minlength=overlaps.prediction_ids.size)[columns] == 1
    certain = good & alone
    left = ~np.isin(rows, rows[certain]) & ~np.isin(columns, columns[certain])
    left &= _linked(overlaps, left, good)
    chosen = certain
    if left.any():
        most = min(overlaps.truth_ids.size, overlaps.prediction_ids.size)
        gain = good[left] + overlaps.iou[left] / (2 * most)
        chosen[np.flatnonzero(left)[_best_pairs(rows[left], columns[left], gain)]] = True
    return np.flatnonzero(chosen)


def _linked(overlaps: _Overlaps, left: NDArray[np.bool_], good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pairs are linked, by those that are left, to one that is left and good."""
    objects = overlaps.truth_ids.size
    size = objects + overlaps.prediction_ids.size
    links = (overlaps.rows[left], objects + overlaps.columns[left])
    group = connected_components(csr_array((np.ones(left.sum()), links), shape=(size, size)), directed=False)[1]
    group_of_pair = group[overlaps.rows]
    return np.isin(group_of_pair, group_of_pair[left & good])


def _best_pairs(rows: NDArray[np.int64], columns: NDArray[np.int64], gain: NDArray[np.float64]) -> NDArray[np.int64]:
    """Places of the one-to-one pairs with the highest sum of gain (0–2 each).

    Each row may also go to a partner of its own that stands for none, so an assignment of all rows is possible.
    """
    row_ids, rows = np.unique(rows, return_inverse=True)
    column_ids, columns = np.unique(columns, return_inverse=True)
    none = np.arange(row_ids.size)
    costs = np.concatenate((2 - gain, np.full(none.size, 2.0)))  # above 0, as an entry of 0 is no entry
    places = (np.concatenate((rows, none)), np.concatenate((columns, column_ids.size + none)))
    graph = csr_array((costs, places), shape=(none.size, column_ids.size + none.size))
    partner_of = min_weight_full_bipartite_matching(graph)[1]
    return np.flatnonzero(partner_of[rows] == columns)


def _groups(wholes: NDArray[np.uint64], parts: NDArray[np.uint64], voxels: NDArray[np.int64]) -> tuple[Group, ...]:
    order = np.lexsort((parts, wholes))
    ids, starts = np.unique(wholes[order], return_index=True)
    cuts = starts[1:]
    return tuple(
        Group(int(whole), tuple(members.tolist()), tuple(shared.tolist()))
        for whole, members, shared in zip(
            ids, np.split(parts[order], cuts), np.split(voxels[order], cuts), strict=False
        )
        if members.size > 1
    )


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ConfigError(f"The {name} is {value:g}, but it must be above 0 and at most 1.")
