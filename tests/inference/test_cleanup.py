"""Small pieces and holes, slab by slab, against SciPy on the whole volume."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from seglib.config import CleaningConfig
from seglib.inference.cleanup import cleaned, passes, slab_starts


def in_slabs(ids, config, planes):
    starts = slab_starts(ids.shape, planes * ids.shape[1] * ids.shape[2])
    steps = []

    def slabs(number):
        return ids[starts[number] : starts[number + 1]].copy()

    count = len(starts) - 1
    found = cleaned(slabs, count, config, lambda: steps.append(1))
    assert len(steps) == passes(config) * count
    return np.concatenate([found(number) for number in range(count)])


def without_small(ids, smallest):
    result = ids.copy()
    for value in np.unique(ids[ids > 0]):
        parts, _ = ndimage.label(ids == value)
        sizes = np.bincount(parts.ravel())
        result[(parts > 0) & (sizes[parts] < smallest)] = 0
    return result


def without_holes(ids, most):
    result = ids.copy()
    parts, count = ndimage.label(ids == 0)
    for number in range(1, count + 1):
        hole = parts == number
        places = np.argwhere(hole)
        axes = [axis for axis in range(3) if ids.shape[axis] > 1 or axis > 0]
        on_border = any((places[:, a] == 0).any() or (places[:, a] == ids.shape[a] - 1).any() for a in axes)
        around = np.unique(ids[ndimage.binary_dilation(hole) & ~hole])
        if not on_border and hole.sum() <= most and len(around) == 1:
            result[hole] = around[0]
    return result


@st.composite
def volumes(draw):
    shape = draw(st.tuples(st.integers(1, 9), st.integers(3, 9), st.integers(3, 9)))
    seed, share = draw(st.integers(0, 10**6)), draw(st.sampled_from([0.3, 0.6, 0.85]))
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < share, rng.integers(1, draw(st.integers(2, 4)), shape), 0).astype(np.uint8)


@given(volumes(), st.integers(0, 12), st.integers(0, 12), st.integers(1, 9))
def test_slabs_are_cleaned_as_the_whole_volume_is(ids, smallest, holes, planes):
    found = in_slabs(ids, CleaningConfig(smallest=smallest, holes=holes), planes)
    expected = without_holes(without_small(ids, smallest), holes)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)


def test_a_piece_that_spans_many_slabs_is_as_large_as_all_its_parts():
    ids = np.zeros((12, 5, 5), np.uint8)
    ids[:, 2, 2] = 1
    ids[0, 0, 0] = 1
    found = in_slabs(ids, CleaningConfig(smallest=12), 1)
    assert found.sum() == 12
    assert found[0, 0, 0] == 0
    assert in_slabs(ids, CleaningConfig(smallest=13), 1).sum() == 0


@pytest.mark.parametrize("planes", [1, 2, 7])
def test_a_hole_between_two_classes_stays(planes):
    ids = np.ones((7, 7, 7), np.uint8)
    ids[3, 3, 3] = 0
    assert in_slabs(ids, CleaningConfig(holes=1), planes)[3, 3, 3] == 1
    ids[4, 3, 3] = 2
    assert in_slabs(ids, CleaningConfig(holes=1), planes)[3, 3, 3] == 0


def test_a_hole_in_a_single_plane_is_one():
    ids = np.ones((1, 5, 5), np.uint8)
    ids[0, 2, 2] = 0
    assert in_slabs(ids, CleaningConfig(holes=1), 1).all()
