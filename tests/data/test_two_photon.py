"""Rendering: points where they are, a plateau, photon noise that grows as shot noise does."""

import numpy as np
import pytest

import seglib.data.two_photon
from seglib.config.synthetic import OpticLobeConfig
from seglib.data.two_photon import render

QUIET = OpticLobeConfig(shape=(32, 40, 48), noise=0.0)


def rendered(places, brightness=None, config=QUIET, seed=0):
    places = np.array(places, float)
    return render(
        places, np.ones(len(places)) if brightness is None else brightness, config, np.random.default_rng(seed)
    )


@pytest.fixture
def many_photons(monkeypatch):
    """So that what is left is the signal."""
    monkeypatch.setattr(seglib.data.two_photon, "PHOTONS", (1e6, 1e6))


@pytest.mark.usefixtures("many_photons")
def test_a_point_is_a_box_of_two_voxels_with_haze_around():
    image = rendered([[0.5, 0.5, 0.25]])
    bright = np.argwhere(image > 0.5)
    assert sorted({tuple(place) for place in bright.tolist()}) == [
        (z, y, x) for z in (16, 17) for y in (20, 21) for x in (12, 13)
    ]
    assert image[image > 0.5] == pytest.approx(1, abs=0.01)
    near, far = image[16, 20, 17], image[16, 20, 40]
    assert 0.0001 < near < 0.0025
    assert far < 0.01 * near


@pytest.mark.usefixtures("many_photons")
def test_ten_percent_of_the_brightest_is_as_bright_as_it_gets():
    places = [[0.2, 0.2, 0.2]] * 1000 + [[0.8, 0.8, 0.8]] * 200 + [[0.2, 0.8, 0.2]] * 50
    image = rendered(places)
    values = [image[int(z * 32), int(y * 40), int(x * 48)] for z, y, x in ((0.2,) * 3, (0.8,) * 3, (0.2, 0.8, 0.2))]
    haze = 1000 * 0.0025
    assert 1 <= values[0] <= 1 + haze
    assert 1 <= values[1] <= 1 + 0.2 * haze
    assert 0.5**1 - 0.01 <= values[2] <= 0.5**0.7 + 0.05 * haze


def test_photon_noise_has_the_variance_of_its_mean(monkeypatch):
    monkeypatch.setattr(seglib.data.two_photon, "PHOTONS", (20.0, 20.0))
    monkeypatch.setattr(seglib.data.two_photon, "HAZE", (0.0, 0.0))
    places = np.stack(np.meshgrid(*[(np.arange(side) + 0.5) / side for side in QUIET.shape], indexing="ij"), -1)
    image = rendered(places.reshape(-1, 3))[2:, 2:, 2:]
    assert image.mean() / 20 == pytest.approx(image.var(), rel=0.1)


def test_points_outside_are_left_out_and_none_at_all_is_an_image_too():
    assert np.abs(rendered([[1.2, 0.5, 0.5], [-0.1, 0.5, 0.5]])).max() < 0.5
    assert np.isfinite(rendered(np.zeros((0, 3)))).all()


def test_camera_noise_is_as_strong_as_asked():
    noisy = rendered(np.zeros((0, 3)), config=OpticLobeConfig(shape=(32, 32, 32), noise=0.2))
    assert noisy.std() == pytest.approx(0.2, rel=0.05)
