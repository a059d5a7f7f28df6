"""Another voxel size: straight lines stay straight, means stay means, and pieces are as the whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from seglib.inference.resample import Resampled, other_grid


def test_sizes_that_differ_by_little_are_the_same():
    assert other_grid((10, 20, 30), (40, 10, 10), (41, 10.3, 9.8), flat=False) is None
    assert other_grid((10, 20, 30), (40, 10, 10), (40, 20, 5), flat=False) == (10, 10, 60)
    assert other_grid((10, 20, 30), (80, 10, 10), (40, 10, 10), flat=True) is None
    assert other_grid((1, 3, 3), (10, 10, 10), (1000, 1000, 1000), flat=False) == (1, 1, 1)


SIDES = st.tuples(*[st.integers(1, 14)] * 3)


@given(SIDES, SIDES, st.data())
def test_a_part_is_what_it_is_of_the_whole(own, wanted, data):
    image = np.random.default_rng(0).normal(size=(2, *own)).astype(np.float32)
    view = Resampled(image, wanted)
    whole = view[:, :]
    assert view.shape == whole.shape == (2, *wanted)
    box = []
    for side in wanted:
        low = data.draw(st.integers(0, side - 1))
        box.append(slice(low, data.draw(st.integers(low + 1, side))))
    assert np.allclose(view[(slice(None), *box)], whole[(slice(None), *box)], atol=1e-5)
    assert np.allclose(view[(slice(1, 2), *box)], whole[(slice(1, 2), *box)], atol=1e-5)


@given(SIDES, SIDES)
def test_what_is_the_same_everywhere_stays_so(own, wanted):
    assert np.allclose(Resampled(np.full((1, *own), 7.0), wanted)[:, :], 7, atol=1e-5)


@pytest.mark.parametrize("wanted", [13, 16, 40])
def test_a_straight_line_stays_straight_away_from_the_ends(wanted):
    own = 20
    line = (np.arange(own) + 0.5).reshape(1, 1, 1, own)
    found = Resampled(line, (1, 1, wanted))[:, :][0, 0, 0]
    expected = (np.arange(wanted) + 0.5) * own / wanted
    reach = 2 + max(1, wanted // own)
    inside = slice(reach, -reach)
    assert np.allclose(found[inside], expected[inside], atol=1e-4 if wanted > own else 0.1)


def test_finer_voxels_are_interpolated_as_scipy_does():
    image = np.random.default_rng(0).normal(size=(6, 7, 8))
    found = Resampled(image[None], (12, 14, 16))[:, :][0]
    expected = ndimage.zoom(image, 2, order=1, mode="nearest", grid_mode=True)
    assert np.allclose(found, expected, atol=1e-5)


def test_larger_voxels_do_not_show_what_is_finer_than_they_are():
    stripes = np.tile([0.0, 1.0], 32).reshape(1, 1, 1, 64)
    found = Resampled(stripes, (1, 1, 16))[:, :][0, 0, 0]
    assert np.allclose(found[1:-1], 0.5, atol=0.01)
