"""Grey values of patches: each variation does what it is called, as far as it may, and leaves the rest alone."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from seglib.config import EMAugmentationConfig
from seglib.data.augment_grey import vary_grey
from tests.data.test_augment import NEVER

TEXTURE = np.random.default_rng(0).normal(0, 0.4, (2, 6, 20, 24)).astype(np.float32)


def varied(image=TEXTURE, count=40, seed=0, **changes):
    """That many variations of an image (C, Z, Y, X), in which only what is named happens, every time."""
    config = EMAugmentationConfig(**{**NEVER, **changes})
    images = torch.from_numpy(image.copy())[None].repeat(count, 1, 1, 1, 1)
    return vary_grey(images, config, np.random.default_rng(seed)).numpy()


def test_where_nothing_fires_images_stay_as_they_are():
    assert np.array_equal(varied(count=1)[0], TEXTURE)


def test_brightness_adds_one_number():
    added = varied(brightness=1.0, brightness_by=0.3) - TEXTURE
    assert np.ptp(added.reshape(40, -1), axis=1).max() < 1e-5
    amounts = added[:, 0, 0, 0, 0]
    assert np.abs(amounts).max() <= 0.3
    assert amounts.min() < -0.2 < 0.2 < amounts.max()


def test_contrast_spreads_about_the_mean_of_each_channel():
    image = TEXTURE + np.array([1.0, -1.0], np.float32)[:, None, None, None]
    found = varied(image, contrast=1.0, contrast_by=0.4)
    mean = image.mean((1, 2, 3), keepdims=True)
    assert found.mean((2, 3, 4)) == pytest.approx(np.broadcast_to(mean[:, 0, 0, 0], (40, 2)), abs=1e-5)
    factors = found.std((2, 3, 4)) / image.std((1, 2, 3))
    assert factors[:, 0] == pytest.approx(factors[:, 1], abs=1e-4)
    assert 0.599 <= factors.min() < 0.75
    assert 1.25 < factors.max() <= 1.401


def test_gamma_bends_middle_tones_and_keeps_the_ends():
    found = varied(gamma=1.0, gamma_by=0.5)
    low, high = TEXTURE.min(), TEXTURE.max()
    exponents = []
    for image in found:
        assert (image.min(), image.max()) == pytest.approx((low, high), abs=1e-5)
        inside = np.abs(TEXTURE - (low + high) / 2) < (high - low) / 2 - 0.1
        share = (TEXTURE - low) / (high - low)
        bent = np.log((image - low)[inside] / (high - low)) / np.log(share[inside])
        assert np.ptp(bent) < 1e-3
        exponents.append(bent.mean())
    assert 1 / 1.5 - 1e-3 <= min(exponents) < 0.8
    assert 1.25 < max(exponents) <= 1.501


def test_noise_is_normal_of_a_deviation_up_to_the_limit_and_new_in_every_voxel():
    added = varied(noise=1.0, noise_by=0.2) - TEXTURE
    deviations = added.std((1, 2, 3, 4))
    assert 0.01 < deviations.min() < 0.06
    assert 0.15 < deviations.max() <= 0.21
    assert np.abs(added.mean((1, 2, 3, 4)) / deviations).max() < 0.1
    first = added[0].ravel() / deviations[0]
    assert np.mean(np.abs(first) > 1.96) == pytest.approx(0.05, abs=0.015)
    assert abs(np.corrcoef(added[0].ravel(), added[1].ravel())[0, 1]) < 0.1
    assert np.array_equal(varied(noise=1.0, seed=4), varied(noise=1.0, seed=4))


def test_blur_is_scipys_gaussian_in_every_plane():
    dot = np.zeros((1, 3, 41, 41), np.float32)
    dot[0, 1, 20, 20] = 1
    config = {"blur": 1.0, "blur_by": 2.0}
    sigmas = []
    for seed in range(8):
        (spread,) = varied(dot, count=1, seed=seed, **config)
        assert np.abs(spread[0, [0, 2]]).max() == 0
        taps = spread[0, 1, 20, 20:] / spread[0, 1, 20, 20]
        sigma = np.sqrt(-0.5 / np.log(taps[1]))  # of a Gaussian, by its first two values
        sigmas.append(sigma)
        (found,) = varied(count=1, seed=seed, **config)
        wanted = ndimage.gaussian_filter(TEXTURE, (0, 0, sigma, sigma), mode="mirror", radius=int(np.ceil(3 * sigma)))
        assert found == pytest.approx(wanted, abs=1e-4)
    assert 0.3 < min(sigmas) < max(sigmas) <= 2.001


def test_missing_sections_are_whole_planes_of_one_grey_and_never_all():
    found = varied(missing=1.0, missing_most=3)
    counts = set()
    for image in found:
        changed = (image != TEXTURE).any((0, 2, 3))
        counts.add(int(changed.sum()))
        for channel, before in zip(image, TEXTURE, strict=True):
            levels = channel[changed].reshape(int(changed.sum()), -1)
            assert np.ptp(levels) == 0
            assert levels[0, 0] == pytest.approx(before.min(), abs=1e-5) or levels[0, 0] == pytest.approx(
                before.mean(), abs=1e-5
            )
    assert counts == {1, 2, 3}
    assert np.array_equal(varied(TEXTURE[:, :1], missing=1.0, missing_most=3)[0], TEXTURE[:, :1])
    assert (varied(TEXTURE[:, :2], missing=1.0, missing_most=9) == TEXTURE[:, :2]).all((1, 3, 4)).any(1).all()


def test_motion_blur_smears_one_or_two_planes_along_a_line():
    dots = np.zeros((1, 5, 31, 31), np.float32)
    dots[0, :, 15, 15] = 1
    lengths = set()
    for image in varied(dots, motion=1.0, motion_length=9):
        changed = np.flatnonzero((image != dots).any((0, 2, 3)))
        assert 1 <= len(changed) <= 2
        for z in changed:
            y, x = np.nonzero(image[0, z])
            assert image[0, z].sum() == pytest.approx(1)
            lengths.add(len(y))
            # The middle is on the line, and every place is within half a voxel of it.
            direction = np.linalg.svd(np.stack([y - 15, x - 15], 1).astype(float))[2][0]
            off = np.abs((y - 15) * direction[1] - (x - 15) * direction[0])
            assert off.max() <= 0.8
            assert np.hypot(y - 15, x - 15).max() <= 4.7
    assert max(lengths) == 9
    assert min(lengths) == 3


def test_cut_out_fills_a_box_with_the_mean():
    sides = []
    for image in varied(cutout=1.0, cutout_share=0.5):
        changed = (image != TEXTURE).any(0)
        box = ndimage.find_objects(changed.astype(int))[0]
        assert changed[box].all()
        assert changed.sum() == changed[box].size
        for channel, before in zip(image, TEXTURE, strict=True):
            assert channel[box] == pytest.approx(before.mean(), abs=1e-5)
        sides.append(changed[box].shape)
    assert np.max(sides, axis=0).tolist() <= [3, 10, 12]
    assert np.max(sides, axis=0)[1] >= 8
    assert np.min(sides, axis=0)[1] <= 4


def test_images_that_small_blurs_cannot_widen_are_left():
    tiny = np.ones((1, 1, 1, 1), np.float32)
    found = varied(tiny, count=2, blur=1.0, motion=1.0, cutout=1.0, missing=1.0)
    assert np.isfinite(found).all()
