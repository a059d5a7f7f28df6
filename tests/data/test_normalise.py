"""Normalisation: what the training part asks for, in every kind, whatever the dtype and wherever the image lies."""

import numpy as np
import pytest

from seglib.config import EncoderRangeConfig, FixedRangeConfig, MinMaxConfig, PercentileConfig, ZScoreConfig
from seglib.data.normalise import SAMPLES, between, channels_of, measure
from seglib.data.parts import RegionView
from seglib.data.splits import Region
from seglib.errors import DataError

PERCENTILES = PercentileConfig()


def test_percentiles_of_all_parts_together_become_minus_one_and_one():
    parts = [np.arange(600, dtype=np.uint16).reshape(1, 6, 10, 10), np.arange(600, 1001).reshape(1, 1, 1, 401)]
    applied = measure(parts, PERCENTILES).apply(np.array([[5, 500, 995]], np.uint16))  # 0.5 % of 0 … 1000
    assert applied.dtype == np.float32
    assert applied[0] == pytest.approx([-1, 0, 1])


def test_other_percentiles_can_be_asked_for():
    image = np.arange(1001, dtype=np.uint16).reshape(1, 7, 11, 13)
    applied = measure([image], PercentileConfig(low=10, high=60)).apply(np.array([[100, 600]], np.uint16))
    assert applied[0] == pytest.approx([-1, 1])


def test_z_scores_have_mean_zero_and_deviation_one():
    image = np.random.default_rng(0).normal(500, 40, (1, 10, 50, 50)).astype(np.float32)
    applied = measure([image], ZScoreConfig()).apply(image)
    assert applied.mean() == pytest.approx(0, abs=1e-4)
    assert applied.std() == pytest.approx(1, abs=1e-4)


def test_the_smallest_and_largest_value_are_found_wherever_they_are():
    image = np.full((1, 20, 600, 300), 100, np.uint16)  # more voxels than are sampled
    image[0, 13, 401, 7], image[0, 2, 3, 299] = 65_535, 3
    applied = measure([image], MinMaxConfig()).apply(np.array([[3, 65_535]], np.uint16))
    assert applied[0] == pytest.approx([-1, 1])


def test_a_fixed_range_asks_nothing_of_the_image():
    applied = measure([np.full((1, 2, 3, 3), 9, np.uint8)], FixedRangeConfig(low=10, high=30)).apply(
        np.array([[10, 20, 30, 255]], np.uint8)
    )
    assert applied[0] == pytest.approx([-1, 0, 1, 3])


def test_an_encoders_own_preprocessing_is_as_its_makers_give_it():
    """The mean and deviation are those of torchvision's classification weights."""
    from torchvision.transforms import functional

    grey = np.random.default_rng(1).integers(0, 256, (1, 1, 8, 9)).astype(np.uint8)
    grey[0, 0, 0, :2] = 0, 255
    found = measure([grey], EncoderRangeConfig(low=0, high=100)).apply(grey)
    import torch

    three = torch.from_numpy(grey[0].astype(np.float32) / 255).expand(3, -1, -1)
    wanted = functional.normalize(three, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]).numpy()
    assert found.shape == (3, 1, 8, 9)
    assert found[:, 0] == pytest.approx(wanted, abs=1e-5)
    assert channels_of(EncoderRangeConfig(), 1) == 3


def test_colour_images_keep_their_channels_for_an_encoder_and_others_are_refused():
    image = np.stack([np.linspace(0, top, 60).reshape(3, 4, 5) for top in (1, 2, 4)])
    found = measure([image], EncoderRangeConfig(statistics="half", low=0, high=100)).apply(image)
    assert found[0] == pytest.approx(found[2], abs=1e-5)
    assert (found.min(), found.max()) == pytest.approx((-1, 1))
    with pytest.raises(DataError, match="these have 2 channels"):
        measure([image[:2]], EncoderRangeConfig())


def test_channels_are_normalised_by_themselves():
    image = np.stack([np.linspace(0, 1, 1000), np.linspace(100, 300, 1000)]).reshape(2, 10, 10, 10)
    applied = measure([image], PERCENTILES).apply(image)
    assert applied[0] == pytest.approx(applied[1], abs=1e-5)


def test_values_far_out_are_clipped_and_the_image_is_left_alone():
    image = np.array([[0.0, 50.0, -50.0, 1.0]], np.float32)
    applied = between([0.0], [1.0]).apply(image)
    assert applied[0] == pytest.approx([-1, 3, -3, 1])
    assert image[0, 1] == 50.0


@pytest.mark.parametrize("config", [PERCENTILES, ZScoreConfig(), MinMaxConfig(), EncoderRangeConfig()])
@pytest.mark.parametrize("value", [0, 7, 2**31, 2**32 - 1])
def test_a_constant_image_is_finite(value, config):
    image = np.full((1, 2, 3, 3), value, np.uint32)
    assert np.isfinite(measure([image], config).apply(image)).all()


def test_large_integers_that_differ_by_little_stay_apart():
    image = (np.arange(100, dtype=np.uint32) + 2**31).reshape(1, 4, 5, 5)
    applied = measure([image], MinMaxConfig()).apply(image).ravel()
    assert applied == pytest.approx(np.linspace(-1, 1, 100), abs=1e-5)


@pytest.mark.parametrize("config", [PERCENTILES, MinMaxConfig()])
def test_voxels_that_are_no_numbers_do_not_count(config):
    image = np.linspace(0, 1, 1001, dtype=np.float32).reshape(1, 7, 11, 13)
    broken = image.copy()
    broken[0, 0, 0, ::2] = np.nan
    broken[0, 1, 0, :] = np.inf
    found, whole = measure([broken], config), measure([image], config)
    assert found.centre == pytest.approx(whole.centre, abs=0.02)
    assert found.scale == pytest.approx(whole.scale, abs=0.05)
    assert (found.apply(broken)[0, 0, 0, ::2] == -1).all()


@pytest.mark.parametrize("config", [PERCENTILES, MinMaxConfig(), ZScoreConfig()])
def test_a_channel_without_any_number_is_said_so(config):
    image = np.stack([np.zeros((2, 3, 3)), np.full((2, 3, 3), np.nan)])
    with pytest.raises(DataError, match="Channel 2 .*no finite grey value"):
        measure([image], config)


def test_a_large_image_is_sampled_from_all_its_columns():
    # 4 samples' worth of voxels, 8 columns: every fourth voxel would see two columns only.
    image = np.broadcast_to(np.arange(8, dtype=np.uint8), (1, 1, SAMPLES // 2, 8))
    assert measure([image], PERCENTILES) == between([0.0], [7.0])


def test_an_image_on_disk_is_sampled_all_over():
    """A ramp along each axis in turn: windows that missed a part of it would find other percentiles."""
    for axis in (1, 2, 3):
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        ramp = np.linspace(0, 10_000, (24, 900, 1000)[axis - 1]).astype(np.uint16).reshape(shape)
        image = np.broadcast_to(ramp, (1, 24, 900, 1000))
        view = RegionView(image, Region(0, (0, 0, 0), image.shape[1:]))
        applied = measure([view], PERCENTILES).apply(np.array([[0, 5_000, 10_000]], np.uint16))
        assert applied[0] == pytest.approx([-1, 0, 1], abs=0.1)
