"""Normalisation: percentiles of the training part become −1 and +1, whatever the dtype."""

import numpy as np
import pytest

from seglib.data.normalise import SAMPLES, Normalisation, measure
from seglib.errors import DataError


def test_percentiles_of_all_parts_together_become_minus_one_and_one():
    parts = [np.arange(600, dtype=np.uint16).reshape(1, 6, 10, 10), np.arange(600, 1001).reshape(1, 1, 1, 401)]
    found = measure(parts)
    assert found.low == pytest.approx((5.0,))  # 0.5 % of 0 … 1000
    assert found.high == pytest.approx((995.0,))
    applied = found.apply(np.array([[5, 500, 995]], np.uint16))
    assert applied.dtype == np.float32
    assert applied[0] == pytest.approx([-1, 0, 1])


def test_channels_are_normalised_by_themselves():
    image = np.stack([np.linspace(0, 1, 1000), np.linspace(100, 300, 1000)]).reshape(2, 10, 10, 10)
    applied = measure([image]).apply(image)
    assert applied[0] == pytest.approx(applied[1], abs=1e-5)


def test_values_far_out_are_clipped_and_the_image_is_left_alone():
    image = np.array([[0.0, 50.0, -50.0, 1.0]], np.float32)
    applied = Normalisation((0.0,), (1.0,)).apply(image)
    assert applied[0] == pytest.approx([-1, 3, -3, 1])
    assert image[0, 1] == 50.0


@pytest.mark.parametrize("value", [0, 7, 2**31, 2**32 - 1])
def test_a_constant_image_is_finite(value):
    image = np.full((1, 2, 3, 3), value, np.uint32)
    assert np.isfinite(measure([image]).apply(image)).all()


def test_voxels_that_are_no_numbers_do_not_count():
    image = np.linspace(0, 1, 1001, dtype=np.float32).reshape(1, 7, 11, 13)
    broken = image.copy()
    broken[0, 0, 0, ::2] = np.nan
    broken[0, 1, 0, :] = np.inf
    assert measure([broken]).high == pytest.approx(measure([image]).high, abs=0.02)


def test_a_channel_without_any_number_is_said_so():
    image = np.stack([np.zeros((2, 3, 3)), np.full((2, 3, 3), np.nan)])
    with pytest.raises(DataError, match="Channel 2 .*no finite grey value"):
        measure([image])


def test_a_large_image_is_sampled_from_all_its_columns():
    # 4 samples' worth of voxels, 8 columns: every fourth voxel would see two columns only.
    image = np.broadcast_to(np.arange(8, dtype=np.uint8), (1, 1, SAMPLES // 2, 8))
    found = measure([image])
    assert (found.low, found.high) == ((0.0,), (7.0,))
