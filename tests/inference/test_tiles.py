"""Where tiles lie: they cover everything, stay inside, and share what was asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib.errors import ConfigError
from seglib.inference.predict import count_tiles
from seglib.inference.tiles import blend_window, fitting_tile, tile_starts

AXIS = st.integers(1, 60).flatmap(lambda length: st.tuples(st.just(length), st.integers(1, length)))


@given(AXIS, st.floats(0, 0.99))
def test_tiles_cover_an_axis_stay_inside_and_share_what_was_asked(axis, overlap):
    length, tile = axis
    starts = tile_starts(length, tile, overlap)
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    assert starts[-1] + tile == length
    gaps = np.diff(starts)
    assert (gaps <= tile).all()
    # As near to the share as whole voxels allow, and never standing still.
    assert all(tile - gap >= min(tile - 1, overlap * tile - 0.5) for gap in gaps)


def test_a_tile_that_fits_exactly_is_one_tile():
    assert tile_starts(8, 8, 0.75) == [0]
    assert tile_starts(9, 8, 0.0) == [0, 1]
    assert tile_starts(16, 8, 0.0) == [0, 8]


@pytest.mark.parametrize(("length", "tile", "overlap"), [(4, 5, 0.0), (8, 4, 1.0), (8, 4, -0.1)])
def test_tiles_that_cannot_cover_are_refused(length, tile, overlap):
    with pytest.raises(ConfigError, match=f"Tiles of {tile} .* cannot cover {length} voxels"):
        tile_starts(length, tile, overlap)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 8, 9), (5, 2, 16)])
def test_the_window_is_symmetric_highest_in_the_middle_and_never_zero(shape):
    window = blend_window(shape)
    assert window.shape == shape
    assert window.dtype == np.float32
    assert window.min() > 0
    assert np.allclose(window, window[::-1, ::-1, ::-1])
    assert window[tuple(side // 2 for side in shape)] == window.max()
    assert (blend_window(shape, flat=True) == 1).all()


def test_the_window_is_a_gaussian_of_a_quarter_of_the_side():
    line = blend_window((1, 1, 9))[0, 0]
    assert line == pytest.approx(np.exp(-0.5 * ((np.arange(9) - 4) / 2.25) ** 2), rel=1e-5)


SIDES = st.tuples(*[st.integers(1, 40)] * 3)


@given(SIDES, st.tuples(*[st.integers(1, 5)] * 3), st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 3))
def test_a_fitting_tile_is_a_multiple_of_the_stride_and_sticks_out_by_less_than_one(room, times, stride):
    wanted = [n * step for n, step in zip(times, stride, strict=True)]
    for side, whole, asked, step in zip(fitting_tile(room, wanted, stride), room, wanted, stride, strict=True):
        assert side % step == 0
        assert 0 < side <= asked
        assert side - whole < step
        assert side == asked or side >= whole


@given(SIDES, st.floats(0, 0.75))
def test_tiles_are_counted_as_they_are_made(room, overlap):
    wanted, stride = (8, 16, 8), (4, 4, 4)
    tile = fitting_tile(room, wanted, stride)
    made = [len(tile_starts(max(whole, side), side, overlap)) for whole, side in zip(room, tile, strict=True)]
    assert count_tiles(room, wanted, stride, overlap) == made[0] * made[1] * made[2]
