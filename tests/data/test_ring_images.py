"""Ring images: rings of the size asked for, labelled where they are bright, the same for a seed."""

import numpy as np
import pytest

from seglib.config.synthetic import RingImagesConfig
from seglib.data.ring_images import ring_sample

CLEAN = RingImagesConfig(noise=0.0)


def test_rings_are_hollow_and_of_the_diameter_asked_for():
    widths, hollow = [], 0
    for index in range(5):
        image, ids = ring_sample(CLEAN, seed=111, index=index)
        assert image.shape == ids.shape == (1, 128, 128)
        for number in range(1, int(ids.max()) + 1):
            y, x = np.nonzero(ids[0] == number)
            if not y.size or min(y.min(), x.min()) < 1 or max(y.max(), x.max()) > 126:
                continue  # cut by the edge of the image
            widths.append((np.ptp(y) + np.ptp(x)) / 2 + 1)
            middle = round(y.mean()), round(x.mean())
            hollow += ids[0][middle] == 0 and image[0][middle] < 0.1
    assert np.mean(widths) == pytest.approx(10, abs=1.5)
    assert hollow > 0.9 * len(widths) > 50


def test_labels_are_what_is_brighter_than_the_threshold_without_noise():
    image, ids = ring_sample(CLEAN, seed=0)
    # Where rims add up, the sum may pass the threshold and none of them does.
    assert ((image > 0.3) == (ids > 0)).mean() > 0.98
    assert (image[ids > 0] > 0.3).all()


def test_a_sample_follows_from_seed_and_index():
    config = RingImagesConfig()
    assert np.array_equal(ring_sample(config, seed=0)[0], ring_sample(config, seed=0)[0])
    assert not np.array_equal(ring_sample(config, seed=0)[0], ring_sample(config, seed=0, index=1)[0])
    noisy = ring_sample(config, seed=3)[0] - ring_sample(CLEAN, seed=3)[0]
    assert noisy.std() == pytest.approx(0.1, rel=0.05)


def test_sizes_can_be_chosen():
    image, ids = ring_sample(RingImagesConfig(side=64, diameter=30), seed=1)
    assert image.shape == (1, 64, 64)
    assert 1 <= ids.max() <= 4
