"""Best thresholds against trying every one, and that histograms add up over any cutting."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seglib.errors import DataError
from seglib.metrics.overlap import PIECE
from seglib.metrics.thresholds import best_thresholds, count_probabilities, no_probabilities

K = 2
# Steps of 1/4096 are exact in float32, also times 200, so that no rounding blurs what is above a threshold.
EXACT = 4096
SIZES = st.tuples(st.integers(1, 4), st.integers(1, 12))
TILES = SIZES.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(np.uint16, (K, *shape), elements=st.integers(0, EXACT)),
        hnp.arrays(np.uint8, shape, elements=st.one_of(st.integers(0, K), st.just(255))),
    )
)


def as_probabilities(whole):
    return whole.astype(np.float32) / np.float32(EXACT)


def tried(whole, truth, k):
    """(value, Dice) by trying every threshold on the integers that the probabilities were made of."""
    seen = truth != 255
    real = truth[seen] == k
    if not real.any():
        return 0.5, math.nan
    candidates = []
    for step in range(1, 200):
        found = whole[k - 1][seen].astype(int) * 200 > step * EXACT
        score = 2 * (found & real).sum() / (found.sum() + real.sum())
        candidates.append((-score, abs(step - 100), step))
    score, _, step = min(candidates)
    return step / 200, -score


@given(TILES)
def test_the_best_threshold_is_what_trying_every_one_finds(tile):
    whole, truth = tile
    found = best_thresholds(count_probabilities(as_probabilities(whole), truth))
    for k, best in enumerate(found, 1):
        value, score = tried(whole, truth, k)
        assert best.value == value
        assert best.dice == pytest.approx(score, nan_ok=True)


@given(TILES, st.integers(1, 3))
def test_histograms_add_up_over_any_cutting(tile, cut):
    whole, truth = tile
    probabilities = as_probabilities(whole)
    total = no_probabilities(K)
    for piece in (slice(None, cut), slice(cut, None)):
        total += count_probabilities(probabilities[:, piece], truth[piece])
    at_once = count_probabilities(probabilities, truth)
    np.testing.assert_array_equal(total.inside, at_once.inside)
    np.testing.assert_array_equal(total.outside, at_once.outside)
    assert (total.inside.sum(1) + total.outside.sum(1) == (truth != 255).sum()).all()


def test_a_threshold_is_found_where_the_classes_part():
    truth = np.array([0, 0, 0, 1, 1], np.uint8)
    (best,) = best_thresholds(count_probabilities(np.array([[0.1, 0.2, 0.7, 0.8, 0.9]], np.float32), truth))
    # 0.70 … 0.795 all part them; a voxel at the threshold is not above it.
    assert best.value == 0.7
    assert best.dice == 1


def test_of_equally_good_thresholds_the_nearest_to_one_half_wins_and_then_the_lower():
    truth = np.array([0, 1], np.uint8)
    (around,) = best_thresholds(count_probabilities(np.array([[0.1, 0.9]], np.float32), truth))
    assert around.value == 0.5
    # Dice 2/3 where all or only the surest is found: up to 0.495 and from 0.505, as far from 0.5.
    truth = np.array([1, 0, 0, 1], np.uint8)
    (between,) = best_thresholds(count_probabilities(np.array([[0.498, 0.503, 0.503, 0.9]], np.float32), truth))
    assert between.value == 0.495


def test_a_class_that_is_absent_keeps_one_half_and_has_no_dice():
    found = best_thresholds(count_probabilities(np.full((2, 3), 0.9, np.float32), np.array([0, 1, 255], np.uint8)))
    assert found[0].dice == pytest.approx(2 / 3)
    assert found[1].value == 0.5
    assert math.isnan(found[1].dice)
    assert [best.value for best in best_thresholds(no_probabilities(2))] == [0.5, 0.5]


def test_a_probability_that_rounding_lifted_above_one_counts_as_one():
    above = np.nextafter(np.float32(1), np.float32(2))
    found = count_probabilities(np.array([[above, 1, -1e-9]], np.float32), np.array([1, 0, 0], np.uint8))
    assert found.inside[0, 200] == found.outside[0, 200] == found.outside[0, 0] == 1


def test_large_tiles_are_counted_in_pieces():
    rng = np.random.default_rng(0)
    probabilities = rng.random((1, PIECE + 17), dtype=np.float32)
    truth = (rng.random(probabilities.shape[1]) < 0.3).astype(np.uint16)
    found = count_probabilities(probabilities, truth)
    edges = np.arange(201) / 200
    inside, _ = np.histogram(1 - probabilities[0, truth == 1].astype(float), edges)
    # Mirrored, as NumPy's bins hold their lower edge and these the upper one.
    np.testing.assert_allclose(found.inside[0, 1:], inside[::-1], atol=2)
    assert found.inside.sum() + found.outside.sum() == truth.size


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match=r"are \(1, 3\), but the truth is \(2,\)"):
        count_probabilities(np.zeros((1, 3), np.float32), np.zeros(2, np.uint8))
    with pytest.raises(DataError, match="The truth holds the class id 2, but ids go from 0 to 1"):
        count_probabilities(np.zeros((1, 2), np.float32), np.array([0, 2], np.uint8))
