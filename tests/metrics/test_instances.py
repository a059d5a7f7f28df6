"""Instance scores against slow loops, scikit-image, a dense assignment and StarDist's rule; and that counts add up."""

import math
from collections import Counter
from functools import reduce
from operator import add

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment
from skimage.draw import disk
from skimage.metrics import adapted_rand_error, variation_of_information

from seglib.errors import ConfigError, DataError
from seglib.metrics import contingency
from seglib.metrics.contingency import compare_partitions, count_pairs, no_pairs
from seglib.metrics.instances import (
    THRESHOLDS,
    Group,
    Match,
    count_instances,
    find_differences,
    instance_scores,
    match_objects,
)

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8))
PAIRS = SHAPES.flatmap(lambda shape: hnp.arrays(np.uint16, (2, *shape), elements=st.integers(0, 5)))
# Slow loops on a busy machine have no deadline.
WILD = settings(max_examples=60, deadline=None)
LOW = (0.05, 0.1, 0.2, 0.3, 0.4)


def counted(table):
    keys = zip(table.truth.tolist(), table.prediction.tolist(), strict=True)
    return dict(zip(keys, table.voxels.tolist(), strict=True))


def slowly_counted(truth, prediction):
    return dict(Counter(zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True)))


def dense_iou(truth, prediction):
    """IoU of every true object with every predicted one, from masks."""
    truths, predictions = ([i for i in np.unique(one) if i] for one in (truth, prediction))
    scores = np.zeros((len(truths), len(predictions)))
    for row, t in enumerate(truths):
        for column, p in enumerate(predictions):
            inside = (truth == t), (prediction == p)
            scores[row, column] = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum()
    return scores


def dense_matching(truth, prediction, threshold):
    """Hits and their IoU summed by StarDist's rule: a pair at the threshold is worth more than all IoU together."""
    scores = dense_iou(truth, prediction)
    if not scores.size:
        return 0, 0.0
    pairs = linear_sum_assignment(-(scores >= threshold).astype(float) - scores / (2 * min(scores.shape)))
    matched = scores[pairs][scores[pairs] >= threshold]
    return len(matched), float(matched.sum())


