"""Overlap scores against slow loops over masks, and that counts add up over any cutting."""

import math

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seglib.errors import DataError
from seglib.metrics import overlap
from seglib.metrics.overlap import (
    Confusion,
    absent,
    count_confusion,
    count_labels,
    count_overlap,
    dice,
    iou,
    mean_score,
    no_confusion,
    no_counts,
    overlap_scores,
)

K = 3
NAMES = ("axon", "glia", "soma")
# Not annotated now and then.
TRUTHS = st.one_of(st.integers(0, K), st.just(255))
PAIRS = st.tuples(*[st.integers(1, 6)] * 3).flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.uint8, shape, elements=st.integers(0, K)), hnp.arrays(np.uint8, shape, elements=TRUTHS)
    )
)


def slow_counts(prediction, truth):
    """Hits, false alarms, misses and right rejections of each class, voxel by voxel."""
    result = [[0] * 4 for _ in range(K)]
    for p, t in zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True):
        for k in range(1, K + 1):
            if t != 255:
                result[k - 1][0 if p == t == k else 1 if p == k else 2 if t == k else 3] += 1
    return result


def slow_scores(hits, alarms, misses, rejections):
    """The definitions, with NaN for what the truth does not decide."""
    real, unreal = hits + misses, rejections + alarms
    return {
        "dice": 2 * hits / (2 * hits + alarms + misses) if real else math.nan,
        "iou": hits / (hits + alarms + misses) if real else math.nan,
        "precision": math.nan if not real else hits / (hits + alarms) if hits else 0.0,
        "recall": hits / real if real else math.nan,
        "specificity": rejections / unreal if unreal else math.nan,
        "accuracy": (hits + rejections) / (real + unreal) if real + unreal else math.nan,
        "total_error": (alarms + misses) / (real + unreal) if real + unreal else math.nan,
        "false_negative_rate": misses / real if real else math.nan,
        "false_positive_rate": alarms / unreal if unreal else math.nan,
    }


def listed(counts):
    return [counts.hits.tolist(), counts.false_alarms.tolist(), counts.misses.tolist()]


@given(PAIRS)
def test_every_score_equals_its_definition_voxel_by_voxel(pair):
    prediction, truth = pair
    per_class = [slow_scores(*counts) for counts in slow_counts(*pair)]
    found = overlap_scores(count_confusion(*pair, K), NAMES)
    for score in per_class[0]:
        values = [scores[score] for scores in per_class]
        assert [found[f"{score}/{name}"] for name in NAMES] == pytest.approx(values, nan_ok=True)
        if score not in ("accuracy", "total_error"):
            there = [value for value in values if not math.isnan(value)]
            assert found[score] == pytest.approx(sum(there) / len(there) if there else math.nan, nan_ok=True)
    seen = truth != 255
    right = (prediction[seen] == truth[seen]).mean() if seen.any() else math.nan
    assert [found["accuracy"], found["total_error"]] == pytest.approx([right, 1 - right], nan_ok=True)
    assert len(found) == 9 * (1 + K)


@given(PAIRS)
def test_counts_equal_a_slow_loop(pair):
    expected = [list(column) for column in zip(*slow_counts(*pair), strict=True)]
    assert listed(count_overlap(*pair, K)) == expected[:3]


@given(PAIRS, st.lists(st.integers(1, 5), max_size=3), st.integers(0, 2))
def test_counts_and_confusion_add_up_over_any_cutting(pair, cuts, axis):
    pieces = [np.split(one, sorted({c for c in cuts if c < one.shape[axis]}), axis=axis) for one in pair]
    confusion, counts = no_confusion(K), no_counts(K)
    for prediction, truth in zip(*pieces, strict=True):
        confusion += count_confusion(prediction, truth, K)
        counts += count_overlap(prediction, truth, K)
    np.testing.assert_array_equal(confusion.table, count_confusion(*pair, K).table)
    assert listed(counts) == listed(count_overlap(*pair, K))


def test_a_confusion_lists_truth_by_prediction_and_leaves_out_what_was_not_annotated():
    found = count_confusion(np.array([0, 1, 2, 2, 7]), np.array([0, 0, 1, 2, 255]), 2)
    assert found.table.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 1]]
    assert found.table.dtype == np.int64
    assert found.voxels == 4
    assert found.accuracy == 0.5


def test_a_class_that_is_absent_has_no_overlap_but_its_false_alarms_show():
    truth = np.array([1, 1, 0, 0], np.uint8)
    confusion = count_confusion(np.array([1, 0, 2, 0], np.uint8), truth, 2)
    found = overlap_scores(confusion, ["axon", "glia"])
    overlapping = ("dice", "iou", "precision", "recall", "false_negative_rate")
    assert all(math.isnan(found[f"{score}/glia"]) for score in overlapping)
    assert all(found[score] == found[f"{score}/axon"] for score in overlapping)
    assert found["dice"] == pytest.approx(2 / 3)
    assert found["false_positive_rate/glia"] == found["total_error/glia"] == 0.25
    assert found["specificity/glia"] == 0.75
    assert absent(confusion.counts, ["axon", "glia"]) == ("glia",)


def test_a_class_that_was_missed_altogether_scores_zero():
    found = count_overlap(np.array([0, 0]), np.array([0, 1]), 1)
    assert dice(found) == iou(found) == overlap.precision(found) == overlap.recall(found) == 0
    assert absent(found, ["axon"]) == ()


