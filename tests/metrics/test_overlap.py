"""Overlap counts against slow loops, and that they add up over any cutting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seglib.metrics.overlap import count_overlap, dice, iou, mean_score, no_counts

K = 3
PAIRS = hnp.arrays(np.uint8, st.tuples(st.just(2), *[st.integers(1, 6)] * 3), elements=st.integers(0, K))


def slow_counts(prediction, truth):
    hits, false_alarms, misses = ([0] * K for _ in range(3))
    for p, t in zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True):
        for k in range(1, K + 1):
            hits[k - 1] += p == k and t == k
            false_alarms[k - 1] += p == k and t != k
            misses[k - 1] += p != k and t == k
    return [hits, false_alarms, misses]


def listed(counts):
    return [counts.hits.tolist(), counts.false_alarms.tolist(), counts.misses.tolist()]


@given(PAIRS)
def test_counts_and_scores_equal_a_slow_loop(pair):
    counts = count_overlap(*pair, K)
    assert listed(counts) == slow_counts(*pair)
    for k, (hit, alarm, miss) in enumerate(zip(*slow_counts(*pair), strict=True)):
        if hit + alarm + miss:
            assert dice(counts)[k] == pytest.approx(2 * hit / (2 * hit + alarm + miss))
            assert iou(counts)[k] == pytest.approx(hit / (hit + alarm + miss))
        else:
            assert np.isnan([dice(counts)[k], iou(counts)[k]]).all()


@given(PAIRS, st.lists(st.integers(1, 5), max_size=3), st.integers(0, 2))
def test_counts_add_up_over_any_cutting(pair, cuts, axis):
    pieces = np.split(pair, sorted({c for c in cuts if c < pair.shape[axis + 1]}), axis=axis + 1)
    total = no_counts(K)
    for prediction, truth in pieces:
        total += count_overlap(prediction, truth, K)
    assert listed(total) == listed(count_overlap(*pair, K))


def test_a_class_absent_from_both_has_no_score_and_does_not_pull_the_mean():
    truth = np.array([1, 1, 0, 0], np.uint8)
    counts = count_overlap(np.array([1, 0, 0, 0], np.uint8), truth, 2)
    assert dice(counts)[0] == pytest.approx(2 / 3)
    assert np.isnan(dice(counts)[1])
    assert mean_score(dice(counts)) == pytest.approx(2 / 3)
    assert mean_score(dice(no_counts(2))) == 0.0


def test_a_class_only_predicted_or_only_true_scores_zero():
    assert dice(count_overlap(np.array([1, 0]), np.array([0, 2]), 2)).tolist() == [0.0, 0.0]


def test_counting_leaves_what_is_added_to_alone():
    zero = no_counts(1)
    _ = zero + count_overlap(np.ones(3, np.uint8), np.ones(3, np.uint8), 1)
    assert listed(zero) == [[0], [0], [0]]


def test_voxels_that_were_not_annotated_are_left_out():
    rng = np.random.default_rng(0)
    prediction, truth = rng.integers(0, 3, (2, 4, 5, 6)).astype(np.uint8)
    hidden = rng.random(truth.shape) < 0.3
    truth_seen = np.where(hidden, 255, truth).astype(np.uint8)
    found = count_overlap(prediction, truth_seen, 2)
    expected = count_overlap(prediction[~hidden], truth[~hidden], 2)
    for name in ("hits", "false_alarms", "misses"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert not count_overlap(prediction, np.full_like(truth, 255), 2).misses.any()