def random_objects(seed, side=24, objects=40, noise=0.3):
    """Two volumes of boxes; the prediction's are moved, some dropped, with ids of their own."""
    rng = np.random.default_rng(seed)
    truth, prediction = np.zeros((2, 6, side, side), np.uint32)
    for number in range(1, objects + 1):
        corner, size = rng.integers(0, (5, side - 4, side - 4)), rng.integers(2, 7, 3)
        truth[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = number
        if rng.random() > noise / 2:
            moved = np.maximum(corner + rng.integers(-1, 2, 3), 0)
            prediction[tuple(slice(c, c + s) for c, s in zip(moved, size, strict=True))] = 1000 - number
    return truth, prediction


def five_discs(shift):
    """StarDist's own case: equal discs in a row, and the same moved; also the IoU of each with its own."""
    truth = np.zeros((1, 128, 128), np.uint16)
    for number, x in enumerate(np.linspace(0, 128, 7)[1:-1], start=1):
        truth[0][disk((64, x), 8, shape=(128, 128))] = number
    moved = np.roll(truth, shift, 1)
    return truth, moved, ((moved == truth) & (truth > 0)).sum() / ((moved > 0) | (truth > 0)).sum()


# The table


@WILD
@given(PAIRS)
def test_a_table_counts_every_pair_of_ids_as_a_slow_loop_does(pair):
    table = count_pairs(*pair)
    assert counted(table) == slowly_counted(*pair)
    assert list(counted(table)) == sorted(counted(table))


@WILD
@given(
    pair=SHAPES.flatmap(
        lambda shape: hnp.arrays(np.uint64, (2, *shape), elements=st.sampled_from([0, 1, 2**32, 2**32 + 1, 2**64 - 1]))
    )
)
def test_ids_may_be_as_large_as_64_bits(pair):
    assert counted(count_pairs(*pair)) == slowly_counted(*pair)


@WILD
@given(PAIRS, st.integers(0, 2), st.integers(1, 7))
def test_tables_of_blocks_of_a_volume_add_up_to_that_of_the_whole(pair, axis, cut):
    pieces = np.split(pair, [min(cut, pair.shape[axis + 1])], axis + 1)
    table = reduce(add, (count_pairs(*piece) for piece in pieces), no_pairs())
    assert counted(table) == counted(count_pairs(*pair))


def test_a_volume_is_counted_in_any_number_of_pieces(monkeypatch):
    truth, prediction = random_objects(0)
    expected = slowly_counted(truth, prediction)
    for piece in (1, 7, 100, 577):
        monkeypatch.setattr(contingency, "PIECE", piece)
        monkeypatch.setattr(contingency, "PENDING", 20)
        assert counted(count_pairs(truth, prediction)) == expected
        assert counted(count_pairs(truth.transpose(2, 0, 1), prediction.transpose(2, 0, 1))) == expected


def test_chunked_arrays_on_disk_count_as_those_in_memory(tmp_path):
    truth, prediction = random_objects(1)
    stored = zarr.create_array(str(tmp_path / "labels.zarr"), shape=truth.shape, dtype=truth.dtype, chunks=(4, 10, 24))
    stored[:] = prediction
    assert counted(count_pairs(truth, stored)) == slowly_counted(truth, prediction)
    assert counted(count_pairs(stored, truth)) == slowly_counted(prediction, truth)


@WILD
@given(PAIRS, st.integers(0, 2**32 - 1))
def test_voxels_that_were_not_annotated_are_left_out(pair, seed):
    truth, prediction = pair
    hidden = np.random.default_rng(seed).random(truth.shape) < 0.4
    marked = np.where(hidden, 255, truth).astype(np.uint8)
    expected = slowly_counted(truth[~hidden], prediction[~hidden])
    assert counted(count_pairs(truth, prediction, ignore=hidden)) == expected
    assert counted(count_pairs(marked, prediction, ignored_id=255)) == expected
    both = count_pairs(truth, prediction, ignore=hidden, ignored_id=1)
    assert counted(both) == slowly_counted(truth[~hidden & (truth != 1)], prediction[~hidden & (truth != 1)])


def test_what_cannot_be_compared_is_refused_with_the_reason():
    ids = np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(DataError, match=r"prediction is \(2, 3, 5\), but the truth is \(2, 3, 4\)"):
        count_pairs(ids, np.zeros((2, 3, 5), np.uint8))
    with pytest.raises(DataError, match=r"truth is \(3, 4\)"):
        count_pairs(ids[0], ids[0])
    with pytest.raises(DataError, match="mask of what to ignore is"):
        count_pairs(ids, ids, ignore=np.zeros((2, 3, 3), bool))
    with pytest.raises(DataError, match="prediction holds float32"):
        count_pairs(ids, ids.astype(np.float32))
    with pytest.raises(DataError, match="id -2"):
        count_pairs(ids, np.full((2, 3, 4), -2, np.int16))


# Matching


@WILD
@given(PAIRS)
def test_matches_equal_a_dense_assignment_by_stardists_rule(pair):
    for found in match_objects(count_pairs(*pair)):
        hits, score_sum = dense_matching(*pair, found.threshold)
        assert (found.hits, found.score_sum) == (hits, pytest.approx(score_sum))
        assert found.true_objects == len(np.unique(pair[0][pair[0] > 0]))
        assert found.predicted_objects == len(np.unique(pair[1][pair[1] > 0]))


@WILD
@given(PAIRS)
def test_below_one_half_as_many_pairs_are_matched_as_by_a_dense_assignment(pair):
    for found in match_objects(count_pairs(*pair), LOW):
        assert found.hits == dense_matching(*pair, found.threshold)[0]


@pytest.mark.parametrize("seed", range(5))
def test_below_one_half_the_same_pairs_are_matched_as_by_a_dense_assignment(seed):
    """On objects so irregular that no two choices are equally good."""
    truth, prediction = random_objects(seed)
    for found in match_objects(count_pairs(truth, prediction), LOW):
        expected = dense_matching(truth, prediction, found.threshold)
        assert (found.hits, found.score_sum) == (expected[0], pytest.approx(expected[1]))


def test_as_many_pairs_as_can_be_come_before_pairs_that_overlap_well():
    # IoU of (1, 1) is 6/12, of (1, 2) 3/9, of (2, 1) 3/10: taking the best pair would leave the other two without.
    truth = np.array([[[1] * 9 + [2] * 4 + [0] * 4]])
    prediction = np.array([[[1] * 6 + [2] * 3 + [1] * 3 + [0] * 5]])
    low, high = match_objects(count_pairs(truth, prediction), (0.2, 0.4))
    assert (low.hits, low.score_sum) == (2, pytest.approx(3 / 9 + 3 / 10))
    assert (high.hits, high.score_sum) == (1, pytest.approx(6 / 12))


@pytest.mark.parametrize("shift", [0, 5, 10])
def test_moved_discs_match_below_their_iou(shift):
    truth, moved, iou = five_discs(shift)
    (found,) = match_objects(count_pairs(truth, moved), (0.5 * iou,))
    assert (found.hits, found.false_alarms, found.misses) == (5, 0, 0)
    assert found.segmentation_quality == pytest.approx(iou, abs=0.02)


@pytest.mark.parametrize("shift", [5, 10])
def test_moved_discs_do_not_match_beyond_their_iou(shift):
    truth, moved, iou = five_discs(shift)
    (found,) = match_objects(count_pairs(truth, moved), (2 * iou,))
    assert (found.hits, found.false_alarms, found.misses) == (0, 5, 5)


def test_ids_do_not_matter_to_what_matches():
    truth, _ = random_objects(2)
    other = np.random.default_rng(0).permutation(1000)[truth] + 1
    other[truth == 0] = 0
    scores = instance_scores(count_instances(count_pairs(truth, other), (0.5, 1.0)))
    assert scores["ap@1"] == scores["pq@1"] == scores["f1@0.5"] == 1
    assert scores["rand_error"] == pytest.approx(0)
    assert scores["voi"] == scores["count_error"] == 0


def test_scores_follow_their_formulas():
    """Two objects found with IoU 4/5 and 3/5, one missed, two made up."""
    truth = np.array([[[1, 1, 1, 1, 0, 2, 2, 2, 2, 2, 0, 3, 3, 0, 0, 0]]])
    prediction = np.array([[[1, 1, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 4, 5, 5]]])
    (found,) = match_objects(count_pairs(truth, prediction), (0.6,))
    assert (found.hits, found.false_alarms, found.misses) == (2, 2, 1)
    assert found.precision == pytest.approx(2 / 4)
    assert found.recall == pytest.approx(2 / 3)
    assert found.f1 == pytest.approx(4 / 7)
    assert found.ap == pytest.approx(2 / 5)
    assert found.segmentation_quality == pytest.approx(1.4 / 2)
    assert found.mean_true_score == pytest.approx(1.4 / 3)
    assert found.panoptic_quality == pytest.approx(1.4 / 3.5) == found.segmentation_quality * found.f1


def test_matches_give_the_numbers_stardist_gives():
    """Written down from StarDist 0.9.2 on the same volumes: tp, fp, fn, mean_matched_score, panoptic_quality."""
    truth, prediction = random_objects(7)
    expected = {
        0.1: (32, 4, 6, 0.3518246114, 0.3042807450),
        0.2: (24, 12, 14, 0.4365384579, 0.2831600808),
        0.3: (15, 21, 23, 0.5474449158, 0.2219371280),
        0.5: (6, 30, 32, 0.8022748629, 0.1300986264),
        0.75: (3, 33, 35, 0.9109825293, 0.0738634483),
        0.9: (2, 34, 36, 0.9198718070, 0.0497227804),
    }
    table = count_pairs(truth, prediction)
    for threshold, (hits, false_alarms, misses, matched, panoptic) in expected.items():
        (found,) = match_objects(table, (threshold,))
        assert (found.hits, found.false_alarms, found.misses) == (hits, false_alarms, misses)
        assert found.segmentation_quality == pytest.approx(matched, abs=1e-6)
        assert found.panoptic_quality == pytest.approx(panoptic, abs=1e-6)


def test_an_object_and_its_two_halves_match_once_at_one_half():
    whole, halves = np.array([[[1, 1, 1, 1]]]), np.array([[[7, 7, 9, 9]]])
    for table in (count_pairs(whole, halves), count_pairs(halves, whole)):
        (found,) = match_objects(table, (0.5,))
        assert (found.hits, found.score_sum) == (1, 0.5)
        assert found.false_alarms + found.misses == 1


def test_objects_on_one_side_only_score_zero_and_on_none_nan():
    empty, one = np.zeros((1, 2, 2), int), np.array([[[1, 1], [0, 0]]])
    for table in (count_pairs(empty, one), count_pairs(one, empty)):
        (found,) = match_objects(table, (0.5,))
        scores = (found.precision, found.recall, found.f1, found.ap, found.panoptic_quality, found.mean_true_score)
        assert scores == (0, 0, 0, 0, 0, 0)
    for table in (count_pairs(empty, empty), no_pairs()):
        (found,) = match_objects(table, (0.5,))
        assert found.hits + found.false_alarms + found.misses == 0
        assert np.isnan([found.precision, found.recall, found.f1, found.ap, found.segmentation_quality]).all()


def test_thresholds_out_of_range_are_refused():
    table = count_pairs(np.ones((1, 1, 1), int), np.ones((1, 1, 1), int))
    for threshold in (0, 1.5, math.nan):
        with pytest.raises(ConfigError, match="threshold"):
            match_objects(table, (threshold,))
    with pytest.raises(ConfigError, match="no threshold"):
        count_instances(table, ())
    with pytest.raises(ConfigError, match="share"):
        find_differences(table, share=0)
    with pytest.raises(ConfigError, match="cannot be added"):
        count_instances(table, (0.5,)) + count_instances(table, (0.6,))


# Rand error and variation of information


@WILD
@given(PAIRS, st.sampled_from([(), (0,), (0, 2)]))
def test_partition_scores_equal_scikit_image(pair, ignored):
    truth, prediction = pair
    agreement = compare_partitions(count_pairs(truth, prediction), ignored_truth=ignored)
    kept = ~np.isin(truth, ignored)
    if not kept.any():
        assert np.isnan([agreement.rand_error, agreement.voi_split, agreement.voi_merge]).all()
        return
    split, merge = variation_of_information(truth, prediction, ignore_labels=ignored)
    assert (agreement.voi_split, agreement.voi_merge) == (pytest.approx(split), pytest.approx(merge))
    with np.errstate(invalid="ignore", divide="ignore"):
        error, per_true_pair, per_predicted_pair = adapted_rand_error(truth, prediction, ignore_labels=ignored)
    assert agreement.rand_error == pytest.approx(error, nan_ok=True)
    if agreement.truth_together and agreement.prediction_together:
        assert agreement.rand_recall == pytest.approx(per_true_pair)
        assert agreement.rand_precision == pytest.approx(per_predicted_pair)


def test_a_merge_lowers_rand_precision_and_a_split_recall():
    two, one = np.array([[[1, 1, 2, 2]]]), np.array([[[5, 5, 5, 5]]])
    merged, split = compare_partitions(count_pairs(two, one)), compare_partitions(count_pairs(one, two))
    assert (merged.rand_precision, merged.rand_recall) == (pytest.approx(1 / 3), 1)
    assert (split.rand_precision, split.rand_recall) == (1, pytest.approx(1 / 3))
    assert (merged.voi_split, merged.voi_merge) == (0, 1)
    assert (split.voi_split, split.voi_merge) == (1, 0)


# All together


def test_counts_of_volumes_add_up_to_those_of_all_with_ids_kept_apart():
    volumes = [random_objects(seed) for seed in range(3)]
    tables = [count_pairs(*pair) for pair in volumes]
    total = reduce(add, (count_instances(table) for table in tables))
    truth = np.concatenate([np.where(one, one + 5000 * number, 0) for number, (one, _) in enumerate(volumes)])
    # The background of a prediction meets truth of its own volume only, so for Rand and voi it has an id in each.
    shifted = np.concatenate([one + 5000 * number for number, (_, one) in enumerate(volumes)])
    prediction = np.where(shifted % 5000, shifted, 0)
    whole = match_objects(count_pairs(truth, prediction))
    for found, expected in zip(total.matchings, whole, strict=True):
        assert (found.hits, found.false_alarms, found.misses) == (
            expected.hits,
            expected.false_alarms,
            expected.misses,
        )
        assert found.score_sum == pytest.approx(expected.score_sum)
    agreement = compare_partitions(count_pairs(truth, shifted))
    assert total.agreement.voxels == agreement.voxels
    assert total.agreement.rand_error == pytest.approx(agreement.rand_error)
    assert total.agreement.rand_precision == pytest.approx(agreement.rand_precision)
    assert total.agreement.voi_split == pytest.approx(agreement.voi_split)
    assert total.agreement.voi_merge == pytest.approx(agreement.voi_merge)
    scores = instance_scores(total)
    assert scores["count_error"] == sum(len(np.unique(p)) - len(np.unique(t)) for t, p in volumes)


def test_scores_are_named_by_what_they_are_and_their_threshold():
    truth, prediction = random_objects(3)
    table = count_pairs(truth, prediction)
    scores = instance_scores(count_instances(table))
    for matching in match_objects(table):
        at = f"@{matching.threshold:g}"
        assert scores[f"f1{at}"] == matching.f1
        assert scores[f"sq{at}"] == matching.segmentation_quality
        assert scores[f"pq{at}"] == matching.panoptic_quality
        assert scores[f"true_score{at}"] == matching.mean_true_score
        assert (scores[f"precision{at}"], scores[f"recall{at}"]) == (matching.precision, matching.recall)
    assert scores["ap"] == pytest.approx(np.mean([scores[f"ap@{threshold:g}"] for threshold in THRESHOLDS]))
    agreement = compare_partitions(table)
    assert scores["rand_error"] == agreement.rand_error
    assert (scores["voi_split"], scores["voi_merge"]) == (agreement.voi_split, agreement.voi_merge)
    true, predicted = len(np.unique(truth)) - 1, len(np.unique(prediction)) - 1
    assert scores["count_error"] == predicted - true != 0
    assert scores["count_error_relative"] == pytest.approx((predicted - true) / true)


def test_scores_of_nothing_are_nan_but_the_count_error():
    scores = instance_scores(count_instances(count_pairs(*np.zeros((2, 2, 2, 2), np.uint8))))
    defined = {name for name, value in scores.items() if not math.isnan(value)}
    assert defined == {"true_objects", "predicted_objects", "count_error"}
    assert scores["count_error"] == 0


# Lists


def test_objects_are_listed_by_what_became_of_them():
    truth = np.array([[[1, 1, 1, 1, 0, 2, 2, 3, 3, 0, 8, 8, 0, 0, 5, 5, 5, 5, 5, 5]]])
    prediction = np.array([[[1, 1, 1, 0, 0, 6, 6, 6, 6, 0, 0, 0, 7, 0, 4, 4, 4, 4, 9, 9]]])
    found = find_differences(count_pairs(truth, prediction), 0.6)
    assert found.matched == (Match(1, 1, 0.75), Match(5, 4, pytest.approx(4 / 6)))
    assert found.missed == (2, 3, 8)
    assert found.false == (6, 7, 9)
    assert found.split == (Group(5, (4, 9), (4, 2)),)
    assert found.merged == (Group(6, (2, 3), (2, 2)),)


def test_an_object_that_only_reaches_into_another_is_no_part_of_it():
    truth = np.array([[[1] * 6 + [2] * 6]])
    prediction = np.array([[[3] * 4 + [4] * 8]])
    table = count_pairs(truth, prediction)
    assert find_differences(table).split == find_differences(table).merged == ()
    assert find_differences(table, share=0.25).split == (Group(1, (3, 4), (4, 2)),)
    assert find_differences(table, share=0.25).merged == (Group(4, (1, 2), (2, 6)),)


@WILD
@given(PAIRS, st.sampled_from([0.1, 0.3, 0.5, 0.7]))
def test_every_object_is_matched_once_or_listed_as_missed_or_false(pair, threshold):
    truth, prediction = pair
    table = count_pairs(truth, prediction)
    found = find_differences(table, threshold)
    assert sorted([*(m.truth for m in found.matched), *found.missed]) == [i for i in np.unique(truth) if i]
    assert sorted([*(m.prediction for m in found.matched), *found.false]) == [i for i in np.unique(prediction) if i]
    assert len(found.matched) == match_objects(table, (threshold,))[0].hits
    for match in found.matched:
        inside = truth == match.truth, prediction == match.prediction
        assert match.iou == pytest.approx((inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum())
        assert match.iou >= threshold


@WILD
@given(PAIRS)
def test_split_and_merged_objects_equal_a_slow_loop(pair):
    truth, prediction = pair
    found = find_differences(count_pairs(truth, prediction))

    def slow(wholes, parts):
        groups = {
            whole: {
                part: int(((wholes == whole) & (parts == part)).sum())
                for part in np.unique(parts[parts > 0]).tolist()
                if 2 * ((wholes == whole) & (parts == part)).sum() >= (parts == part).sum()
            }
            for whole in np.unique(wholes[wholes > 0]).tolist()
        }
        return tuple(Group(w, tuple(g), tuple(g.values())) for w, g in groups.items() if len(g) > 1)

    assert found.split == slow(truth, prediction)
    assert found.merged == slow(prediction, truth)
