"""Pyramids: every level holds what it should, whatever the sizes, and nothing is held longer than needed."""

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib.data.pyramids import SMALLEST_PLANE, LayerWriter, halve, layer_writer, levels_of


def written(tmp_path, data, slabs, *, voxel=(1.0, 1.0, 1.0), average=True):
    """The levels of `data` (C, Z, Y, X) or (Z, Y, X), written in slabs of the thicknesses given."""
    levels = levels_of(data.shape[-3:], voxel)
    group = zarr.create_group(str(tmp_path), overwrite=True)
    channels = data.shape[0] if data.ndim == 4 else 0
    start = 0
    with layer_writer(group, levels, channels=channels, dtype=data.dtype, average=average) as writer:
        for thick in slabs:
            writer.write(data[..., start : start + thick, :, :].copy())
            start += thick
    assert start == data.shape[-3]
    return levels, [np.asarray(group[str(index)][:]) for index in range(len(levels))]


def test_a_small_plane_has_one_level_and_a_large_one_is_halved_until_it_is_small():
    assert [level.shape_zyx for level in levels_of((9, 512, 100), (1, 1, 1))] == [(9, 512, 100)]
    shapes = [level.shape_zyx for level in levels_of((100, 2049, 1000), (1, 1, 1))]
    assert shapes == [(100, 2049, 1000), (50, 1025, 500), (25, 513, 250), (13, 257, 125)]


def test_planes_are_merged_only_once_voxels_are_as_wide_as_they_are_deep():
    factors = [level.factors for level in levels_of((64, 4096, 4096), (40.0, 10.0, 10.0))]
    # 40 nm deep: rows and columns are 10, 20, 40 nm before planes are merged too.
    assert factors == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]


@pytest.mark.parametrize("slabs", [[11], [1] * 11, [4, 4, 3], [2, 9], [5, 1, 5]])
def test_levels_are_means_of_the_blocks_they_cover_however_the_planes_come(tmp_path, slabs):
    data = np.random.default_rng(0).random((2, 11, 1030, 514)).astype(np.float32)
    levels, arrays = written(tmp_path, data, slabs)
    np.testing.assert_array_equal(arrays[0], data)
    assert [array.shape[1:] for array in arrays] == [level.shape_zyx for level in levels]
    assert levels[1].factors == (2, 2, 2)
    whole = data[:, :10, :, :].reshape(2, 5, 2, 515, 2, 257, 2).mean((2, 4, 6))
    np.testing.assert_allclose(arrays[1][:, :5], whole, rtol=1e-5)
    # The odd last plane has no partner.
    np.testing.assert_allclose(arrays[1][:, 5], data[:, 10].reshape(2, 515, 2, 257, 2).mean((2, 4)), rtol=1e-5)


def test_label_levels_hold_only_values_that_are_there(tmp_path):
    data = (np.random.default_rng(1).integers(0, 2, (6, 700, 600)) * 70_001).astype(np.uint32)
    _, arrays = written(tmp_path, data, [4, 2], average=False)
    np.testing.assert_array_equal(arrays[1], data[::2, ::2, ::2])


def test_what_a_level_gets_wrong_is_raised_and_threads_end(tmp_path):
    levels = levels_of((40, 8, 8), (1, 1, 1))
    group = zarr.create_group(str(tmp_path))
    with (
        pytest.raises(ValueError, match="planned"),
        layer_writer(group, levels, channels=0, dtype=np.uint8, average=True) as writer,
    ):
        writer.write(np.zeros((4, 8, 8), np.uint8))
        raise ValueError("planned")


def test_a_thick_stack_never_holds_more_than_a_few_slabs(tmp_path):
    levels = levels_of((64, 520, 520), (1, 1, 1))
    writer = LayerWriter(zarr.create_group(str(tmp_path)), levels, channels=0, dtype=np.uint8, average=True)
    for _ in range(16):
        writer.write(np.zeros((4, 520, 520), np.uint8))
        held = sum(planes.nbytes for planes in writer._carried if planes is not None)
        assert held <= 4 * 520 * 520
        assert len(writer._pending) <= 4
    writer.close()


@settings(deadline=None)
@given(
    values=st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=9),
    dtype=st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]),
    axis=st.sampled_from([-1, -2]),
)
def test_halves_of_whole_numbers_are_exact_at_every_limit(values, dtype, axis):
    info = np.iinfo(dtype)
    numbers = [int(value) % (int(info.max) - int(info.min) + 1) + int(info.min) for value in values]
    shape = (1, len(numbers)) if axis == -1 else (len(numbers), 1)
    found = halve(np.array(numbers, dtype).reshape(shape), axis)
    pairs = [(numbers[i], numbers[min(i + 1, len(numbers) - 1)]) for i in range(0, len(numbers), 2)]
    expected = [(a + b + (axis == -2)) // 2 for a, b in pairs]
    assert found.ravel().tolist() == expected
    assert found.dtype == dtype
    assert SMALLEST_PLANE == 512