def test_the_mean_over_no_class_is_not_a_number():
    nothing = no_confusion(2)
    assert math.isnan(mean_score(dice(nothing.counts)))
    assert all(math.isnan(value) for value in overlap_scores(nothing, ["axon", "glia"]).values())
    assert absent(nothing.counts, ["axon", "glia"]) == ("axon", "glia")


def test_one_class_is_not_listed_by_its_name():
    found = overlap_scores(count_confusion(np.array([1, 0]), np.array([1, 1]), 1), ["axon"])
    assert found["dice"] == pytest.approx(2 / 3)
    assert not [name for name in found if "/" in name]


def test_counting_leaves_what_is_added_to_alone():
    zero = no_counts(1)
    _ = zero + count_overlap(np.ones(3, np.uint8), np.ones(3, np.uint8), 1)
    assert listed(zero) == [[0], [0], [0]]


@pytest.mark.parametrize("kind", [np.uint16, np.int64, np.bool_])
def test_ids_of_any_whole_type_count_alike(kind):
    prediction, truth = np.random.default_rng(0).integers(0, 2, (2, 5, 6)).astype(np.uint8)
    found = count_confusion(prediction.astype(kind), truth.astype(kind), 1)
    np.testing.assert_array_equal(found.table, count_confusion(prediction, truth, 1).table)


def test_as_many_classes_as_there_can_be_are_counted_in_more_than_one_piece():
    rng = np.random.default_rng(0)
    prediction, truth = rng.integers(0, 255, (2, overlap.PIECE * 2 + 3), dtype=np.uint8)
    expected = np.zeros((255, 255), np.int64)
    np.add.at(expected, (truth, prediction), 1)
    np.testing.assert_array_equal(count_confusion(prediction, truth, 254).table, expected)


class Watched:
    """An array that remembers what was read of it at once."""

    def __init__(self, values, chunks):
        self.shape, self.chunks, self._values = values.shape, chunks, values
        self.read = []

    def __getitem__(self, block):
        self.read.append(block)
        return self._values[block]


@pytest.mark.parametrize("block", [1, 200, 1 << 22])
def test_what_is_read_lazily_is_read_once_in_whole_chunks(block, monkeypatch):
    monkeypatch.setattr(overlap, "BLOCK", block)
    prediction, truth = np.random.default_rng(0).integers(0, 3, (2, 7, 9, 11)).astype(np.uint8)
    watched = Watched(truth, (2, 4, 5))
    found = count_confusion(zarr.array(prediction, chunks=(2, 2, 5)), watched, 2)
    np.testing.assert_array_equal(found.table, count_confusion(prediction, truth, 2).table)
    times = np.zeros(truth.shape, int)
    for one in watched.read:
        times[one] += 1
        assert all(part.start % side == 0 for part, side in zip(one, watched.chunks, strict=True))
        assert truth[one].size <= max(block, 2 * 4 * 5)
    assert (times == 1).all()


@pytest.mark.parametrize(
    ("prediction", "truth", "said"),
    [
        ([0, 1], [0, 3], "The truth holds the class id 3, but ids go from 0 to 2"),
        ([0, 254], [0, 1], "The prediction holds the class id 254"),
        ([0, 255], [0, 1], "The prediction holds the class id 255"),
        ([0, 256], [0, 1], "There is a class id 256"),
        ([0, -1], [0, 1], "There is a class id -1"),
        ([0], [0, 1], r"The prediction is \(1,\) but the truth is \(2,\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(prediction, truth, said):
    with pytest.raises(DataError, match=said):
        count_confusion(np.array(prediction), np.array(truth), 2)


@given(PAIRS)
def test_labels_that_exclude_each_other_score_as_classes_do(pair):
    prediction, truth = pair
    ids = np.arange(1, K + 1).reshape(-1, 1, 1, 1)
    found = count_labels(prediction == ids, truth == ids, truth != 255)
    expected = overlap_scores(count_confusion(*pair, K), NAMES)
    for name, value in overlap_scores(found, NAMES).items():
        if name not in ("accuracy", "total_error"):
            assert value == pytest.approx(expected[name], nan_ok=True)


def test_labels_that_overlap_are_judged_one_by_one_and_add_up():
    prediction = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
    truth = np.array([[1, 0, 1, 0], [1, 1, 1, 1]], bool)
    found = count_labels(prediction, truth)
    assert found.table.tolist() == [[[1, 1], [1, 1]], [[0, 0], [1, 3]]]
    assert found.accuracy == 5 / 8
    assert listed(found.counts) == [[1, 3], [1, 0], [1, 1]]
    halves = count_labels(prediction[:, :2], truth[:, :2]) + count_labels(prediction[:, 2:], truth[:, 2:])
    np.testing.assert_array_equal(halves.table, found.table)
    with pytest.raises(DataError, match="do not fit together"):
        count_labels(prediction, truth, np.ones(3, bool))


def test_scores_follow_from_a_confusion_alone():
    found = overlap_scores(Confusion(np.array([[90, 10], [20, 80]])), ["axon"])
    assert found == pytest.approx(
        {
            "dice": 160 / 190,
            "iou": 80 / 110,
            "precision": 80 / 90,
            "recall": 0.8,
            "specificity": 0.9,
            "accuracy": 0.85,
            "total_error": 0.15,
            "false_negative_rate": 0.2,
            "false_positive_rate": 0.1,
        }
    )
