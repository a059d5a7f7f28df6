"""Sizes: a patch has the shape of a cube in nanometres within the room there is, and levels end at a few voxels."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib.training.sizing import Needs, levels_of, shaped

SIDES = st.tuples(st.integers(1, 300), st.integers(1, 600), st.integers(1, 600))
VOXELS = st.tuples(*(st.floats(0.5, 500.0) for _ in range(3)))
STRIDES = st.sampled_from([(1, 1, 1), (2, 8, 8), (1, 16, 16), (8, 8, 8)])


def needs(room, voxel=(1.0, 1.0, 1.0)):
    return Needs(room=room, voxel_size_nm=voxel, voxels=math.prod(room), objects=None, inputs=1, classes=1)


@given(SIDES, VOXELS, STRIDES, st.integers(1, 10**8))
def test_a_patch_stays_in_the_room_and_in_its_number_of_voxels(room, voxel, stride, most):
    patch = shaped(most, needs(room, voxel), stride)
    assert not any(side % step for side, step in zip(patch, stride, strict=True))
    assert all(side <= max(step, whole) for side, step, whole in zip(patch, stride, room, strict=True))
    # Rounding to whole voxels and strides of at least one is all that may add to it.
    assert math.prod(max(1, side - step) for side, step in zip(patch, stride, strict=True)) <= most


@given(SIDES, VOXELS)
def test_with_voxels_enough_a_patch_is_all_there_is(room, voxel):
    patch = shaped(math.prod(room), needs(room, voxel), (1, 1, 1))
    assert patch == ((1, *room[1:]) if room[0] < 4 else room)


@pytest.mark.parametrize(
    ("room", "voxel", "most", "patch"),
    [
        ((200, 300, 300), (1, 1, 1), 64**3, (64, 64, 64)),
        ((200, 300, 300), (8, 1, 1), 8 * 64 * 64, (8, 64, 64)),
        # No depth left to take: as many voxels, wider.
        ((16, 300, 300), (1, 1, 1), 16 * 128 * 128, (16, 128, 128)),
        ((1, 300, 300), (1, 1, 1), 128 * 128, (1, 128, 128)),
        ((1, 64, 300), (1, 1, 1), 64 * 256, (1, 64, 256)),
    ],
)
def test_what_there_is_no_room_for_along_one_axis_is_taken_along_the_others(room, voxel, most, patch):
    assert shaped(most, needs(room, voxel), (1, 1, 1)) == patch


@pytest.mark.parametrize(
    ("patch", "voxel", "deepest_side", "levels"),
    [
        ((64, 64, 64), (1, 1, 1), 4, (5, 0)),
        ((128, 128, 128), (1, 1, 1), 4, (6, 0)),
        ((16, 128, 128), (8, 1, 1), 4, (6, 3)),
        ((16, 128, 128), (8, 1, 1), 8, (5, 3)),
        # Ten planes can be halved once only.
        ((10, 128, 128), (1, 1, 1), 8, (5, 3)),
        ((4, 8, 8), (1, 1, 1), 8, (2, 1)),
        ((1, 256, 256), (1, 1, 1), 4, (6, 0)),
    ],
)
def test_levels_end_at_a_few_voxels(patch, voxel, deepest_side, levels):
    room = tuple(2 * side if side > 1 else 1 for side in patch)
    assert levels_of(patch, needs(room, voxel), deepest_side) == levels
