"""Where tiles lie: they cover everything, start where the network's grid allows, and count for 1 together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib.errors import ConfigError
from seglib.inference.tiles import fitting_tile, margins_of, plan_tiles, rounded_up


@st.composite
def axes(draw):
    stride = draw(st.sampled_from([1, 2, 4, 8]))
    tile = stride * draw(st.integers(1, 8))
    margin = draw(st.integers(0, tile // 2))
    blending, mirrored = draw(st.sampled_from(["gaussian", "halo"])), draw(st.booleans())
    length = draw(st.integers(1, 90))
    tiling = plan_tiles(
        (1, 1, length), (1, 1, tile), (1, 1, stride), (0, 0, margin), blending=blending, mirrored=mirrored
    )
    return tiling.axes[2], stride, margin, blending, mirrored


@given(axes())
def test_windows_add_up_to_one_at_every_voxel(drawn):
    axis, *_ = drawn
    total = np.zeros(axis.padded)
    for start, window in zip(axis.starts, axis.windows, strict=True):
        assert window.dtype == np.float32
        assert window.min() >= 0
        total[start : start + axis.tile] += window
    assert np.allclose(total[axis.border : axis.border + axis.length], 1, atol=1e-5)


@given(axes())
def test_tiles_start_at_multiples_of_the_stride_and_reach_from_end_to_end(drawn):
    axis, stride, margin, _, mirrored = drawn
    assert all(start % stride == 0 for start in (*axis.starts, axis.border))
    assert list(axis.starts) == sorted(set(axis.starts))
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.tile == axis.padded >= axis.border + axis.length
    assert axis.padded < max(axis.tile, axis.length + 2 * axis.border) + stride
    assert axis.border == (rounded_up(margin, stride) if mirrored and axis.tile < axis.length else 0)
    # As near to the margins as the grid allows, and never standing still.
    assert all(b - a <= max(stride, axis.tile - 2 * margin) for a, b in zip(axis.starts, axis.starts[1:], strict=False))


@given(axes())
def test_of_a_halo_only_what_is_farther_from_the_edge_than_the_margin_counts(drawn):
    axis, stride, margin, blending, mirrored = drawn
    if blending == "gaussian" or axis.tile - 2 * margin < stride:
        return
    for index in range(len(axis.starts)):
        low, high = axis.spans[index]
        assert set(axis.windows[index][low:high]) == {1}
        assert low >= margin or index == 0
        assert axis.tile - high >= margin or index == len(axis.starts) - 1
        if mirrored and axis.border:
            begin, end = axis.reach(index)
            inside = max(begin, axis.border), min(end, axis.border + axis.length)
            assert inside[0] - axis.starts[index] >= margin
            assert axis.starts[index] + axis.tile - inside[1] >= margin


@given(st.integers(1, 12), st.integers(0, 40), st.integers(0, 40))
def test_voxels_beyond_the_ends_are_mirrored_as_often_as_it_takes(length, before, after):
    (_, _, axis) = plan_tiles((1, 1, length), (1, 1, 4), (1, 1, 1), (0, 0, 1), blending="halo", mirrored=True).axes
    expected = np.pad(np.arange(length), (before, after), mode="symmetric")
    assert axis.source(axis.border - before, axis.border + length + after).tolist() == expected.tolist()


def test_a_gaussian_fades_with_a_quarter_of_the_side():
    (_, _, axis) = plan_tiles((1, 1, 12), (1, 1, 8), (1, 1, 1), (0, 0, 2), blending="gaussian", mirrored=False).axes
    assert axis.starts == (0, 4)
    bell = np.exp(-0.5 * ((np.arange(8) - 3.5) / 2) ** 2)
    assert axis.windows[0][:4] == pytest.approx([1] * 4)
    assert axis.windows[0][4:] == pytest.approx(bell[4:] / (bell[4:] + bell[:4]), rel=1e-5)


def test_without_a_margin_all_voxels_count_alike():
    (_, _, axis) = plan_tiles((1, 1, 10), (1, 1, 8), (1, 1, 1), (0, 0, 0), blending="gaussian", mirrored=True).axes
    assert axis.starts == (0, 2)
    assert axis.windows[0] == pytest.approx([1, 1, *[0.5] * 6])


def test_margins_are_half_of_what_is_shared():
    assert margins_of((8, 64, 65), 0.25) == (1, 8, 8)
    for overlap in (-0.1, 1.0):
        with pytest.raises(ConfigError, match="cannot overlap by"):
            margins_of((8, 8, 8), overlap)


SIDES = st.tuples(*[st.integers(1, 40)] * 3)


@given(SIDES, st.tuples(*[st.integers(1, 5)] * 3), st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 3))
def test_a_fitting_tile_is_a_multiple_of_the_stride_and_sticks_out_by_less_than_one(room, times, stride):
    wanted = [n * step for n, step in zip(times, stride, strict=True)]
    for side, whole, asked, step in zip(fitting_tile(room, wanted, stride), room, wanted, stride, strict=True):
        assert side % step == 0
        assert 0 < side <= asked
        assert side - whole < step
        assert side == asked or side >= whole
